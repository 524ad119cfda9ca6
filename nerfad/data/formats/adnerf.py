"""AD-NeRF folders: rays pass through pixel corners, and the head lies between two depths.

The tracker and its units are those of RAD-NeRF, so poses take the same scale and the head fits the same
box. AD-NeRF's sampler compares the first number of a rectangle with rows; in the files it is the column,
and is read as such here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerfad.data.formats.layout import Layout
from nerfad.data.writer import SCENE_SCALE


def layout(root: Path) -> Layout | None:
    """The layout, if the folder has it."""
    folder = next((name for name in ("com_imgs", "head_imgs") if (root / name).is_dir()), None)
    if folder is None:
        return None
    return Layout(name="adnerf", image_pattern=folder + "/{}.jpg", torso_pattern=None, pixel_offset=0.0)


def near_far(c2w: np.ndarray) -> tuple[float, float]:
    """Depths in scene units between which the head lies: mean depth - 0.2 and + 0.4 of the file's units."""
    depth = float(c2w[:, 2, 3].mean())
    return depth - 0.2 * SCENE_SCALE, depth + 0.4 * SCENE_SCALE
