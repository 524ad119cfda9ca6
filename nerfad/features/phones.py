"""Phone posteriors: how likely each phone of English is, 100 times a second.

A few thousand Gaussians trained on many speakers (the acoustic model that the `pocketsphinx` package carries)
say which sound a stretch of speech is. A minute of one speaker cannot teach that, so these posteriors drive a
mouth better than the spectrum does. Only the context-independent states are used, without a decoder: a row
depends on the 70 ms of sound around it and on nothing else.

Symbols: ``p`` = 42 phones, 3 states each; 3 streams (cepstra, their first and second differences) of 13
numbers, 128 Gaussians per phone and stream.
"""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from nerfad.errors import InputFileError, ModelNotFoundError

N_PHONES, N_STATES, N_STREAMS, N_GAUSSIANS, N_CEPSTRA = 42, 3, 3, 128, 13
LOOKAHEAD_ROWS = 4  # a row's differences reach 3 rows ahead, its spectrum one more
ACOUSTIC_SCALE = 0.3  # Gaussians of neighbouring rows repeat each other's evidence

_RATE, _HOP, _WINDOW, _N_FFT, _N_FILTERS = 16000, 160, 410, 512, 25
_LOW_HZ, _HIGH_HZ, _LIFTER = 130.0, 6800.0, 22
_LOG_STEP = 0.1024  # weights are stored as -log(w) in units of 1024 log(1.0001)
_CHUNK = 1024


@dataclass(frozen=True)
class PhoneModel:
    """Gaussian mixtures of the phones' states."""

    means: np.ndarray  # float32 [p, 3, 128, 13]
    variances: np.ndarray  # float32 [p, 3, 128, 13]
    log_weights: np.ndarray  # float32 [p, 3 states, 3 streams, 128]

    def posteriors(self, wave: np.ndarray, cepstral_mean: np.ndarray) -> np.ndarray:
        """Square roots of the phones' posteriors, float32 [n_rows, p], rows as those of `audio.log_mel`.

        The root spreads the small values, and makes the Euclidean distance of two rows Hellinger's.

        Args:
            wave: float32 [n], 16 kHz.
            cepstral_mean: [13] the recording's mean (`cepstral_mean`): takes microphone and level away.
        """
        streams = _with_differences(cepstra(wave) - cepstral_mean)
        parts = [self._log_scores(streams[i : i + _CHUNK]) for i in range(0, len(streams), _CHUNK)]
        if not parts:
            return np.zeros((0, N_PHONES), np.float32)
        scores = ACOUSTIC_SCALE * np.concatenate(parts)
        likelihood = np.exp(scores - scores.max((1, 2), keepdims=True)).sum(2)
        return np.sqrt(likelihood / likelihood.sum(1, keepdims=True)).astype(np.float32)

    def _log_scores(self, streams: np.ndarray) -> np.ndarray:
        """Log-likelihood [n, p, state] of rows [n, 3, 13]."""
        total = np.zeros((len(streams), N_PHONES, N_STATES), np.float32)
        for s in range(N_STREAMS):
            x = streams[:, s].astype(np.float32)
            mean = self.means[:, s].reshape(-1, N_CEPSTRA)
            variance = self.variances[:, s].reshape(-1, N_CEPSTRA)
            constant = (mean**2 / variance + np.log(2 * np.pi * variance)).sum(1)
            log_gauss = x @ (mean / variance).T - 0.5 * ((x**2) @ (1 / variance).T + constant)
            log_gauss = log_gauss.reshape(len(x), N_PHONES, N_GAUSSIANS)
            top = log_gauss.max(2, keepdims=True)
            mixture = np.einsum("npg,psg->nps", np.exp(log_gauss - top), np.exp(self.log_weights[:, :, s]))
            total += top + np.log(np.maximum(mixture, 1e-30))
        return total


def cepstra(wave: np.ndarray) -> np.ndarray:
    """Mel cepstra float64 [n_rows, 13] as the acoustic model was trained on (Sphinx's front end)."""
    n_rows = -(-len(wave) // _HOP)
    if n_rows == 0:
        return np.zeros((0, N_CEPSTRA))
    signal = np.append(wave[:1], wave[1:] - 0.97 * wave[:-1]).astype(np.float64) * 32768
    padded = np.zeros(n_rows * _HOP + _WINDOW)
    side = (_WINDOW - _HOP) // 2
    padded[side : side + len(signal)] = signal
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP][:n_rows]
    filters, cosines = _filters(), _cosines()
    rows = []
    for start in range(0, n_rows, _CHUNK):
        spectrum = np.fft.rfft(frames[start : start + _CHUNK] * np.hamming(_WINDOW), _N_FFT)
        power = spectrum.real**2 + spectrum.imag**2
        rows.append(np.log(np.maximum(power @ filters.T, 1.0)) @ cosines.T)
    return np.concatenate(rows)


def cepstral_mean(wave: np.ndarray) -> np.ndarray:
    """Mean cepstrum float32 [13] of a recording, pauses included as in the model's training."""
    return cepstra(wave).mean(0).astype(np.float32) if len(wave) else np.zeros(N_CEPSTRA, np.float32)


def is_available() -> bool:
    """Whether `load_phone_model` will find the acoustic model."""
    return _model_folder() is not None


@lru_cache(maxsize=1)
def load_phone_model(folder: str | Path | None = None) -> PhoneModel:
    """The acoustic model of the installed `pocketsphinx` package, or of ``folder``.

    Raises:
        ModelNotFoundError: there is none.
        InputFileError: a file of it is damaged.
    """
    found = Path(folder) if folder is not None else _model_folder()
    if found is None:
        raise ModelNotFoundError(
            "the phone model is missing: install it with `pip install pocketsphinx`, or set features=mel."
        )
    try:
        means, variances = (_read_gaussians(found / name) for name in ("means", "variances"))
        log_weights = _read_weights(found / "sendump")
    except (OSError, ValueError, struct.error) as error:
        raise InputFileError(
            f"{found}: is not a pocketsphinx acoustic model of this kind ({error})."
        ) from error
    return PhoneModel(means, np.maximum(variances, 1e-4), log_weights)


def _model_folder() -> Path | None:
    spec = importlib.util.find_spec("pocketsphinx")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model" / "en-us" / "en-us"
    return folder if (folder / "sendump").is_file() else None


def _read_gaussians(path: Path) -> np.ndarray:
    data = path.read_bytes()
    start = data.index(b"endhdr\n") + len(b"endhdr\n")
    magic, *shape = struct.unpack_from("<iiii", data, start)
    expected = [N_PHONES, N_STREAMS, N_GAUSSIANS]
    if magic != 0x11223344 or shape != expected:
        raise ValueError(f"{path.name}: expected Gaussians {expected}, got {shape}")
    n_values = N_PHONES * N_STREAMS * N_GAUSSIANS * N_CEPSTRA
    offset = start + 16 + 4 * N_STREAMS + 4  # shape, length of each stream, number of values
    values = np.frombuffer(data, "<f4", n_values, offset)
    return values.reshape(N_PHONES, N_STREAMS, N_GAUSSIANS, N_CEPSTRA).astype(np.float32)


def _read_weights(path: Path) -> np.ndarray:
    """Mixture weights of the context-independent states, which come first in the file."""
    data, offset = path.read_bytes(), 0
    for _ in range(2):
        offset += 4 + struct.unpack_from("<i", data, offset)[0]
    while length := struct.unpack_from("<i", data, offset)[0]:
        offset += 4 + length
    n_gaussians, n_states = struct.unpack_from("<ii", data, offset + 4)
    if n_gaussians != N_GAUSSIANS or n_states < N_PHONES * N_STATES:
        raise ValueError(f"{path.name}: expected {N_GAUSSIANS} Gaussians, got {n_gaussians}")
    table = np.frombuffer(data, np.uint8, N_STREAMS * n_gaussians * n_states, offset + 12)
    table = table.reshape(N_STREAMS, n_gaussians, n_states)[:, :, : N_PHONES * N_STATES]
    by_state = table.reshape(N_STREAMS, n_gaussians, N_PHONES, N_STATES).transpose(2, 3, 0, 1)
    return (-_LOG_STEP * by_state).astype(np.float32)


@lru_cache(maxsize=1)
def _filters() -> np.ndarray:
    """Triangles [25, 257] with edges on whole bins, each of unit area."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (_LOW_HZ, _HIGH_HZ))
    edges = 700 * (10 ** (np.linspace(low, high, _N_FILTERS + 2) / 2595) - 1)
    width = _RATE / _N_FFT
    edges = np.round(edges / width) * width
    hz = np.arange(_N_FFT // 2 + 1) * width
    rising = (hz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hz) / (edges[2:] - edges[1:-1])[:, None]
    return np.clip(np.minimum(rising, falling), 0, None) * (2 / (edges[2:] - edges[:-2]))[:, None]


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """Orthonormal DCT-II [13, 25] with the lifter in its rows."""
    order = np.arange(N_CEPSTRA)[:, None]
    table = np.cos(np.pi * order * (np.arange(_N_FILTERS) + 0.5) / _N_FILTERS) * np.sqrt(2 / _N_FILTERS)
    table[0] *= np.sqrt(0.5)
    return table * (1 + _LIFTER / 2 * np.sin(np.pi * order / _LIFTER))


def _with_differences(rows: np.ndarray) -> np.ndarray:
    """Cepstra, x[t+2] - x[t-2], and the difference of two such one row apart: [n, 3, 13]."""
    n = len(rows)
    if n == 0:
        return np.zeros((0, N_STREAMS, N_CEPSTRA))
    padded = np.pad(rows, ((3, 3), (0, 0)), mode="edge")
    at = {k: padded[3 + k : 3 + k + n] for k in range(-3, 4)}
    return np.stack([rows, at[2] - at[-2], (at[3] - at[-1]) - (at[1] - at[-3])], 1)
