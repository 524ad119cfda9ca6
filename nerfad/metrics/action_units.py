"""Agreement of action units between generated and real frames: per unit, and beyond chance.

Intensities are on the scale 0..1. A unit counts as present above a threshold: OpenFace's presence
columns where both sides have them, otherwise the person's own p10 + 0.4·(p95 − p10) over training
frames, read by the same detector. Units that carry no signal are named and left out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from nerfad.metrics.lip_sync import correlation

SPEECH_UNITS = ("AU10", "AU14", "AU20", "AU25", "AU26")
RANGE_FLOOR = 0.02
"""A unit whose p95 − p10 over the training frames stays below this shows no signal (scale 0..1)."""
RAW_RANGE_FLOOR = 0.005
"""The same for raw blendshape scores, whose live units move by a few hundredths."""


def presence_thresholds(training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(threshold, range) of each unit from intensities [n_frames, n_units] of training frames."""
    known = np.isfinite(training).any(axis=0)
    p10, p95 = np.full((2, training.shape[1]), np.nan)
    if known.any():
        p10[known], p95[known] = np.nanpercentile(training[:, known], [10, 95], axis=0)
    return p10 + 0.4 * (p95 - p10), p95 - p10


def cohens_kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Agreement of two binary series beyond chance; NaN where chance alone agrees always.

    >>> import numpy as np
    >>> cohens_kappa(np.array([1, 1, 0, 0], bool), np.array([1, 0, 0, 0], bool))
    0.5
    """
    agree = float(np.mean(a == b))
    chance = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return (agree - chance) / (1 - chance) if chance < 1 else float("nan")


@dataclass(frozen=True)
class UnitAgreement:
    """One unit: share of frames that agree, kappa, and how often it is present on either side."""

    agreement: float
    kappa: float
    rate_real: float
    rate_generated: float
    frames: int


@dataclass(frozen=True)
class AUAgreement:
    """Mean over the live units, each unit by itself, and the dead ones with the reason."""

    agreement: float | None
    kappa: float | None
    units: dict[str, UnitAgreement]
    dead: dict[str, str]

    def to_json(self) -> dict[str, object]:
        """A plain dictionary for metrics.json."""
        return asdict(self)


def au_agreement(
    generated: np.ndarray, real: np.ndarray, names: tuple[str, ...], dead: dict[str, str] | None = None
) -> AUAgreement:
    """Compare presence of each unit frame by frame.

    `generated`, `real`: [n_frames, n_units], 1 present, 0 absent, NaN unknown; `dead`: units known to
    carry no signal. A unit that is always or never present in the real frames cannot be told from a
    constant and is left out too.
    """
    dead = dict(dead or {})
    units: dict[str, UnitAgreement] = {}
    for k, name in enumerate(names):
        if name in dead:
            continue
        ok = np.isfinite(generated[:, k]) & np.isfinite(real[:, k])
        g, r = generated[ok, k] > 0.5, real[ok, k] > 0.5
        if ok.sum() == 0:
            dead[name] = "read in no frame"
        elif r.all() or not r.any():
            dead[name] = f"{'always' if r.all() else 'never'} present in the real frames"
        else:
            units[name] = UnitAgreement(
                float(np.mean(g == r)), cohens_kappa(g, r), float(r.mean()), float(g.mean()), int(ok.sum())
            )
    agreement = float(np.mean([u.agreement for u in units.values()])) if units else None
    kappa = float(np.nanmean([u.kappa for u in units.values()])) if units else None
    return AUAgreement(agreement, kappa, units, dead)


def dead_units(training: np.ndarray, names: tuple[str, ...], floor: float = RANGE_FLOOR) -> dict[str, str]:
    """Units whose p95 − p10 over training frames [n_frames, n_units] is below `floor`, with the reason."""
    _, ranges = presence_thresholds(training)
    return {
        name: f"its range over the training frames, {span:.4f}, is below {floor}"
        for name, span in zip(names, ranges, strict=True)
        if not span >= floor
    }


def units_apart_from_sound(
    training: np.ndarray, names: tuple[str, ...], sound: np.ndarray, *, seed: int = 0
) -> dict[str, str]:
    """Units that sound does not predict above chance, from intensities [n, n_units] and features [n, d]."""
    return {
        name: "sound predicts it no better than the sound of other moments does"
        for k, name in enumerate(names)
        if not predictable_from_sound(training[:, k], sound, seed=seed)
    }


def predictable_from_sound(
    series: np.ndarray, sound: np.ndarray, *, n_shifts: int = 40, ridge: float = 0.03, seed: int = 0
) -> bool:
    """Whether a ridge regression on the first 70 % predicts the rest better than shifted sound does.

    The bar is the 95th percentile of the same score under circular shifts of the sound.
    """
    ok = np.isfinite(series)
    series, sound = series[ok], sound[ok].reshape(int(ok.sum()), -1).astype(np.float64)
    n = len(series)
    if n < 100:
        return True
    split = int(0.7 * n)
    sound = (sound - sound[:split].mean(0)) / (sound[:split].std(0) + 1e-6)

    def score(features: np.ndarray) -> float:
        x, y = features[:split], series[:split] - series[:split].mean()
        # In the space of frames or of features, whichever is smaller.
        if x.shape[1] <= split:
            gram = x.T @ x + ridge * split * np.eye(x.shape[1])
            weights = np.linalg.solve(gram, x.T @ y)
        else:
            weights = x.T @ np.linalg.solve(x @ x.T + ridge * split * np.eye(split), y)
        r = correlation(features[split:] @ weights, series[split:])
        return r if np.isfinite(r) else -1.0

    rng = np.random.default_rng(seed)
    shifts = rng.integers(n // 10, n - n // 10, n_shifts)
    chance = [score(np.roll(sound, int(s), axis=0)) for s in shifts]
    return score(sound) > float(np.percentile(chance, 95))
