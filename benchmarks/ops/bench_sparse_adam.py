"""The optimiser step on a hash grid's table: sparse Adam against the reference and torch's fused Adam.

    pytest benchmarks/ops/bench_sparse_adam.py

The table is that of the reference net (1.8 M floats); 3, 30 or 100 % of its gradients are not zero, in
runs of 16.
"""

import pytest
import torch

from nerfad.ops import GridSpec, sparse_adam_, use_backend

SHAPE = (GridSpec().n_entries, 2)


@pytest.fixture(params=[0.03, 0.3, 1.0], ids=["3%", "30%", "100%"])
def state(request):
    g = torch.Generator().manual_seed(0)
    lines = torch.rand(SHAPE[0] * SHAPE[1] // 16, 1, generator=g) < request.param
    grad = (torch.randn(lines.shape[0], 16, generator=g) * lines).reshape(SHAPE)
    return torch.randn(SHAPE, generator=g), grad, torch.zeros(SHAPE), torch.zeros(SHAPE)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.benchmark(group="sparse-adam")
def test_sparse_adam(benchmark, state, backend):
    with use_backend(backend):
        benchmark.pedantic(lambda: sparse_adam_(*state, step=10, lr=1e-3), rounds=15, warmup_rounds=2)


@pytest.mark.benchmark(group="sparse-adam")
def test_torch_fused_adam(benchmark, state):
    parameter = torch.nn.Parameter(state[0])
    parameter.grad = state[1]
    adam = torch.optim.Adam([parameter], lr=1e-3, betas=(0.9, 0.99), fused=True)
    benchmark.pedantic(adam.step, rounds=15, warmup_rounds=2)
