"""From scores of frames to the numbers in metrics.json: a value, or null with the reason beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nerfad.data.audio_windows import mel_windows
from nerfad.data.dataset import Dataset
from nerfad.engine.other_sound import OtherSound
from nerfad.engine.scoring import LANDMARK_METRICS, LEARNT_TORSO_METRICS, FrameScore, FrameScorer, means
from nerfad.errors import InputFileError
from nerfad.features.face_reader import FaceReader
from nerfad.metrics.action_units import (
    RANGE_FLOOR,
    RAW_RANGE_FLOOR,
    SPEECH_UNITS,
    au_agreement,
    dead_units,
    presence_thresholds,
    units_apart_from_sound,
)
from nerfad.metrics.lip_sync import amplitude, correlation, scan_offsets
from nerfad.metrics.openface import read_units

LIP_METRICS = (
    "lip_gap_correlation",
    "lip_gap_amplitude",
    "lip_gap_error",
    "lip_gap_offset_frames",
    "lip_gap_correlation_other_audio",
    "lip_gap_correlation_other_audio_p95",
)
N_THRESHOLD_FRAMES = 150
NO_FACE = "no face was read in enough frames"


@dataclass
class Summary:
    """Scores under construction, why some are missing, and what explains the others."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def put(self, name: str, value: float | int | None, reason: str) -> None:
        """Record a score; one that is None or not finite becomes null with `reason`."""
        finite = value is not None and math.isfinite(value)
        self.values[name] = value if finite else None
        if not finite:
            self.reasons.setdefault(name, reason)


def put_pictures(summary: Summary, frames: Sequence[FrameScore], has_reader: bool) -> None:
    """PSNR, SSIM, FLIP, LPIPS, landmark distance: means over frames."""
    no_region = "the data set has no landmarks and no face was read in the real frames"
    no_points = "the face reader gives no landmarks" if has_reader else "there is no face reader"
    same = "the scores above are over the learnt torso already, or come from a finished video"
    because = {"psnr_face": no_region, "psnr_mouth": no_region}
    because |= dict.fromkeys(LANDMARK_METRICS, no_points)
    because |= dict.fromkeys(LEARNT_TORSO_METRICS, same)
    for name, value in means(frames).items():
        summary.put(name, value, because.get(name, "not computed"))


def put_lips(summary: Summary, frames: Sequence[FrameScore], dataset: Dataset) -> None:
    """Correlation, amplitude and offset of the lip gap."""
    positions = np.array([f.position for f in frames])
    rendered = np.array([f.rendered_gap for f in frames])
    real = np.array([f.real_gap for f in frames])
    scan = scan_offsets(rendered, real, dataset.audio_ids[positions], dataset.segments[positions])
    summary.put("lip_gap_correlation", correlation(rendered, real), NO_FACE)
    summary.put("lip_gap_amplitude", amplitude(rendered, real), NO_FACE)
    both = np.isfinite(rendered) & np.isfinite(real)
    error = float(np.abs(rendered - real)[both].mean()) if both.any() else None
    summary.put("lip_gap_error", error, NO_FACE)
    summary.put("lip_gap_offset_frames", scan.best, NO_FACE)
    summary.details["lip_gap"] = {
        "faces_read_rendered": int(np.isfinite(rendered).sum()),
        "faces_read_real": int(np.isfinite(real).sum()),
        "correlation_by_offset": {
            str(k): _rounded(r) for k, r in zip(scan.offsets, scan.correlations, strict=True)
        },
    }


def put_other_sound(summary: Summary, result: OtherSound | None, reason: str) -> None:
    """Mean and 95th percentile of the correlation under the sound of other moments."""
    summary.put("lip_gap_correlation_other_audio", result.mean if result else None, reason)
    summary.put("lip_gap_correlation_other_audio_p95", result.p95 if result else None, reason)
    if result:
        summary.details["other_audio"] = asdict(result)


def put_depth(summary: Summary, frames: Sequence[FrameScore]) -> None:
    """Depth error in percent of the head's depth range, and that of a flat card."""
    errors = [f.depth for f in frames if f.depth is not None]
    reason = "only sample data sets have exact depth, and only an avatar renders it"
    percent = float(np.mean([e.percent for e in errors])) if errors else None
    card = float(np.mean([e.flat_card_percent for e in errors])) if errors else None
    summary.put("depth_error_percent", percent, reason)
    summary.put("depth_error_flat_card_percent", card, reason)


def put_sync(summary: Summary, scorer: FrameScorer) -> None:
    """SyncNet's confidence of the rendered and of the real frames; offset and distance in the details."""
    for name, side in (("syncnet", "rendered"), ("syncnet_real", "real")):
        score = scorer.sync_score(side)
        why = scorer.reasons.get("syncnet", "not computed")
        summary.put(name, score.confidence if score else None, why)
        if score:
            summary.details[name] = asdict(score)


Sides = tuple[np.ndarray, np.ndarray, tuple[str, ...], dict[str, str]]
"""Presence in generated and real frames [n, n_units], the units' names, and the dead ones."""


def put_action_units(
    summary: Summary,
    frames: Sequence[FrameScore],
    dataset: Dataset,
    train: np.ndarray,
    reader: FaceReader | None,
    generated_csv: str | Path | None,
) -> None:
    """Agreement of the speech-related units: OpenFace on both sides, or the reader on both sides."""
    if generated_csv is not None:
        source = "openface"
        sides = _from_openface(frames, dataset, train, generated_csv)
        reason = "the data set has no au.csv from OpenFace with the same units to compare with"
    else:
        source = "sample reader" if dataset.reader == "sample" else "proxy"
        sides = _from_reader(frames, dataset, train, reader)
        reason = "the face reader gives no action units" if reader else "there is no face reader"
    if sides is None:
        summary.put("au_agreement", None, reason)
        summary.put("au_kappa", None, reason)
        return
    generated, real, names, dead = sides
    result = au_agreement(generated, real, names, _silent(dataset, train, names) | dead)
    dead_all = "no speech-related unit carries a signal in this clip"
    summary.put("au_agreement", result.agreement, dead_all)
    summary.put("au_kappa", result.kappa, dead_all)
    summary.details["au_agreement"] = _finite({"au_source": source, **result.to_json()})


def _silent(dataset: Dataset, train: np.ndarray, names: tuple[str, ...]) -> dict[str, str]:
    """Units that the data set's own labels show to be unrelated to sound."""
    known = tuple(n for n in names if n in dataset.au_names)
    if dataset.aus is None or not known:
        return {}
    columns = [list(dataset.au_names).index(n) for n in known]
    return units_apart_from_sound(dataset.aus[train][:, columns], known, _sound_features(dataset, train))


def _sound_features(dataset: Dataset, positions: np.ndarray) -> np.ndarray:
    """A small description of the sound around each frame: 20 bands by 8 stretches of 50 ms."""
    if dataset.audio_kind != "mel":
        features = dataset.audio_features[np.minimum(dataset.audio_ids, len(dataset.audio_features) - 1)]
        return features[positions].reshape(len(positions), -1)
    windows = mel_windows(dataset.audio_features, dataset.frame_times, 0.2, 0.2, dataset.segments)[positions]
    n, bands, rows = windows.shape
    return windows.reshape(n, bands // 4, 4, rows // 5, 5).mean((2, 4)).reshape(n, -1)


def _from_reader(
    frames: Sequence[FrameScore], dataset: Dataset, train: np.ndarray, reader: FaceReader | None
) -> Sides | None:
    first = next((f.real.aus for f in frames if f.real and f.real.aus), None)
    if reader is None or first is None:
        return None
    names = tuple(n for n in SPEECH_UNITS if n in first)

    def table(readings: Sequence[Any]) -> np.ndarray:
        rows = [
            [r.aus.get(n, math.nan) for n in names] if r and r.aus else [math.nan] * len(names)
            for r in readings
        ]
        return np.array(rows, np.float64)

    some = train[np.linspace(0, len(train) - 1, min(N_THRESHOLD_FRAMES, len(train))).astype(int)]
    training = table([reader.read(dataset.image(int(p))) for p in some])
    threshold, _ = presence_thresholds(training)
    dead = dead_units(training, names, RANGE_FLOOR if dataset.reader == "sample" else RAW_RANGE_FLOOR)
    generated, real = table([f.rendered for f in frames]), table([f.real for f in frames])
    return _presence(generated, threshold), _presence(real, threshold), names, dead


def _presence(intensity: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(intensity), np.nan, intensity > threshold)


def _from_openface(
    frames: Sequence[FrameScore], dataset: Dataset, train: np.ndarray, generated_csv: str | Path
) -> Sides | None:
    real_csv = dataset.root / "au.csv"
    if not real_csv.is_file():
        return None
    real_c, real_r = read_units(real_csv)
    made_c, made_r = read_units(generated_csv)
    rows = _rows_of(frames, dataset, len(next(iter((made_c or made_r).values()))), generated_csv)
    ids = dataset.frame_ids[[f.position for f in frames]]
    names, generated, real = [], [], []
    dead: dict[str, str] = {}
    for name in SPEECH_UNITS:
        if name in real_r:
            dead |= dead_units(real_r[name][dataset.frame_ids[train]][:, None], (name,))
        if name in real_c and name in made_c:
            generated.append(made_c[name][rows])
            real.append(real_c[name][ids])
        elif name in real_r and name in made_r:
            threshold, _ = presence_thresholds(real_r[name][dataset.frame_ids[train]][:, None])
            generated.append(_presence(made_r[name][rows], threshold))
            real.append(_presence(real_r[name][ids], threshold))
        else:
            continue
        names.append(name)
    if not names:
        return None
    return np.stack(generated, 1), np.stack(real, 1), tuple(names), dead


def _rows_of(frames: Sequence[FrameScore], dataset: Dataset, n_rows: int, path: str | Path) -> np.ndarray:
    """Row of the generated table for each frame: a row a scored frame, or a row a frame of the clip."""
    ids = dataset.frame_ids[[f.position for f in frames]]
    if n_rows == len(frames):
        return np.arange(n_rows)
    if n_rows > ids.max():
        return ids
    raise InputFileError(
        f"{path} has {n_rows} rows; it needs one for each of the {len(frames)} scored frames, or "
        f"for each of the clip's {int(dataset.frame_ids[-1]) + 1} frames."
    )


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _finite(value: Any) -> Any:
    """The same structure with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
