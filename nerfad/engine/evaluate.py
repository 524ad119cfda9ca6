"""Scores a trained avatar, or anyone's video, on frames that training has never seen.

What evaluation may know of the frames to be rendered: the head pose, and the torso and background that
the head is composited over, both named under `protocol` in the results. Sound drives the rest. The
definitions of all scores are in docs/metrics.md.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import math
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerfad.data.dataset import Dataset
from nerfad.engine import summary as summing
from nerfad.engine.comparison import side_by_side, sound_of, strip
from nerfad.engine.evaluation_sources import AvatarSource, Source, SourceFrame, VideoSource
from nerfad.engine.other_sound import OtherSound, OwnFrame, other_sound
from nerfad.engine.scoring import LANDMARK_METRICS, PICTURE_METRICS, FrameScore, FrameScorer
from nerfad.engine.summary import Summary
from nerfad.errors import ModelNotFoundError, NerfadError
from nerfad.features.face_reader import FaceReader, open_reader
from nerfad.io.atomic import atomic_write, check_folder_target
from nerfad.io.images import save_image
from nerfad.io.video import write_video
from nerfad.metrics.unavailable import Unavailable
from nerfad.progress import Progress, report

N_STRIP = 6
TORSOS = ("frame", "learnt")
PACKAGES = ("nerfad", "torch", "numpy", "av", "opencv-python-headless", "flip-evaluator", "ai-edge-litert")


def evaluate(
    run: str | Path | None,
    out: str | Path,
    *,
    video: str | Path | None = None,
    generated_aus: str | Path | None = None,
    models: str | Path | None = None,
    dataset: str | Path | None = None,
    seed: int = 0,
    max_frames: int | None = None,
    other_frames: int = 100,
    torso: str = "frame",
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Render the held-out frames from sound and pose alone, score them, and write the results.

    Writes `metrics.json`, `frames.csv` (scores by frame), `side_by_side.png` and `side_by_side.mp4` into
    `out`, and returns what metrics.json holds.

    Args:
        run: a run folder of `nerfad train`; may be None when `video` and `dataset` are given.
        out: the folder for the results.
        video: score the frames of this file instead of rendering; it must show the held-out frames, or
            the whole clip.
        generated_aus: OpenFace's CSV for the generated frames, for the action-unit agreement.
        models: folder of model files (landmarker, LPIPS and SyncNet weights).
        dataset: the data set folder, where it is no longer where training found it.
        seed: recorded in the results; the evaluation itself draws nothing at random.
        max_frames: score only so many held-out frames, the first ones.
        torso: composite the head over "frame", each frame's own torso picture, or "learnt", the model's
            torso moved by the frame's body motion. With "frame", `psnr_learnt_torso` and
            `psnr_face_learnt_torso` give the other beside it.
        device: where the frames are rendered: "cpu", "cuda" or "cuda:1".
        other_frames: frames, evenly spread, that are rendered for each shift of the driving sound; 0 leaves
            other sound out.
        progress: called with the share done (0..1) and a short text.

    Raises:
        NerfadError: the run, the data set or the video cannot be used; the sentence says why.
    """
    if torso not in TORSOS:
        raise NerfadError(f"--torso must be one of {', '.join(TORSOS)}, not {torso!r}.")
    if max_frames is not None and max_frames < 1:
        raise NerfadError(f"--max-frames must be at least 1, got {max_frames}.")
    check_folder_target(out)
    source = _open_source(run, video, dataset, torso, device)
    data = source.dataset
    positions = source.positions if max_frames is None else source.positions[:max_frames]
    if len(positions) == 0:
        raise NerfadError(f"{data.root} has no held-out frames to evaluate; use a longer clip.")
    summary = Summary()
    reader = _open_reader(data, models, summary)
    scorer = FrameScorer(data, reader, positions, models)
    folder = Path(out)
    every = max(1, math.ceil(len(positions) / max(other_frames, 1)))
    kept = {int(p) for p in positions[::every]} if other_frames else set()
    frames, own = _score_all(source, scorer, positions, kept, folder, progress)
    summary.reasons |= scorer.reasons
    summing.put_pictures(summary, frames, reader is not None)
    summing.put_lips(summary, frames, data)
    summing.put_other_sound(summary, *_other_sound(source, reader, own, progress))
    summing.put_action_units(summary, frames, data, source.train, reader, generated_aus)
    summing.put_depth(summary, frames)
    summing.put_sync(summary, scorer)
    _write_frames(folder / "frames.csv", frames, data)
    results = _results(summary, source, positions, seed, scorer.region_source)
    text = json.dumps(results, indent=1, allow_nan=False)
    with atomic_write(folder / "metrics.json", "w") as file:
        file.write(text + "\n")
    report(progress, 1.0, "evaluated")
    return json.loads(text)


def _open_source(
    run: str | Path | None,
    video: str | Path | None,
    dataset: str | Path | None,
    torso: str,
    device: str,
) -> Source:
    if video is not None:
        return VideoSource.open(video, run, dataset)
    if run is None:
        raise NerfadError("there is nothing to evaluate: name a run folder, or a data set and a video.")
    return AvatarSource.open(run, dataset, torso, device)


def _open_reader(data: Dataset, models: str | Path | None, summary: Summary) -> FaceReader | None:
    try:
        return open_reader(data.reader, None if models is None else Path(models), data)
    except ModelNotFoundError as error:
        for name in (*LANDMARK_METRICS, "au_agreement", "au_kappa", *summing.LIP_METRICS):
            summary.reasons[name] = f"unavailable: {error}"
        return None


def _score_all(
    source: Source,
    scorer: FrameScorer,
    positions: np.ndarray,
    kept: set[int],
    folder: Path,
    progress: Progress | None,
) -> tuple[list[FrameScore], list[OwnFrame]]:
    """Score frame after frame while the comparison video is written from the same frames.

    Returns all scores, and the pictures of the positions in `kept`.
    """
    frames: list[FrameScore] = []
    own: list[OwnFrame] = []
    shown = {int(positions[k]) for k in np.linspace(0, len(positions) - 1, N_STRIP + 2).astype(int)[1:-1]}
    pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def compared() -> Iterator[np.ndarray]:
        frame: SourceFrame
        for frame in source.frames(positions):
            truth = source.dataset.image(frame.position)
            score = scorer.score(frame, truth)
            frames.append(score)
            if frame.position in kept:
                points = score.rendered.landmarks if score.rendered else None
                own.append(OwnFrame(frame.position, frame.image, points, score.real_gap))
            if frame.position in shown:
                pairs.append((truth, frame.image))
            report(progress, 0.5 * len(frames) / len(positions), f"frame {len(frames)} of {len(positions)}")
            yield side_by_side(truth, frame.image, source.label)

    sound = sound_of(source.dataset, positions)
    write_video(folder / "side_by_side.mp4", compared(), source.dataset.fps, sound)
    save_image(folder / "side_by_side.png", strip(pairs, source.label))
    return frames, own


def _other_sound(
    source: Source, reader: FaceReader | None, own: Sequence[OwnFrame], progress: Progress | None
) -> tuple[OtherSound | None, str]:
    if not own:
        return None, "not asked for"
    if not isinstance(source, AvatarSource):
        return None, "a finished video cannot be driven by another sound"
    if reader is None:
        return None, "there is no face reader"
    try:
        result = other_sound(
            source.with_sound_of,
            reader,
            own,
            len(source.dataset),
            source.dataset.fps,
            progress=lambda done, text: report(progress, 0.5 + 0.45 * done, text),
        )
        return result, ""
    except Unavailable as reason:
        return None, str(reason)


def _write_frames(path: Path, frames: Sequence[FrameScore], data: Dataset) -> None:
    """Scores and lip gaps by frame, for curves and for finding the worst ones."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["img_id", "time_s", *PICTURE_METRICS, "lip_gap", "lip_gap_real"])
    for f in frames:
        cells = [*(f.scores.get(name, np.nan) for name in PICTURE_METRICS), f.rendered_gap, f.real_gap]
        time_s = data.frame_times[f.position]
        texts = ["" if np.isnan(value) else f"{value:.5g}" for value in cells]
        writer.writerow([int(data.frame_ids[f.position]), f"{time_s:.3f}", *texts])
    with atomic_write(path, "w") as file:
        file.write(table.getvalue())


def _results(
    summary: Summary, source: Source, positions: np.ndarray, seed: int, regions: str
) -> dict[str, Any]:
    data = source.dataset
    protocol = {
        **source.protocol(),
        "dataset": str(data.root),
        "dataset_fingerprint": data.fingerprint(),
        "image_size": [data.height, data.width],
        "fps": data.fps,
        "n_train": len(source.train),
        "n_held_out": len(source.positions),
        "face_reader": data.reader,
        "regions_from": regions,
    }
    if isinstance(source, AvatarSource) and source.render_seconds:
        summary.details["render_seconds_per_frame"] = round(float(np.median(source.render_seconds)), 5)
    return {
        **{key: round(v, 6) if isinstance(v, float) else v for key, v in summary.values.items()},
        "frames": len(positions),
        "protocol": protocol,
        "seed": seed,
        "versions": _versions(),
        "reasons": {key: why for key, why in summary.reasons.items() if summary.values.get(key) is None},
        "details": summary.details,
    }


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions
