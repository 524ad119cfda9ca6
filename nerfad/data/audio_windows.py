"""The stretch of sound that a video frame may listen to."""

from __future__ import annotations

import numpy as np

from nerfad.features.audio import MEL_RATE


def window_rows(time_s: np.ndarray, lookback_s: float, lookahead_s: float) -> tuple[np.ndarray, int]:
    """First mel row of each frame's window, int64 [n], and the number of rows in every window."""
    width = round(MEL_RATE * (lookback_s + lookahead_s))
    first = np.rint(MEL_RATE * (np.asarray(time_s, np.float64) - lookback_s)).astype(np.int64)
    return first, width


def segment_rows(time_s: np.ndarray, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mel rows [start, end) of the take that each frame belongs to; a cut lies midway between frames."""
    n_frames = len(time_s)
    start = np.zeros(n_frames, np.int64)
    end = np.full(n_frames, np.iinfo(np.int64).max)
    cuts = np.nonzero(np.diff(segments))[0] + 1
    if not len(cuts):
        return start, end
    rows = np.rint(MEL_RATE * (time_s[cuts] + time_s[cuts - 1]) / 2).astype(np.int64)
    for first, last, row in zip(cuts, [*cuts[1:], n_frames], rows, strict=True):
        start[first:last] = row
    for first, last, row in zip([0, *cuts[:-1]], cuts, rows, strict=True):
        end[first:last] = row
    return start, end


def mel_windows(
    mel: np.ndarray,
    frame_times: np.ndarray,
    lookback_s: float,
    lookahead_s: float,
    segments: np.ndarray | None = None,
) -> np.ndarray:
    """Mel rows `[round(100 (t - lookback)), round(100 (t + lookahead)))` of each frame.

    Args:
        mel: float32 [n_rows, n_mels] at 100 rows a second.
        frame_times: [n] seconds, in the middle of each frame: (k + 0.5) / fps.
        lookback_s, lookahead_s: seconds heard before and after the frame's middle.
        segments: [n] index of the uncut take of each frame, ascending; windows are zero beyond a cut.

    Returns:
        float32 [n, n_mels, n_window], zero (silence) outside the sound.

    Example:
        >>> mel_windows(np.ones((100, 80), np.float32), np.array([0.02, 0.5]), 0.2, 0.2).shape
        (2, 80, 40)
    """
    times = np.asarray(frame_times, np.float64)
    first, width = window_rows(times, lookback_s, lookahead_s)
    rows = first[:, None] + np.arange(width)
    inside = (rows >= 0) & (rows < len(mel))
    if segments is not None:
        start, end = segment_rows(times, np.asarray(segments))
        inside &= (rows >= start[:, None]) & (rows < end[:, None])
    padded = np.concatenate([mel, np.zeros((1, mel.shape[1]), mel.dtype)])
    windows = padded[np.where(inside, rows, len(mel))]
    return np.ascontiguousarray(windows.transpose(0, 2, 1), dtype=np.float32)
