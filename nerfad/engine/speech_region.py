"""The part of the box that the attention says speech moves: outside of it the field hears none."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from nerfad.data.dataset import Dataset
from nerfad.data.face_crops import FaceCrops

MOVED_SHARE = 0.1
"""Of the largest 1 - A of a person: what moves as much as this belongs to the region."""
REACH = 1 / 16
"""By this share of the crop's side the region is widened: the mask ends where motion is small, not where it
ends, and a little outside there is nothing to hear.
"""
N_VIEWS = 24


def moved_region(mask: Tensor) -> Tensor:
    """The region in an upright crop, bool [s, s], from the one A [1, 1, s, s] of a person."""
    moved = 1 - mask
    inside = (moved >= MOVED_SHARE * moved.max().clamp_min(1e-6)).float()
    # Specks of a few pixels go first, so that the border does not grow from them.
    inside = max_pool2d(1 - max_pool2d(1 - inside, 3, 1, 1), 3, 1, 1)
    reach = round(REACH * mask.shape[-1])
    return max_pool2d(inside, 2 * reach + 1, 1, reach)[0, 0] > 0


def stillness(points: Tensor, mask: Tensor, dataset: Dataset, frames: np.ndarray, c2w: Tensor) -> Tensor:
    """How still speech leaves points [m, 3] of the box: 0 where most views see them in the region, else 1.

    Args:
        mask: the one A [1, 1, s, s] of the person.
        frames: positions of the training frames, of which some with a face are looked at.
        c2w: [n, 4, 4] in box units, of the training frames.
    """
    region = moved_region(mask.cpu()).numpy()
    crops = FaceCrops(dataset, len(region))
    with_face = [k for k, frame in enumerate(frames) if crops.has_face(int(frame))]
    chosen = with_face[:: max(1, len(with_face) // N_VIEWS)]
    hits = np.zeros(len(points))
    for k in chosen:
        pixels = dataset.camera.project(c2w[k], points).cpu().numpy()
        at = np.floor(crops.points_in_crop(int(frames[k]), pixels + 0.5)).clip(-1, len(region)).astype(int)
        within = ((at >= 0) & (at < len(region))).all(1)
        column, row = at.clip(0, len(region) - 1).T
        hits += within & region[row, column]
    return torch.from_numpy((hits < 0.5 * max(1, len(chosen))).astype(np.float32)).to(points.device)
