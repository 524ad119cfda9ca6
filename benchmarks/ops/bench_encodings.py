"""Spherical harmonics and frequency encoding, kernels against plain torch.

pytest benchmarks/ops/bench_encodings.py
"""

import pytest
import torch

from nerfad.ops import freq_encode, sh_encode, use_backend

N_POINTS = 65536


def inputs(requires_grad: bool) -> torch.Tensor:
    points = torch.randn(N_POINTS, 3, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(points, dim=1).requires_grad_(requires_grad)


OPS = {"sh": lambda x: sh_encode(x, 4), "freq": lambda x: freq_encode(x, 10)}


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", OPS)
@pytest.mark.benchmark(group="encode-fwd")
def test_fwd(benchmark, name, backend):
    x = inputs(requires_grad=False)
    with use_backend(backend):
        benchmark.pedantic(lambda: OPS[name](x), rounds=15, warmup_rounds=2)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", OPS)
@pytest.mark.benchmark(group="encode-fwdbwd")
def test_fwdbwd(benchmark, name, backend):
    x = inputs(requires_grad=True)
    grad = torch.randn(OPS[name](x).shape, generator=torch.Generator().manual_seed(1))
    with use_backend(backend):
        benchmark.pedantic(lambda: torch.autograd.grad(OPS[name](x), x, grad), rounds=15, warmup_rounds=2)
