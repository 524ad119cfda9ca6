"""A whole frame of the bench head: the fused renderer, the same kernels one by one, and the reference.

pytest benchmarks/ops/bench_render_rays_fused.py --benchmark-group-by=group -k 256
"""

import dataclasses

import pytest
import torch

from nerfad import ops
from nerfad.bench import scene
from nerfad.ops.reference.render_rays_fused import render_rays_fused as reference

CONTENDERS = ["fused", "fused, half table", "kernels one by one", "eager torch"]


def one_by_one(**a) -> torch.Tensor:
    """What the fused renderer replaces, on the native ops; the view is the colour network's condition."""
    rays = (a["rays_o"], a["rays_d"])
    samples = ops.march(
        *rays, *(a[k] for k in ("t_min", "t_max", "aabb", "density_bitfield", "resolution", "step_size"))
    )
    positions = ops.sample_positions(*rays, samples.t_starts, samples.t_ends, samples.packed_info, a["aabb"])
    features = ops.grid_encode(positions, a["table"], a["grid_spec"])
    h = ops.conditioned_mlp(features, a["sigma_params"], a["sigma_spec"], a["cond"])
    sigmas = (h[:, 0] + a["density_bias"]).clamp(-15, 15).exp()
    color_net = dataclasses.replace(a["color_spec"], d_in=15, d_cond=16)
    views = ops.sh_encode(a["rays_d"], 4)
    rgbs = ops.conditioned_mlp(
        h[:, 1:].contiguous(), a["color_params"], color_net, views, samples.ray_indices
    )
    packed = (samples.t_starts, samples.t_ends, samples.packed_info)
    return ops.composite(sigmas, rgbs, *packed, a["background"])[0]


@pytest.fixture(scope="module", params=[256, 512], ids=["256", "512"])
def frame(request):
    arguments = scene.frame(request.param)
    return request.param, arguments, scene.counts(arguments), ops.render_rays_fused(**arguments)[0]


@pytest.mark.parametrize("contender", CONTENDERS)
def test_frame(benchmark, frame, contender):
    size, arguments, counts, expected = frame
    if contender == "eager torch" and size > 256:
        pytest.skip("several seconds and gigabytes")
    benchmark.group = f"frame-{size}"
    if "half" in contender:
        arguments = {**arguments, "table": arguments["table"].half()}
    render = {
        "kernels one by one": lambda: one_by_one(**arguments),
        "eager torch": lambda: reference(**arguments)[0],
    }.get(contender, lambda: ops.render_rays_fused(**arguments)[0])
    with torch.no_grad():
        colors = benchmark.pedantic(render, rounds=1 if contender == "eager torch" else 15)
    # Correct before fast.
    torch.testing.assert_close(colors, expected, rtol=0, atol=2e-2 if "half" in contender else 2e-3)
    fastest = benchmark.stats.stats.min
    benchmark.extra_info.update(
        **dataclasses.asdict(counts),
        rays_per_s=counts.rays / fastest,
        hit_rays_per_s=counts.rays_hit / fastest,
        frames_per_s=1 / fastest,
        threads=torch.get_num_threads(),
    )
