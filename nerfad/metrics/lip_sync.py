"""How well the rendered lips follow the real ones, from the lip gap of both, frame by frame.

No weights are needed. A gap that could not be read is NaN and its frame is left out; frames of
different segments (uncut takes) are never paired with each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_OFFSET = 10
MIN_PAIRS = 5


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation over the places where both are finite; NaN where it is not defined.

    >>> import numpy as np
    >>> correlation(np.array([0., 1., 2., 3., 9.]), np.array([1., 3., 5., 7., 19.]))
    1.0
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    ok = np.isfinite(a) & np.isfinite(b)
    if ok.sum() < MIN_PAIRS:
        return float("nan")
    a, b = a[ok] - a[ok].mean(), b[ok] - b[ok].mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 1e-12 else float("nan")


def amplitude(rendered: np.ndarray, real: np.ndarray) -> float:
    """Standard deviation of the rendered gap over that of the real one; 1 is as lively as the person."""
    ok = np.isfinite(rendered) & np.isfinite(real)
    if ok.sum() < MIN_PAIRS or np.std(real[ok]) < 1e-12:
        return float("nan")
    return float(np.std(rendered[ok]) / np.std(real[ok]))


@dataclass(frozen=True)
class OffsetScan:
    """Correlation at every offset; a positive offset means that the rendered lips come late."""

    offsets: tuple[int, ...]
    correlations: tuple[float, ...]

    @property
    def best(self) -> int | None:
        """The offset of the highest correlation, or None where none is defined."""
        if not np.isfinite(self.correlations).any():
            return None
        return self.offsets[int(np.nanargmax(self.correlations))]


def scan_offsets(
    rendered: np.ndarray, real: np.ndarray, times: np.ndarray, segments: np.ndarray, limit: int = MAX_OFFSET
) -> OffsetScan:
    """Correlate rendered[t + k] with real[t] for k in −limit..limit.

    `times` are integer frame numbers on the clip's clock and `segments` the take of each frame: a pair
    counts only if both frames exist and belong to one take.
    """
    place = {(int(s), int(t)): i for i, (s, t) in enumerate(zip(segments, times, strict=True))}
    correlations = []
    for k in range(-limit, limit + 1):
        pairs = [(place.get((s, t + k)), i) for (s, t), i in place.items()]
        kept = np.array([(j, i) for j, i in pairs if j is not None], np.int64).reshape(-1, 2)
        correlations.append(correlation(rendered[kept[:, 0]], real[kept[:, 1]]))
    return OffsetScan(tuple(range(-limit, limit + 1)), tuple(correlations))


def other_moments(n_frames: int, fps: float, n_shifts: int, min_seconds: float = 2.0) -> np.ndarray:
    """Circular shifts, in frames, that lie further than `min_seconds` from no shift, evenly spread.

    >>> other_moments(n_frames=200, fps=25.0, n_shifts=3).tolist()
    [51, 100, 149]
    """
    first = int(np.floor(min_seconds * fps)) + 1
    last = n_frames - first
    if last - first + 1 < n_shifts:
        return np.zeros(0, np.int64)
    return np.round(np.linspace(first, last, n_shifts)).astype(np.int64)
