"""The field integrated along random rays of the bench head: one pass, field then integration, eager torch.

    pytest benchmarks/ops/bench_render_samples.py --benchmark-group-by=group

`samples_per_s` counts all samples, also those behind the early stop. `NERFAD_CPU_ISA` picks the instruction
set.
"""

import pytest
import torch

from nerfad import ops
from nerfad.bench.batch import Batch, colors_in_one_pass, field_fused, training_batch
from nerfad.ops import use_backend

N_RAYS = [1 << 12, 1 << 15]


def field_then_integration(b: Batch) -> torch.Tensor:
    return ops.composite(*field_fused(b), b.t_starts, b.t_ends, b.packed_info)[0]


def eager(b: Batch) -> torch.Tensor:
    with use_backend("reference"):
        return colors_in_one_pass(b)


CONTENDERS = {
    "one pass": colors_in_one_pass,
    "field then integration": field_then_integration,
    "eager torch": eager,
}


def measure(benchmark, contender: str, b: Batch, run) -> None:
    if contender == "eager torch" and b.n_rays > 1 << 12:
        pytest.skip("gigabytes")
    if contender != "eager torch" and b.n_rays == N_RAYS[0]:  # correct before fast
        torch.testing.assert_close(CONTENDERS[contender](b), eager(b), rtol=1e-4, atol=1e-4)
    benchmark.pedantic(run, rounds=3 if contender == "eager torch" else 10, warmup_rounds=1)
    fastest = benchmark.stats.stats.min
    benchmark.extra_info.update(samples_per_s=b.n_samples / fastest, threads=torch.get_num_threads())


@pytest.mark.benchmark(group="render-samples-fwd")
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("n_rays", N_RAYS)
def test_forward(benchmark, n_rays, contender):
    b = training_batch("cpu", n_rays)
    with torch.no_grad():
        measure(benchmark, contender, b, lambda: CONTENDERS[contender](b))


@pytest.mark.benchmark(group="render-samples-fwdbwd")
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("n_rays", N_RAYS)
def test_forward_and_backward(benchmark, n_rays, contender):
    b = training_batch("cpu", n_rays).with_gradients()
    grads = torch.randn(n_rays, 3, generator=torch.Generator().manual_seed(1))
    run = CONTENDERS[contender]
    measure(benchmark, contender, b, lambda: torch.autograd.grad(run(b), b.leaves(), grads))
