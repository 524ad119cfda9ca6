"""LPIPS (Zhang et al. 2018, version 0.1, AlexNet), from weights that the user supplies.

No package brings the two files, so they are looked for in the models folder and the metric is null
without them: `alexnet-owt-7be5be79.pth` (torchvision's AlexNet) and `lpips_alex.pth` (the linear
weights, `lpips/weights/v0.1/alex.pth` of the authors' package).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nerfad.metrics.weights import load_weights

BACKBONE, LINEAR = "alexnet-owt-7be5be79.pth", "lpips_alex.pth"

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
# (index in torchvision's `features`, stride, padding, whether a 3x3 max pool comes before)
_CONVOLUTIONS = ((0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False))


class Lpips:
    """Perceptual distance of two pictures; 0 is identical, larger is worse."""

    def __init__(self, models: str | Path | None = None) -> None:
        backbone = load_weights(BACKBONE, models)
        linear = load_weights(LINEAR, models)
        self._convolutions = [
            (backbone[f"features.{i}.weight"], backbone[f"features.{i}.bias"], stride, padding, pool)
            for i, stride, padding, pool in _CONVOLUTIONS
        ]
        self._linear = [linear[f"lin{k}.model.1.weight"] for k in range(len(_CONVOLUTIONS))]

    def _features(self, image: np.ndarray) -> list[Tensor]:
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
        x = (x - torch.tensor(_SHIFT).view(1, 3, 1, 1)) / torch.tensor(_SCALE).view(1, 3, 1, 1)
        maps = []
        for weight, bias, stride, padding, pool in self._convolutions:
            x = functional.max_pool2d(x, 3, 2) if pool else x
            x = functional.conv2d(x, weight, bias, stride, padding).relu()
            maps.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return maps

    @torch.no_grad()
    def __call__(self, image: np.ndarray, truth: np.ndarray) -> float:
        """Distance of two uint8 RGB pictures of one size, at least 64 pixels a side."""
        total = 0.0
        pairs = zip(self._features(image), self._features(truth), self._linear, strict=True)
        for a, b, weight in pairs:
            total += float(functional.conv2d((a - b).square(), weight).mean())
        return total
