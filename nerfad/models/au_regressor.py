"""A small network that reads action units off a face crop: a judge, never a teacher of what it judges."""

from __future__ import annotations

from torch import Tensor, nn


class AURegressor(nn.Module):
    """Three-by-three convolutions with group normalisation and average pooling: unlike the classifier of
    `nerfad.models.au_attention`, so that what fools the one need not fool the other.

    Args:
        n_units: k.
        width: channels of the first layer; they double three times.

    Example:
        >>> import torch
        >>> AURegressor(5, width=4)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 5])
    """

    def __init__(self, n_units: int, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for k in range(4):
            out = width * 2**k
            layers += [nn.Conv2d(channels, out, 3, 2, 1), nn.GroupNorm(min(4, out), out), nn.GELU()]
            channels = out
        # Averaging over cells, not over everything: where a mouth's corner lies matters.
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.2))
        self.head = nn.Linear(16 * channels, n_units)

    def forward(self, pictures: Tensor) -> Tensor:
        """Intensities [n, k], not clamped, of pictures [n, 3, s, s] in [-1, 1]."""
        return self.head(self.layers(pictures))
