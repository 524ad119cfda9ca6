"""Folder layouts: each is recognised by its files and read into a `Dataset` in our own conventions."""

from __future__ import annotations

from pathlib import Path

from nerfad.data.dataset import Dataset
from nerfad.data.formats import adnerf, dfrf, foreign, own, radnerf
from nerfad.data.formats.layout import Layout
from nerfad.data.writer import read_manifest
from nerfad.errors import DatasetError


def find_layout(root: Path) -> Layout:
    """The layout of a folder, told from the files in it."""
    if read_manifest(root) is not None:
        return own.LAYOUT
    if (root / ".preprocess").is_dir():
        raise DatasetError(
            f"{root}: preprocessing was interrupted; run `nerfad preprocess VIDEO {root}` again, it resumes."
        )
    if not (root / "transforms_train.json").is_file():
        raise DatasetError(
            f"{root}: is not a finished data set (no transforms_train.json); make it with "
            f"`nerfad preprocess VIDEO {root}`, or finish its preparation."
        )
    for candidate in (radnerf, dfrf, adnerf):
        layout = candidate.layout(root)
        if layout is not None:
            return layout
    raise DatasetError(
        f"{root}: is of no known layout (no manifest.json of ours, no gt_imgs, com_imgs or head_imgs); see "
        "docs/data.md."
    )


def read(root: Path) -> Dataset:
    """Open a folder of any layout."""
    layout = find_layout(root)
    return own.read(root) if layout is own.LAYOUT else foreign.read(root, layout)
