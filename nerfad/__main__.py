"""`python -m nerfad` is the `nerfad` command."""

from nerfad.cli.main import main

main()
