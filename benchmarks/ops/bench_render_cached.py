"""A frame of the bench head at a fixed pose: rendered anew, from a cache, and from a cache within a mask.

    pytest benchmarks/ops/bench_render_cached.py --benchmark-group-by=group

The condition acts on the lower third of the head. The mask is measured under other conditions than the
frame's; its error against the frame rendered anew is in `extra_info`, as is its share of the rays.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from nerfad import ops
from nerfad.bench import scene
from nerfad.models.sensitivity import Drawn, SensitivityMask

SIZE = 512
N_CONDITIONS = 20
MIN_PSNR = 45.0
OF_CACHE = (
    *("rays_o", "rays_d", "t_min", "t_max", "aabb", "density_bitfield", "resolution", "step_size"),
    *("table", "grid_spec"),
)
OF_NETWORKS = ("sigma_params", "sigma_spec", "color_params", "color_spec", "density_bias")
CONTENDERS = ["uncached", "cache of float32", "cache of float16", "cache within a mask"]


@dataclasses.dataclass(frozen=True)
class CachedFrame:
    """The picture's rays in a cache."""

    cache: ops.RenderCache
    networks: dict
    background: Tensor

    def draw(self, cond: Tensor) -> Drawn:
        return ops.render_cached(self.cache, **self.networks, cond=cond, background=self.background)

    def select(self, rays: Tensor) -> CachedFrame:
        return CachedFrame(self.cache.select(rays), self.networks, self.background[rays])


@pytest.fixture(scope="module")
def frame():
    arguments = scene.talking_frame(SIZE)
    return arguments, ops.render_rays_fused(**arguments, image_width=SIZE)[0]


@pytest.mark.parametrize("contender", CONTENDERS)
def test_frame(benchmark, frame, contender):
    benchmark.group = f"frame-{SIZE} at a fixed pose"
    arguments, expected = frame
    if contender == "uncached":
        colors = benchmark.pedantic(
            lambda: ops.render_rays_fused(**arguments, image_width=SIZE)[0], rounds=15, warmup_rounds=1
        )
    else:
        dtype = torch.float16 if "16" in contender else torch.float32
        cache = ops.render_cache(**{k: arguments[k] for k in OF_CACHE}, dtype=dtype, image_width=SIZE)
        view = CachedFrame(cache, {k: arguments[k] for k in OF_NETWORKS}, arguments["background"])
        benchmark.extra_info.update(samples=cache.t_starts.shape[0], cache_bytes=cache.n_bytes)
        if "mask" in contender:
            g = torch.Generator().manual_seed(1)
            others = torch.randn(N_CONDITIONS, scene.SIGMA.d_cond, generator=g) * 0.3
            view = SensitivityMask.measure(view, others, SIZE)
            benchmark.extra_info.update(share_drawn=view.share)
        colors = benchmark.pedantic(lambda: view.draw(arguments["cond"])[0], rounds=15, warmup_rounds=1)
    error = colors - expected
    psnr = float(-10 * error.square().mean().clamp_min(1e-12).log10())
    if "mask" in contender:  # correct before fast
        assert psnr > MIN_PSNR
    else:
        torch.testing.assert_close(colors, expected, rtol=0, atol=2e-3)
    benchmark.extra_info.update(
        max_error=float(error.abs().max()),
        psnr=psnr,
        frames_per_s=1 / benchmark.stats.stats.min,
        rays_per_s=SIZE**2 / benchmark.stats.stats.min,
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
