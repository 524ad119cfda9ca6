"""A frame of the bench head at a fixed pose: rendered anew, from a cache, and from a cache within a mask.

    pytest benchmarks/ops/bench_render_cached.py --benchmark-group-by=group

The mask is the lower third of the picture, where speech moves most; the bench head's condition moves
everything, so that its `max_error` is what a mask that does not fit costs.
"""

import pytest
import torch

from nerfad import ops
from nerfad.bench import scene

OF_CACHE = (
    *("rays_o", "rays_d", "t_min", "t_max", "aabb", "density_bitfield", "resolution", "step_size"),
    *("table", "grid_spec"),
)
OF_RENDER = ("sigma_params", "sigma_spec", "color_params", "color_spec", "cond", "background", "density_bias")
CONTENDERS = ["uncached", "cache of float32", "cache of float16", "cache within a mask"]


@pytest.fixture(scope="module")
def frame():
    arguments = scene.frame(512)
    return arguments, ops.render_rays_fused(**arguments)[0]


@pytest.mark.parametrize("contender", CONTENDERS)
def test_frame(benchmark, frame, contender):
    benchmark.group = "frame-512 at a fixed pose"
    arguments, expected = frame
    networks = {k: arguments[k] for k in OF_RENDER}
    if contender == "uncached":
        colors = benchmark.pedantic(lambda: ops.render_rays_fused(**arguments)[0], rounds=15)
    else:
        dtype = torch.float16 if "16" in contender else torch.float32
        cache = ops.render_cache(**{k: arguments[k] for k in OF_CACHE}, dtype=dtype)
        benchmark.extra_info.update(samples=cache.t_starts.shape[0], cache_bytes=cache.n_bytes)
        if "mask" in contender:
            mask = torch.arange(512 * 512) >= 512 * 512 * 2 // 3
            previous = ops.render_cached(cache, **{**networks, "cond": networks["cond"] + 0.1})
            colors = benchmark.pedantic(
                lambda: ops.render_cached_within(mask, previous, cache, **networks)[0], rounds=15
            )
        else:
            colors = benchmark.pedantic(lambda: ops.render_cached(cache, **networks)[0], rounds=15)
    error = colors - expected
    if "mask" not in contender:  # correct before fast; a mask's error is measured instead
        torch.testing.assert_close(colors, expected, rtol=0, atol=2e-3)
    benchmark.extra_info.update(
        max_error=float(error.abs().max()),
        psnr=float(-10 * error.square().mean().clamp_min(1e-12).log10()),
        frames_per_s=1 / benchmark.stats.stats.min,
        threads=torch.get_num_threads(),
    )


@pytest.mark.parametrize("contender", ["one encoding", "one condition at a time"])
def test_conditions(benchmark, contender):
    benchmark.group = "65536 points under 4 conditions"
    arguments = scene.frame(16)
    field = [arguments[k] for k in ("table", "grid_spec", "sigma_params", "sigma_spec")]
    g = torch.Generator().manual_seed(0)
    positions = torch.rand(65536, 3, generator=g)
    cond = torch.randn(4, scene.SIGMA.d_cond, generator=g)
    one_by_one = [c[None] for c in cond]
    run = {
        "one encoding": lambda: ops.field_conditions(positions, *field, cond),
        "one condition at a time": lambda: torch.cat(
            [ops.field_conditions(positions, *field, c) for c in one_by_one]
        ),
    }
    with torch.no_grad():
        values = benchmark.pedantic(run[contender], rounds=10, warmup_rounds=1)
        torch.testing.assert_close(values, run["one encoding"]())
