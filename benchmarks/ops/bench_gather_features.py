"""Bilinear gather of feature maps, kernels against plain torch and torch's own grid_sample.

pytest benchmarks/ops/bench_gather_features.py
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nerfad.ops import gather_features
from nerfad.ops.reference import gather_features as reference

N_VIEWS, SIZE, N_CHANNELS, N_POINTS = 4, 128, 128, 16384


def grid_sample(maps: Tensor, pixels: Tensor) -> Tensor:
    grid = (pixels / (SIZE - 1) * 2 - 1)[:, :, None]
    sampled = F.grid_sample(maps.permute(0, 3, 1, 2), grid, padding_mode="border", align_corners=True)
    return sampled[..., 0].transpose(1, 2)


CONTENDERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "native": gather_features,
    "reference": reference.gather_features,
    "grid_sample": grid_sample,
}


def inputs(requires_grad: bool) -> tuple[Tensor, Tensor]:
    """Points along rays: neighbours project to neighbouring pixels, as they do in a render."""
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(N_VIEWS, SIZE, SIZE, N_CHANNELS, generator=g)
    starts = torch.rand(N_VIEWS, N_POINTS // 32, 1, 2, generator=g) * SIZE
    steps = torch.rand(N_VIEWS, N_POINTS // 32, 1, 2, generator=g) - 0.5
    pixels = (starts + steps * torch.arange(32.0)[:, None]).reshape(N_VIEWS, N_POINTS, 2)
    return maps.requires_grad_(requires_grad), pixels.requires_grad_(requires_grad)


@pytest.mark.parametrize("name", CONTENDERS)
@pytest.mark.benchmark(group="gather-fwd")
def test_fwd(benchmark, name):
    maps, pixels = inputs(requires_grad=False)
    # grid_sample's positions in [-1, 1] are rounded to a few millionths of the map's side.
    expected = reference.gather_features(maps, pixels)
    torch.testing.assert_close(CONTENDERS[name](maps, pixels), expected, rtol=1e-4, atol=2e-4)
    benchmark.pedantic(lambda: CONTENDERS[name](maps, pixels), rounds=15, warmup_rounds=2)


@pytest.mark.parametrize("name", CONTENDERS)
@pytest.mark.benchmark(group="gather-fwdbwd")
def test_fwdbwd(benchmark, name):
    maps, pixels = inputs(requires_grad=True)
    grad = torch.randn(N_VIEWS, N_POINTS, N_CHANNELS, generator=torch.Generator().manual_seed(1))
    benchmark.pedantic(
        lambda: torch.autograd.grad(CONTENDERS[name](maps, pixels), (maps, pixels), grad),
        rounds=8,
        warmup_rounds=1,
    )
