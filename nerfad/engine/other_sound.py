"""The control experiment of lip sync: the same frames driven by the sound of other moments.

A correlation is evidence of lip sync only if it vanishes when the sound is another. The head pose and
all else stay those of the frame, so what remains is what leaks into the mouth by any other way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nerfad.features.face_reader import FaceReader
from nerfad.metrics.lip_sync import correlation, other_moments
from nerfad.metrics.unavailable import Unavailable
from nerfad.progress import Progress, report

N_SHIFTS = 20
MIN_SECONDS = 2.0

RenderWith = Callable[[int, int], np.ndarray]
"""(position of the frame, position whose sound drives it) → uint8 RGB picture."""


@dataclass(frozen=True)
class OtherSound:
    """Correlations under the shifts, and how they were measured."""

    shifts: tuple[int, ...]
    correlations: tuple[float, ...]
    frames_per_shift: int

    @property
    def mean(self) -> float:
        """Mean correlation over the shifts."""
        return float(np.nanmean(self.correlations))

    @property
    def p95(self) -> float:
        """95th percentile of the correlations over the shifts."""
        return float(np.nanpercentile(self.correlations, 95))


def other_sound(
    render: RenderWith,
    reader: FaceReader,
    positions: np.ndarray,
    real_gaps: np.ndarray,
    n_all: int,
    fps: float,
    *,
    frames_per_shift: int = 120,
    n_shifts: int = N_SHIFTS,
    progress: Progress | None = None,
) -> OtherSound:
    """Correlate rendered and real lip gaps with the sound shifted by each of `n_shifts` times.

    The whole clip's sound is shifted in a circle by whole frames, always more than two seconds both
    ways, which gives frame p the sound of frame (p + shift) mod `n_all`. Every shift uses an evenly
    spaced subset of at most `frames_per_shift` frames, offset from shift to shift.
    """
    shifts = other_moments(n_all, fps, n_shifts, MIN_SECONDS)
    if len(shifts) == 0:
        raise Unavailable(
            f"the clip is too short for {n_shifts} shifts of its sound by more than {MIN_SECONDS:g} seconds"
        )
    every = max(1, math.ceil(len(positions) / frames_per_shift))
    correlations, n_used = [], 0
    for k, shift in enumerate(shifts):
        subset = np.arange(k % every, len(positions), every)
        gaps = np.full(len(subset), np.nan)
        for j, at in enumerate(subset):
            position = int(positions[at])
            reading = reader.read(render(position, (position + int(shift)) % n_all))
            gaps[j] = reading.lip_gap if reading else np.nan
        correlations.append(correlation(gaps, real_gaps[subset]))
        n_used = max(n_used, len(subset))
        report(progress, (k + 1) / len(shifts), f"sound of other moments, {k + 1} of {len(shifts)}")
    if not np.isfinite(correlations).any():
        raise Unavailable("the lips do not move with the sound of other moments, or no face was found")
    return OtherSound(tuple(int(s) for s in shifts), tuple(correlations), n_used)
