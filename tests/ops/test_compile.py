"""The public functions are traced by torch.compile as whole graphs, gradients included."""

import pytest
import torch

from nerfad import ops
from nerfad.ops import GridSpec, MLPSpec, freq_encode, grid_encode, sh_encode

SPEC = GridSpec(n_levels=3, finest_resolution=40, log2_table_size=9)
DENSITY, COLOR = MLPSpec(6, 2, 16, 1, 8), MLPSpec(7 + 16, 0, 16, 1, 3, "sigmoid")
BOX = torch.tensor([-0.5, -0.5, -0.5, 0.5, 0.5, 0.5])
OCCUPIED = (torch.full((16**3 // 8,), 255, dtype=torch.uint8), 16, 1 / 16)


def features(positions, dirs, table):
    return torch.cat(
        [grid_encode(positions, table, SPEC), sh_encode(dirs, 3), freq_encode(positions, 2)], 1
    ).sin()


def test_encodings_compile_without_a_graph_break():
    g = torch.Generator().manual_seed(0)
    positions = torch.rand(9, 3, generator=g).requires_grad_()
    dirs = torch.nn.functional.normalize(torch.randn(9, 3, generator=g), dim=1)
    table = torch.randn(SPEC.n_entries, 2, generator=g).requires_grad_()
    results = []
    for fn in (features, torch.compile(features, fullgraph=True, backend="aot_eager")):
        out = fn(positions, dirs, table)
        results.append((out, *torch.autograd.grad(out.sum(), (positions, table))))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def scene() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    rays_d = torch.randn(7, 3, generator=g) * 0.1 - torch.tensor([0.0, 0.0, 1.0])
    return {
        "rays_o": torch.tensor([[0.0, 0.0, 2.0]]).repeat(7, 1),
        "rays_d": torch.nn.functional.normalize(rays_d, dim=1),
        "table": torch.randn(SPEC.n_entries, 2, generator=g),
        "density": DENSITY.init(g),
        "color": COLOR.init(g),
        "cond": torch.randn(1, 2, generator=g),
    }


def composed(rays_o, rays_d, table, density, color, cond):
    """March, encode, both networks and integration, op by op."""
    near, far = ops.ray_aabb(rays_o, rays_d, BOX)
    samples = ops.march(rays_o, rays_d, near, far, BOX, *OCCUPIED)
    packed = (samples.t_starts, samples.t_ends, samples.packed_info)
    x = ops.grid_encode(ops.sample_positions(rays_o, rays_d, *packed, BOX), table, SPEC)
    h = ops.conditioned_mlp(x, density, DENSITY, cond)
    views = ops.sh_encode(rays_d)[samples.ray_indices.long()]
    rgbs = ops.conditioned_mlp(torch.cat([h[:, 1:], views], 1), color, COLOR)
    return ops.composite(h[:, 0].exp(), rgbs, *packed)[0]


def in_one_pass(rays_o, rays_d, table, density, color, cond):
    """The same with `radiance_field`."""
    near, far = ops.ray_aabb(rays_o, rays_d, BOX)
    samples = ops.march(rays_o, rays_d, near, far, BOX, *OCCUPIED)
    packed = (samples.t_starts, samples.t_ends, samples.packed_info)
    positions = ops.sample_positions(rays_o, rays_d, *packed, BOX)
    networks = (table, SPEC, density, DENSITY, color, COLOR)
    views = ops.sh_encode(rays_d)
    sigmas, rgbs = ops.radiance_field(positions, *networks, views, samples.ray_indices, cond)
    return ops.composite(sigmas, rgbs, *packed)[0]


def with_early_stop(rays_o, rays_d, table, density, color, cond):
    """The same with `render_samples`."""
    near, far = ops.ray_aabb(rays_o, rays_d, BOX)
    samples = ops.march(rays_o, rays_d, near, far, BOX, *OCCUPIED)
    packed = (samples.t_starts, samples.t_ends, samples.packed_info)
    positions = ops.sample_positions(rays_o, rays_d, *packed, BOX)
    networks = (table, SPEC, density, DENSITY, color, COLOR)
    return ops.render_samples(positions, *networks, ops.sh_encode(rays_d), *packed, None, cond)[0]


@pytest.mark.parametrize("draw", [composed, in_one_pass, with_early_stop])
def test_a_whole_field_compiles_without_a_graph_break(draw):
    results = []
    for fn in (draw, torch.compile(draw, fullgraph=True, backend="aot_eager")):
        inputs = scene()
        leaves = [inputs[name].requires_grad_() for name in ("table", "density", "color", "cond")]
        colors = fn(**inputs)
        results.append((colors, *torch.autograd.grad(colors.square().sum(), leaves)))
    assert results[0][0].abs().sum() > 0
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_the_renderer_compiles_without_a_graph_break():
    def draw(rays_o, rays_d, table, density, color, cond):
        near, far = ops.ray_aabb(rays_o, rays_d, BOX)
        networks = (table, SPEC, density, DENSITY, color, COLOR)
        return ops.render_rays_fused(rays_o, rays_d, near, far, BOX, *OCCUPIED, *networks, cond)

    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    for got, expected in zip(compiled(**scene()), draw(**scene()), strict=True):
        torch.testing.assert_close(got, expected)
