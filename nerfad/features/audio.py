"""Sound: reading any file as 16 kHz mono, and log-mel features at 100 rows a second."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from nerfad.io.audio import read_audio

SAMPLE_RATE = 16000
MEL_RATE = 100
N_MELS = 80
_HOP = SAMPLE_RATE // MEL_RATE
_WINDOW = 400
_N_FFT = 512
# Power below which a band counts as silent; about -70 dB of a full-scale sine.
_FLOOR = 1e-7


def load_wave(path: str | Path) -> np.ndarray:
    """The sound of an audio or video file as float32 [n_samples] in -1..1, 16 kHz, mono."""
    return read_audio(path, SAMPLE_RATE)[0]


def _hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    return 2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0)


@lru_cache(maxsize=1)
def mel_filters() -> np.ndarray:
    """Triangular filters [80, 257] over the power spectrum, 0-8 kHz, each summing to one."""
    edges = np.linspace(_hz_to_mel(0.0), _hz_to_mel(SAMPLE_RATE / 2), N_MELS + 2)
    hz = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
    bins = np.fft.rfftfreq(_N_FFT, 1.0 / SAMPLE_RATE)
    rising = (bins - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    falling = (hz[2:, None] - bins) / (hz[2:] - hz[1:-1])[:, None]
    filters = np.clip(np.minimum(rising, falling), 0.0, None)
    # The lowest bands are narrower than a bin and may fall between two: give those the nearest bin.
    for row in np.nonzero(filters.sum(1) < 1e-6)[0]:
        filters[row, np.abs(bins - hz[row + 1]).argmin()] = 1.0
    return (filters / filters.sum(1, keepdims=True)).astype(np.float32)


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Log-mel features `ln(1 + power / floor) / 4`: 0 is silence, loud speech reaches about 3.

    Args:
        wave: float32 [n_samples], 16 kHz.

    Returns:
        float32 [n, 80], 100 rows a second; row k is centred at (k + 0.5) / 100 s.

    Example:
        >>> log_mel(np.zeros(16000, np.float32)).shape
        (100, 80)
    """
    n_rows = -(-len(wave) // _HOP)
    side = (_WINDOW - _HOP) // 2
    padded = np.zeros(n_rows * _HOP + 2 * side, np.float32)
    padded[side : side + len(wave)] = wave
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP][:n_rows]
    rows = []
    for start in range(0, n_rows, 4096):
        spectrum = np.fft.rfft(frames[start : start + 4096] * window, _N_FFT) / window.sum()
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        rows.append(np.log1p(power @ mel_filters().T / _FLOOR) / 4.0)
    return np.concatenate(rows).astype(np.float32) if rows else np.zeros((0, N_MELS), np.float32)
