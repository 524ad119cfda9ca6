"""SyncNet confidence and offset (Chung & Zisserman 2016), from weights that the user supplies.

The network and the procedure are those of the authors' public release; the weights file is its
`syncnet_v2.model`. Without it the score is null: it is never approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.fftpack import dct
from torch import Tensor, nn
from torch.nn import functional

from nerfad.metrics.regions import FACE_OVAL
from nerfad.metrics.unavailable import Unavailable
from nerfad.metrics.weights import load_weights

WEIGHTS = "syncnet_v2.model"
RATE, FPS = 16000, 25.0
SIDE, CLIP, MAX_OFFSET = 224, 5, 15
CROP_MARGIN = 0.4


@dataclass(frozen=True)
class SyncScore:
    """Confidence (median minus minimum of the mean distances), and the offset of the minimum in frames."""

    confidence: float
    offset: int
    min_distance: float


def _conv2d(c_in: int, c_out: int, kernel: tuple[int, int] = (3, 3), padding: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, kernel, padding=padding), nn.BatchNorm2d(c_out), nn.ReLU()]


def _conv3d(c_in: int, c_out: int, kernel: int, stride: int, padding: int, depth: int = 1) -> list[nn.Module]:
    shape, step, pad = (depth, kernel, kernel), (1, stride, stride), (0, padding, padding)
    return [nn.Conv3d(c_in, c_out, shape, step, pad), nn.BatchNorm3d(c_out), nn.ReLU()]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """Two towers that map 0.2 s of sound and 5 face crops to one space. Names match the released weights."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_conv2d(1, 64), nn.MaxPool2d(1, 1),
            *_conv2d(64, 192), nn.MaxPool2d(3, (1, 2)),
            *_conv2d(192, 384), *_conv2d(384, 256), *_conv2d(256, 256), nn.MaxPool2d(3, 2),
            *_conv2d(256, 512, (5, 4), 0),
        )  # fmt: skip
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(
            *_conv3d(3, 96, 7, 2, 0, depth=CLIP), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_conv3d(96, 256, 5, 2, 1), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_conv3d(256, 256, 3, 1, 1), *_conv3d(256, 256, 3, 1, 1), *_conv3d(256, 256, 3, 1, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_conv3d(256, 512, 6, 1, 0),
        )  # fmt: skip

    def sound(self, x: Tensor) -> Tensor:
        """[n, 1, 13, 20] cepstra → [n, 1024]."""
        return self.netfcaud(self.netcnnaud(x).flatten(1))

    def lips(self, x: Tensor) -> Tensor:
        """[n, 3, 5, 224, 224] crops, BGR 0..255 → [n, 1024]."""
        return self.netfclip(self.netcnnlip(x).flatten(1))


def cepstra(wave: np.ndarray) -> np.ndarray:
    """13 mel-frequency cepstra at 100 Hz, [n, 13], as the release computes them from 16-bit samples."""
    signal = np.asarray(wave, np.float64) * 32768
    signal = np.append(signal[0], signal[1:] - 0.97 * signal[:-1])
    width, step, n_fft = 400, 160, 512
    n = 1 + max(0, int(np.ceil((len(signal) - width) / step)))
    signal = np.pad(signal, (0, max(0, (n - 1) * step + width - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(signal, width)[::step][:n]
    power = np.abs(np.fft.rfft(frames, n_fft)) ** 2 / n_fft
    energy = np.maximum(power.sum(1), np.finfo(float).eps)
    bands = np.maximum(power @ _mel_filters(26, n_fft).T, np.finfo(float).eps)
    coefficients = dct(np.log(bands), type=2, axis=1, norm="ortho")[:, :13]
    coefficients *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    coefficients[:, 0] = np.log(energy)
    return coefficients


def _mel_filters(n_bands: int, n_fft: int) -> np.ndarray:
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, n_bands + 2) / 2595) - 1)
    edges = np.floor((n_fft + 1) * hertz / RATE)
    bins = np.arange(n_fft // 2 + 1)
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rise, fall))


def face_crop(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The release's crop around a face box, 224×224 BGR; the box here is the face oval's."""
    oval = np.asarray(landmarks)[list(FACE_OVAL), :2]
    low, high = oval.min(0), oval.max(0)
    half = float(max(high - low)) / 2
    x, y = (low + high) / 2
    wide = half * (1 + CROP_MARGIN)
    scale = SIDE / (2 * wide)
    matrix = np.array([[scale, 0, -scale * (x - wide)], [0, scale, -scale * (y - half)]])
    crop = cv2.warpAffine(
        image, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_CONSTANT, borderValue=(110, 110, 110)
    )
    return crop[..., ::-1]


class SyncNetScorer:
    """Scores a stretch of 25 fps frames against its sound."""

    def __init__(self, models: str | Path | None = None) -> None:
        self._net = SyncNet()
        weights = load_weights(WEIGHTS, models)
        try:
            self._net.load_state_dict(weights)
        except RuntimeError:
            raise Unavailable(f"unavailable: {WEIGHTS} does not fit SyncNet's public architecture") from None
        self._net.eval()

    @torch.no_grad()
    def __call__(self, crops: Sequence[np.ndarray], wave: np.ndarray) -> SyncScore:
        """`crops`: consecutive face crops at 25 fps; `wave`: their sound, 16 kHz mono float32."""
        n = min(len(crops), int(len(wave) / RATE * FPS)) - CLIP
        if n < 2 * MAX_OFFSET:
            raise Unavailable(f"unavailable: SyncNet needs {2 * MAX_OFFSET + CLIP} frames in one take")
        coefficients = torch.from_numpy(cepstra(wave).T).float()
        sound, lips = [], []
        for i in range(n):
            clip = torch.from_numpy(np.stack(crops[i : i + CLIP])).permute(3, 0, 1, 2)[None].float()
            lips.append(self._net.lips(clip))
            window = coefficients[:, 4 * i : 4 * i + 20]
            window = functional.pad(window, (0, 20 - window.shape[1]))
            sound.append(self._net.sound(window[None, None]))
        return score_distances(torch.cat(lips), torch.cat(sound))


def score_distances(lips: Tensor, sound: Tensor, limit: int = MAX_OFFSET) -> SyncScore:
    """Mean distance over frames at each offset; the confidence is how far the minimum sticks out."""
    padded = functional.pad(sound, (0, 0, limit, limit))
    n = len(lips)
    mean = torch.stack(
        [functional.pairwise_distance(lips, padded[k : k + n]).mean() for k in range(2 * limit + 1)]
    )
    best = int(mean.argmin())
    return SyncScore(float(mean.median() - mean[best]), limit - best, float(mean[best]))
