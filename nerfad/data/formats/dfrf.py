"""DFRF folders: AD-NeRF's, with the torso as JPEG pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nerfad.data.formats import adnerf
from nerfad.data.formats.layout import Layout


def layout(root: Path) -> Layout | None:
    """The layout, if the folder has it."""
    base = adnerf.layout(root)
    if base is None or next((root / "torso_imgs").glob("*.jpg"), None) is None:
        return None
    return replace(base, name="dfrf", torso_pattern="torso_imgs/{}.jpg")
