"""What another sound changes outside the region that speech truly moves: how well speech is disentangled.

Only sample heads know that region.
"""

from __future__ import annotations

import numpy as np

from nerfad.data.dataset import Dataset
from nerfad.data.face_crops import FaceCrops
from nerfad.engine.evaluation_sources import AvatarSource
from nerfad.engine.judge_attention import true_region
from nerfad.errors import DatasetError

N_FRAMES = 24
CROP_SIZE = 128


def swapped_sound(run: AvatarSource, n_frames: int = N_FRAMES) -> dict[str, float]:
    """Mean absolute change of rendered pixels (0..1), inside and outside the true speech region.

    Evenly spread held-out frames are drawn with their own sound and with that of a moment half the held-out
    stretch away. The region holds every pixel, seen upright, that speech moves in any frame whose truth was
    kept; the outside is the rest of the picture.

    Raises:
        DatasetError: the data set has no exact masks.
    """
    data = run.dataset
    crops = FaceCrops(data, CROP_SIZE)
    often = true_region(data, crops)
    if often is None:
        raise DatasetError(f"{data.root}: has no exact masks of what speech moves; use a sample head.")
    test = run.positions
    chosen = np.linspace(0, len(test) - 1, min(n_frames, len(test))).astype(int)
    changes: dict[str, list[float]] = {"swap_outside": [], "swap_inside": []}
    for k in chosen:
        position, other = int(test[k]), int(test[(k + len(test) // 2) % len(test)])
        if not crops.has_face(position):
            continue
        pictures = [run.with_sound_of(position, sound).astype(np.float32) for sound in (position, other)]
        change = np.abs(pictures[0] - pictures[1]).mean(2) / 255
        inside = speech_region(data, crops, position, often)
        changes["swap_inside"].append(float(change[inside].mean()))
        changes["swap_outside"].append(float(change[~inside].mean()))
    return {name: float(np.mean(values)) for name, values in changes.items()}


def speech_region(data: Dataset, crops: FaceCrops, position: int, often: np.ndarray) -> np.ndarray:
    """Pixels of a frame, bool [H, W], that `true_region` says speech moves at all."""
    blank = np.zeros((data.height, data.width), np.float32)
    return crops.to_frame(position, (often > 0).astype(np.float32), blank) > 0
