"""Does an edited action unit show in the face? `python -m nerfad.engine.judge_au_control RUN`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerfad.engine.au_control import UnitEdit, edited_codes, own_dataset, unit_directions
from nerfad.engine.evaluation_sources import dataset_sound
from nerfad.engine.render import Avatar
from nerfad.errors import in_one_sentence
from nerfad.features.face_reader import open_reader

VALUES = (0.0, 0.25, 0.5, 0.75, 1.0)
N_FRAMES = 8


def judge_au_control(
    run: str | Path,
    unit: str = "AU25",
    values: Sequence[float] = VALUES,
    n_frames: int = N_FRAMES,
    dataset: str | Path | None = None,
    models: str | Path | None = None,
) -> dict[str, Any]:
    """Mean lip gap of held-out frames whose sound is edited to each value of a unit.

    The gap is the distance of the inner lips over that of the outer eye corners, read in rendered frames;
    frames in which no face is found do not count.

    Args:
        dataset: where the data set of the run lies, if it moved.
        models: folder of the landmarker, if not in the cache.

    Returns:
        "speech": the gap without an edit; "edited": the gap at each value; "real": that of the real frames.

    Raises:
        CheckpointError, DatasetError, InputFileError: as `nerfad.engine.au_control.unit_directions`.
        ModelNotFoundError: there is no landmarker.
    """
    avatar = Avatar.load(run)
    data = own_dataset(avatar, dataset, avatar.camera.height)
    reader = open_reader(data.reader, models, data)
    directions = unit_directions(avatar, [UnitEdit(unit, 1.0, 0.0, 1.0)], dataset)
    sound = avatar.conditions(dataset_sound(data), frame_times=data.frame_times, segments=data.segments)
    _, held_out = data.split(avatar.voice.lookback_s, avatar.voice.lookahead_s)
    frames = held_out[np.linspace(0, len(held_out) - 1, min(n_frames, len(held_out))).astype(int)]
    middle = np.full(len(frames), 0.5)

    def gap(pictures: Sequence[np.ndarray]) -> float:
        found = [face.lip_gap for face in map(reader.read, pictures) if face is not None]
        return float(np.mean(found)) if found else float("nan")

    def drawn(value: float | None) -> list[np.ndarray]:
        cond, n = sound[frames], avatar.voice.n_codes
        if value is not None:
            edits = [UnitEdit(unit, value, 0.0, 1.0)]  # holds fully at 0.5 s
            cond[:, :n] = edited_codes(directions, cond[:, :n], middle, edits)
        body = np.zeros((len(data), 4), np.float32) if data.body is None else data.body
        return [
            avatar.render(data.c2w[p], row, body[p], surface_depth=False).image
            for p, row in zip(frames, cond, strict=True)
        ]

    return {
        "unit": unit,
        "frames": len(frames),
        "real": gap([data.image(int(p)) for p in frames]),
        "speech": gap(drawn(None)),
        "edited": {f"{value:g}": gap(drawn(value)) for value in values},
    }


@in_one_sentence()
def main() -> None:
    """Print the gaps of a run as JSON."""
    parser = argparse.ArgumentParser(description="Measure how far an edited action unit opens the lips.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--unit", default="AU25")
    parser.add_argument("--frames", type=int, default=N_FRAMES)
    parser.add_argument("--dataset", type=Path, help="where the data set lies, if it moved")
    parser.add_argument("--models", type=Path, help="folder of the landmarker")
    given = parser.parse_args()
    result = judge_au_control(
        given.run, given.unit, n_frames=given.frames, dataset=given.dataset, models=given.models
    )
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
