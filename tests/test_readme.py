"""What the README shows must run."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_of_the_kernels_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["colors"].shape == (64, 3)
    assert names["table"].grad.abs().sum() > 0 and names["cond"].grad.abs().sum() > 0


def test_every_command_of_the_readme_exists():
    shell = "".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))
    commands = set(re.findall(r"^nerfad (\w+)", shell, re.MULTILINE))
    assert {"preprocess", "doctor", "train", "render", "evaluate"} <= commands
    help_text = subprocess.run(
        [sys.executable, "-m", "nerfad", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(command in help_text for command in commands)


def test_every_document_it_names_exists():
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / target).is_file(), target
