"""One module per folder layout; each turns a folder into a `Dataset` in the package's own conventions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nerfad.data.dataset import Dataset
from nerfad.data.formats import own
from nerfad.data.writer import read_manifest
from nerfad.errors import DatasetError


def find_format(root: Path) -> Callable[[Path], Dataset]:
    """The reader for a folder, told from the files in it."""
    if read_manifest(root) is not None:
        return own.read
    raise DatasetError(
        f"{root}: is not a finished data set; run `nerfad preprocess VIDEO {root}` (again: it resumes)."
    )
