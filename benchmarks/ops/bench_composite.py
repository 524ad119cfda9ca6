"""Volume integration of packed samples, kernels against plain torch.

pytest benchmarks/ops/bench_composite.py
"""

import pytest
import torch

from nerfad.ops import composite, use_backend

N_RAYS, SAMPLES_PER_RAY = 4096, 16


def inputs() -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 2 * SAMPLES_PER_RAY, (N_RAYS,), generator=g)
    n = int(counts.sum())
    starts = torch.arange(n, dtype=torch.float32) * 0.01
    packed_info = torch.stack([torch.cumsum(counts, 0) - counts, counts], 1)
    sigmas = (torch.rand(n, generator=g) * 20).requires_grad_()
    rgbs = torch.rand(n, 3, generator=g).requires_grad_()
    return sigmas, rgbs, starts, starts + 0.01, packed_info, torch.rand(N_RAYS, 3, generator=g)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.benchmark(group="composite")
def test_fwd(benchmark, backend):
    arguments = inputs()
    with use_backend(backend), torch.no_grad():
        benchmark.pedantic(lambda: composite(*arguments), rounds=15, warmup_rounds=2)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.benchmark(group="composite-fwdbwd")
def test_fwdbwd(benchmark, backend):
    arguments = inputs()

    def step() -> None:
        colors, opacities, *_ = composite(*arguments)
        torch.autograd.grad(colors.sum() + opacities.sum(), arguments[:2])

    with use_backend(backend):
        benchmark.pedantic(step, rounds=15, warmup_rounds=2)
