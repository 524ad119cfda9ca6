"""What another sound changes: how well speech is disentangled.

`swapped_sound` measures it outside the region that speech truly moves, which only sample heads know;
`python -m nerfad.engine.swapped_sound RUN --out PICTURE` shows it of any run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from nerfad.data.dataset import Dataset
from nerfad.data.face_crops import FaceCrops
from nerfad.data.ground_truth import knows_speech_region
from nerfad.engine.evaluation_sources import AvatarSource
from nerfad.engine.judge_attention import true_region
from nerfad.errors import DatasetError, in_one_sentence
from nerfad.io.images import save_image

N_FRAMES = 24
CROP_SIZE = 128
GAIN = 32
"""Changes are shown as many times as strong: one step of 8 bits is dark grey, eight are white."""


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
    changes: dict[str, list[float]] = {"swap_outside": [], "swap_inside": []}
    for position, other in moments(run, n_frames):
        if not crops.has_face(position):
            continue
        pictures = [run.with_sound_of(position, sound).astype(np.float32) for sound in (position, other)]
        change = np.abs(pictures[0] - pictures[1]).mean(2) / 255
        inside = speech_region(data, crops, position, often)
        changes["swap_inside"].append(float(change[inside].mean()))
        changes["swap_outside"].append(float(change[~inside].mean()))
    return {name: float(np.mean(values)) for name, values in changes.items()}


def moments(run: AvatarSource, n_frames: int) -> list[tuple[int, int]]:
    """Evenly spread held-out frames, each with the one half the held-out stretch away."""
    test = run.positions
    chosen = np.linspace(0, len(test) - 1, min(n_frames, len(test))).astype(int)
    return [(int(test[k]), int(test[(k + len(test) // 2) % len(test)])) for k in chosen]


def swap_picture(run: AvatarSource, n_frames: int = 3) -> np.ndarray:
    """A row for each frame, uint8 [n H, 3 W, 3]: with its own sound, with another moment's, and `GAIN` times
    the change."""
    rows = []
    for position, other in moments(run, n_frames):
        own, swapped = (run.with_sound_of(position, sound) for sound in (position, other))
        change = np.abs(own.astype(int) - swapped.astype(int)).max(2, keepdims=True) * GAIN
        grey = np.broadcast_to(change.clip(0, 255).astype(np.uint8), own.shape)
        rows.append(np.concatenate([own, swapped, grey], 1))
    return np.concatenate(rows)


def speech_region(data: Dataset, crops: FaceCrops, position: int, often: np.ndarray) -> np.ndarray:
    """Pixels of a frame, bool [H, W], that `true_region` says speech moves at all."""
    blank = np.zeros((data.height, data.width), np.float32)
    return crops.to_frame(position, (often > 0).astype(np.float32), blank) > 0


@in_one_sentence()
def main() -> None:
    """Write the picture of a run, and print its figures where they can be measured."""
    parser = argparse.ArgumentParser(description="Show what another sound changes in the rendered head.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the picture to write")
    parser.add_argument("--frames", type=int, default=3, help="held-out frames that are shown")
    parser.add_argument("--dataset", type=Path, help="where the data set lies, if it moved")
    given = parser.parse_args()
    source = AvatarSource.open(given.run, given.dataset)
    save_image(given.out, swap_picture(source, given.frames))
    if knows_speech_region(source.dataset.root):
        print(json.dumps(swapped_sound(source), indent=1))


if __name__ == "__main__":
    main()
