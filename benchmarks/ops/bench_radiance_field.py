"""The field of the bench head on samples of its rays: fused, the same kernels one by one, and eager torch.

    pytest benchmarks/ops/bench_radiance_field.py --benchmark-group-by=group

`gflops` counts the networks' products with the condition folded; backward counts four passes (forward, its
recomputation, two products per layer). `NERFAD_CPU_ISA` picks the instruction set.
"""

import pytest
import torch

from nerfad import ops
from nerfad.bench import scene
from nerfad.ops import MLPSpec

SIZES = [1 << 12, 1 << 16, 1 << 20]
LEAVES = ("table", "sigma_params", "color_params", "cond")
COLOR = MLPSpec(15, 16, 64, 2, 3, "sigmoid")  # the view as its condition: once per ray


def make_inputs(n: int) -> dict:
    """n samples in the order of the rays that hit the head, over again where they do not suffice."""
    frame = scene.frame(512)
    rays = (frame["rays_o"], frame["rays_d"])
    samples = ops.march(
        *rays, *(frame[k] for k in ("t_min", "t_max", "aabb", "density_bitfield", "resolution", "step_size"))
    )
    packed = (samples.t_starts, samples.t_ends, samples.packed_info)
    positions = ops.sample_positions(*rays, *packed, frame["aabb"])
    chosen = torch.arange(n) % positions.shape[0]
    hit, ray = torch.unique_consecutive(samples.ray_indices[chosen], return_inverse=True)
    return dict(
        positions=positions[chosen],
        views=ops.sh_encode(frame["rays_d"][hit.long()], 4),
        ray_indices=ray.int(),
        color_spec=COLOR,
        **{k: frame[k] for k in ("table", "grid_spec", "sigma_params", "sigma_spec", "color_params", "cond")},
        density_bias=frame["density_bias"],
    )


def one_by_one(**a) -> tuple[torch.Tensor, torch.Tensor]:
    """What the fused field replaces, on the native ops."""
    features = ops.grid_encode(a["positions"], a["table"], a["grid_spec"])
    h = ops.conditioned_mlp(features, a["sigma_params"], a["sigma_spec"], a["cond"])
    sigmas = (h[:, 0] + a["density_bias"]).clamp(-15, 15).exp()
    code = h[:, 1:].contiguous()
    return sigmas, ops.conditioned_mlp(code, a["color_params"], a["color_spec"], a["views"], a["ray_indices"])


def eager(**a) -> tuple[torch.Tensor, torch.Tensor]:
    with ops.use_backend("reference"):
        return ops.radiance_field(**a)


CONTENDERS = {"fused": ops.radiance_field, "kernels one by one": one_by_one, "eager torch": eager}


def measure(benchmark, contender: str, n: int, run, passes: int) -> None:
    if contender == "eager torch" and n > 1 << 16:
        pytest.skip("gigabytes")
    benchmark.pedantic(run, rounds=3 if contender == "eager torch" else 10, warmup_rounds=1)
    products = sum(out * into for spec in (scene.SIGMA, COLOR) for out, into in spec.layer_shapes) - 64 * (
        scene.SIGMA.d_cond + COLOR.d_cond
    )
    fastest = benchmark.stats.stats.min
    benchmark.extra_info.update(
        samples_per_s=n / fastest,
        gflops=2e-9 * passes * products * n / fastest,
        threads=torch.get_num_threads(),
    )


@pytest.mark.benchmark(group="field-fwd")
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("n", SIZES)
def test_forward(benchmark, n, contender):
    inputs, run = make_inputs(n), CONTENDERS[contender]
    with torch.no_grad():
        # Correct before fast.
        few = {**inputs, "positions": inputs["positions"][:999], "ray_indices": inputs["ray_indices"][:999]}
        for a, b in zip(run(**few), eager(**few), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        measure(benchmark, contender, n, lambda: run(**inputs), 1)


@pytest.mark.benchmark(group="field-fwdbwd")
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("n", SIZES)
def test_forward_and_backward(benchmark, n, contender):
    inputs, run = make_inputs(n), CONTENDERS[contender]
    leaves = [inputs[k].requires_grad_() for k in LEAVES]
    g = torch.Generator().manual_seed(1)
    grads = torch.randn(n, generator=g), torch.randn(n, 3, generator=g)
    measure(benchmark, contender, n, lambda: torch.autograd.grad(run(**inputs), leaves, grads), 4)
