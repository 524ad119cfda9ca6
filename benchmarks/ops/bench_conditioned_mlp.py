"""The conditioned MLP, kernels against the plain-torch reference, on the bench head's networks.

    pytest benchmarks/ops/bench_conditioned_mlp.py --benchmark-group-by=group

`gflops` counts the products with the condition folded; backward counts four passes (forward, its
recomputation, two products per layer).
"""

import pytest
import torch

from nerfad import ops
from nerfad.bench.scene import COLOR, SIGMA
from nerfad.ops import MLPSpec

N_SAMPLES = 48 * 1024
CASES = {
    "density, 4 conditions": (SIGMA, 4),
    "colour, a direction per ray": (MLPSpec(15, 16, 64, 2, 3, "sigmoid"), 4096),
    "colour": (COLOR, 0),
    "width 128": (MLPSpec(32, 64, 128, 3, 16), 4),
}
BACKENDS = ["native", "reference"]


def make_inputs(spec: MLPSpec, n_cond: int) -> dict:
    g = torch.Generator().manual_seed(0)
    inputs = dict(x=torch.randn(N_SAMPLES, spec.d_in, generator=g), params=spec.init(g), spec=spec)
    if n_cond:
        inputs["cond"] = torch.randn(n_cond, spec.d_cond, generator=g)
        inputs["cond_index"] = (torch.arange(N_SAMPLES) * n_cond // N_SAMPLES).int()
    return inputs


def describe(benchmark, spec: MLPSpec, passes: int) -> None:
    products = sum(out * into for out, into in spec.layer_shapes) - spec.d_cond * spec.d_hidden
    fastest = benchmark.stats.stats.min
    benchmark.extra_info.update(
        samples_per_s=N_SAMPLES / fastest,
        gflops=2e-9 * passes * products * N_SAMPLES / fastest,
        threads=torch.get_num_threads(),
    )


@pytest.mark.benchmark(group="mlp-fwd")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_forward(benchmark, case, backend):
    spec, n_cond = CASES[case]
    inputs = make_inputs(spec, n_cond)
    with ops.use_backend(backend), torch.no_grad():
        benchmark(lambda: ops.conditioned_mlp(**inputs))
    describe(benchmark, spec, 1)


@pytest.mark.benchmark(group="mlp-fwdbwd")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_forward_and_backward(benchmark, case, backend):
    spec, n_cond = CASES[case]
    inputs = make_inputs(spec, n_cond)
    leaves = [inputs[k].requires_grad_() for k in ("x", "params", "cond") if k in inputs]
    grad = torch.randn(N_SAMPLES, spec.d_out, generator=torch.Generator().manual_seed(1))
    with ops.use_backend(backend):
        benchmark(lambda: torch.autograd.grad(ops.conditioned_mlp(**inputs), leaves, grad))
    describe(benchmark, spec, 4)
