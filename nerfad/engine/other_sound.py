"""The control experiment of lip sync: the same frames driven by the sound of other moments.

A correlation is evidence of lip sync only if it vanishes when the sound is another. The head pose and
all else stay those of the frame, so what remains is what leaks into the mouth by any other way.

Twenty shifts of the sound are many frames, so only the lower face is rendered anew and put into the
frame that the true sound gave. That is allowed because it is checked: on a few frames the reading must
agree with that of whole frames, else whole frames are rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nerfad.engine.evaluation_sources import Window
from nerfad.features.face_reader import FaceReader
from nerfad.metrics.lip_sync import correlation, other_moments
from nerfad.metrics.regions import FACE_OVAL
from nerfad.metrics.unavailable import Unavailable
from nerfad.progress import Progress, report

N_SHIFTS = 20
MIN_SECONDS = 2.0
N_CHECKED = 6
CHECK_TOLERANCE = 0.05
"""Mean difference of the readings, in standard deviations of the real gap, up to which a window will do."""
NOSE_TIP = 1


class Driven(Protocol):
    """Renders a frame's pose with the sound of another frame: the whole picture or a window of it."""

    def __call__(self, position: int, other: int, window: Window | None = None) -> np.ndarray:
        """uint8 RGB picture of `position` with the sound of `other`."""
        ...


@dataclass(frozen=True)
class OwnFrame:
    """A frame driven by its own sound: the picture, where its face lies, and the real lip gap."""

    position: int
    image: np.ndarray
    landmarks: np.ndarray | None
    real_gap: float


@dataclass(frozen=True)
class OtherSound:
    """Correlations under the shifts, and how they were measured."""

    shifts: tuple[int, ...]
    correlations: tuple[float, ...]
    frames_per_shift: int
    lower_face_only: bool
    window_check: float | None  # mean difference to whole frames, in standard deviations of the real gap

    @property
    def mean(self) -> float:
        """Mean correlation over the shifts."""
        return float(np.nanmean(self.correlations))

    @property
    def p95(self) -> float:
        """95th percentile of the correlations over the shifts."""
        return float(np.nanpercentile(self.correlations, 95))


def lower_face(landmarks: np.ndarray, height: int, width: int) -> Window | None:
    """A window from the nose to below the chin, wide enough for the cheeks; None outside the picture."""
    points = np.asarray(landmarks, np.float64)[:, :2]
    top = points[NOSE_TIP, 1]
    jaw = points[list(FACE_OVAL)]
    jaw = jaw[jaw[:, 1] > top]
    if len(jaw) < 3:
        return None
    (left, _), (right, bottom) = jaw.min(0), jaw.max(0)
    margin = 0.08 * (right - left)
    # An open jaw reaches further down than that of the frame at hand.
    low = np.floor([left - margin, top])
    high = np.ceil([right + margin, bottom + 0.35 * (bottom - top)])
    x0, y0 = np.clip(low, 0, [width, height]).astype(int)
    x1, y1 = np.clip(high, 0, [width, height]).astype(int)
    return (int(x0), int(y0), int(x1), int(y1)) if x1 > x0 and y1 > y0 else None


class _Reader:
    """Reads the lip gap of a frame under another sound, from a window or from the whole frame."""

    def __init__(self, render: Driven, reader: FaceReader, use_windows: bool) -> None:
        self.render, self.reader, self.use_windows = render, reader, use_windows

    def gap(self, frame: OwnFrame, other: int, windowed: bool | None = None) -> float:
        windowed = self.use_windows if windowed is None else windowed
        height, width = frame.image.shape[:2]
        window = None
        if windowed and frame.landmarks is not None:
            window = lower_face(frame.landmarks, height, width)
        if window is None:
            image = self.render(frame.position, other)
        else:
            image = frame.image.copy()
            left, top, right, bottom = window
            image[top:bottom, left:right] = self.render(frame.position, other, window)
        reading = self.reader.read(image)
        return reading.lip_gap if reading else np.nan

    def check(self, frames: Sequence[OwnFrame], shift: int, n_all: int) -> float:
        """Mean difference between windowed and whole readings."""
        chosen = [frames[k] for k in np.linspace(0, len(frames) - 1, min(N_CHECKED, len(frames))).astype(int)]
        others = [(f.position + shift) % n_all for f in chosen]
        pairs = zip(chosen, others, strict=True)
        return float(np.nanmean([abs(self.gap(f, o, True) - self.gap(f, o, False)) for f, o in pairs]))


def other_sound(
    render: Driven,
    reader: FaceReader,
    frames: Sequence[OwnFrame],
    n_all: int,
    fps: float,
    *,
    n_shifts: int = N_SHIFTS,
    progress: Progress | None = None,
) -> OtherSound:
    """Correlate rendered and real lip gaps with the sound shifted by each of `n_shifts` times.

    The whole clip's sound is shifted in a circle by whole frames, always more than two seconds both
    ways, which gives frame p the sound of frame (p + shift) mod `n_all`.
    """
    shifts = other_moments(n_all, fps, n_shifts, MIN_SECONDS)
    if len(shifts) == 0:
        raise Unavailable(
            f"the clip is too short for {n_shifts} shifts of its sound by more than {MIN_SECONDS:g} seconds"
        )
    real = np.array([f.real_gap for f in frames])
    driven = _Reader(render, reader, use_windows=all(f.landmarks is not None for f in frames))
    difference = None
    if driven.use_windows:
        difference = driven.check(frames, int(shifts[0]), n_all) / max(float(np.nanstd(real)), 1e-9)
        driven.use_windows = bool(difference <= CHECK_TOLERANCE)
    correlations = []
    for k, shift in enumerate(shifts):
        gaps = np.array([driven.gap(f, (f.position + int(shift)) % n_all) for f in frames])
        correlations.append(correlation(gaps, real))
        report(progress, (k + 1) / len(shifts), f"sound of other moments, {k + 1} of {len(shifts)}")
    if not np.isfinite(correlations).any():
        raise Unavailable("the lips do not move with the sound of other moments, or no face was found")
    return OtherSound(
        tuple(int(s) for s in shifts), tuple(correlations), len(frames), driven.use_windows, difference
    )
