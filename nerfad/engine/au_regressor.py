"""Fits a regressor of action units to real training crops."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nerfad.engine.attention_data import as_input
from nerfad.models.au_regressor import AURegressor
from nerfad.progress import Progress, report

READING_SIZE = 64
"""Side that pictures are brought to before they are read."""
_BATCH, _RATE, _NOISE, _BRIGHTNESS, _SHIFT = 32, 2e-3, 0.05, 0.1, 2


def fit_regressor(
    pictures: Tensor, codes: Tensor, *, seed: int, n_steps: int = 600, progress: Progress | None = None
) -> AURegressor:
    """Train on real crops with mirroring, shifts, noise and changes of brightness.

    Args:
        pictures: uint8 [n, s, s, 3].
        codes: float32 [n, k] in [0, 1].
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = AURegressor(codes.shape[1])
        small = torch.cat([at_reading_size(as_input(part)) for part in pictures.split(256)])
        optimiser = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=n_steps)
        net.train()
        for step in range(n_steps):
            rows = torch.randint(len(small), (_BATCH,))
            loss = (net(_varied(small[rows])) - codes[rows]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % 50 == 0:
                report(progress, step / n_steps, "teaching a regressor of action units")
    return net.eval()


@torch.no_grad()
def read_units(net: AURegressor, images: Tensor) -> Tensor:
    """Intensities [n, k] of images [n, 3, s, s] in [-1, 1] of any size."""
    return torch.cat([net(at_reading_size(part)) for part in images.split(64)])


def at_reading_size(images: Tensor) -> Tensor:
    """Images [n, 3, s, s] at the size that regressors read."""
    if images.shape[-1] == READING_SIZE:
        return images
    size = (READING_SIZE, READING_SIZE)
    return nn.functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def _varied(pictures: Tensor) -> Tensor:
    n = len(pictures)
    pictures = torch.where(torch.rand(n, 1, 1, 1) < 0.5, pictures.flip(3), pictures)
    padded = nn.functional.pad(pictures, (_SHIFT,) * 4, mode="replicate")
    down, across = torch.randint(2 * _SHIFT + 1, (2,)).tolist()
    size = pictures.shape[-1]
    pictures = padded[:, :, down : down + size, across : across + size]
    brightness = _BRIGHTNESS * torch.randn(n, 1, 1, 1)
    return pictures + brightness + _NOISE * torch.randn_like(pictures)
