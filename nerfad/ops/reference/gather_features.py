"""Plain-torch bilinear gather of feature maps: the definition that the kernels are tested against."""

import torch
from torch import Tensor


def gather_features(maps: Tensor, pixels: Tensor) -> Tensor:
    """See `nerfad.ops.gather_features`."""
    _, height, width, _ = maps.shape
    left, right, x = _pixel_pair(pixels[..., 0], width)
    top, bottom, y = _pixel_pair(pixels[..., 1], height)
    view = torch.arange(len(maps), device=maps.device)[:, None]
    upper = maps[view, top, left] * (1 - x) + maps[view, top, right] * x
    lower = maps[view, bottom, left] * (1 - x) + maps[view, bottom, right] * x
    return upper * (1 - y) + lower * y


def _pixel_pair(coordinates: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels about each coordinate, and how far it lies from the first towards the second."""
    clamped = coordinates.nan_to_num(nan=0.0).clamp(0, size - 1)
    low = clamped.detach().long().clamp_(0, max(size - 2, 0))
    return low, (low + 1).clamp_(max=size - 1), (clamped - low)[..., None]
