"""OpenMP's threads stay on their cores, as in `python -m nerfad.bench`; set before torch loads it."""

import os

from nerfad.bench.__main__ import PINNING

for name, value in PINNING.items():
    os.environ.setdefault(name, value)
