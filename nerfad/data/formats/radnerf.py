"""RAD-NeRF and ER-NeRF folders.

Rays pass through pixel centres. Their loaders turn poses into a box of their own: rows reordered (1, 2,
0), columns 1 and 2 negated, translation times 4. Reordering rows only renames the world's axes and
negating columns is the step from OpenGL to OpenCV cameras, so here the axes stay as they are in the file
and only the scale is applied; their box, x and z within 1 and y within 0.5, is ours with the depth as
third axis.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerfad.data.formats.layout import Layout

AABB = np.array([-1.0, -1.0, -0.5, 1.0, 1.0, 0.5], np.float32)
NEAR = 0.05


def layout(root: Path) -> Layout | None:
    """The layout, if the folder has it. ER-NeRF's differs by its table of action units."""
    if not (root / "gt_imgs").is_dir():
        return None
    return Layout(
        name="ernerf" if (root / "au.csv").is_file() else "radnerf",
        image_pattern="gt_imgs/{}.jpg",
        torso_pattern="torso_imgs/{}.png",
        pixel_offset=0.5,
    )
