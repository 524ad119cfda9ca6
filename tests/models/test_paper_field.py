"""The paper's field: sizes, sampling by inverse CDF, eq. 8 by quadrature, gradients, the same contract."""

import inspect
import math

import pytest
import torch
from small_identity import CAMERA, SMALL, encoder, references, turned

from nerfad.config import ConfigError
from nerfad.models.identity_features import OFFSET_PENALTY
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity
from nerfad.models.paper_field import (
    PaperField,
    PaperFieldConfig,
    PaperRenderer,
    SharedInputLinear,
    inverse_cdf,
    stratified,
)
from nerfad.models.renderer import HeadRenderer

TINY = PaperFieldConfig(position_octaves=4, width=16, color_width=8, n_coarse=8, n_fine=12)


def rays(n: int = 24, seed: int = 0):
    pixels = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed)) * 8 + 5  # all meet the box
    rays_o, rays_d = CAMERA.rays(torch.from_numpy(turned(0.2)), pixels)
    return rays_o.contiguous(), rays_d.contiguous()


def tiny_renderer(identity: bool = True, **changes) -> PaperRenderer:
    torch.manual_seed(0)
    source = PointIdentity(encoder(SMALL), references(), projected=False) if identity else None
    return PaperRenderer(TINY, n_cond=5, identity=source)


def test_the_papers_sizes():
    """8 x 256 with a skip at layer 5, inputs 63 + 256 + 256, colour branch 3 x 128 with 27 numbers of d."""
    field = PaperField(PaperFieldConfig(), n_cond=256, n_identity=256)
    inputs, trunk = 63 + 256 + 256, 256 * 256
    weights = inputs * 256 + 4 * trunk + (256 + inputs) * 256 + 2 * trunk  # layers 0 to 7
    weights += 256 + trunk  # density, code
    weights += (256 + 27) * 128 + 2 * 128 * 128 + 128 * 3
    biases = 8 * 256 + 1 + 256 + 3 * 128 + 3
    assert sum(p.numel() for p in field.parameters()) == weights + biases
    assert (PaperFieldConfig().n_coarse, PaperFieldConfig().n_fine) == (64, 128)


def test_bfloat16_rounds_what_is_multiplied_and_nothing_else():
    """Colours and gradients are those of float32 up to rounding, and have its type."""
    exact, rounded = tiny_renderer(), tiny_renderer()
    rounded.coarse.precision = rounded.fine.precision = "bfloat16"
    cond, background = torch.randn(1, 5), torch.rand(24, 3)
    results = []
    for renderer in (exact, rounded):
        out = renderer(*rays(), cond, None, background)
        (out.colors.square().mean() + out.coarse_colors.square().mean()).backward()
        results.append((out.colors, renderer.fine.first.own.weight.grad))
    for one, other in zip(*results, strict=True):
        assert other.dtype == torch.float32
        error = ((other - one).norm() / one.norm()).item()
        assert 0 < error < 0.05
    assert PaperRenderer(TINY, 5, None, precision="bfloat16").fine.precision == "bfloat16"


def test_shared_inputs_are_concatenated_inputs():
    torch.manual_seed(0)
    layer = SharedInputLinear(4, 3, 6)
    x, shared, index = torch.randn(10, 4), torch.randn(2, 3), torch.arange(10) % 2
    weight = torch.cat([layer.own.weight, layer.shared.weight], 1)
    together = torch.cat([x, shared[index]], 1) @ weight.T + layer.own.bias
    torch.testing.assert_close(layer(x, shared, index.int()), together)
    torch.testing.assert_close(layer(x[:1], shared[:1], None), together[:1])


def test_strata_hold_one_sample_each():
    low, high = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 6.0])
    for jitter in (None, torch.tensor([0.0, 0.93])):
        t = stratified(low, high, 16, jitter)
        part = ((t - low[:, None]) / (high - low)[:, None] * 16).floor()
        assert torch.equal(part, torch.arange(16.0).expand(2, 16))
    torch.testing.assert_close(stratified(low, high, 4, None)[1], torch.tensor([2.5, 3.5, 4.5, 5.5]))


def test_samples_are_uniform_within_their_strata():
    jitter = torch.rand(20000, generator=torch.Generator().manual_seed(0))
    within = stratified(torch.zeros(20000), torch.ones(20000), 5, jitter) * 5 - torch.arange(5.0)
    assert kolmogorov_distance(within, lambda x: x) < 1.63 / math.sqrt(20000)  # 1 % level


def kolmogorov_distance(samples: torch.Tensor, cdf) -> float:
    """Largest distance of each column's empirical distribution from a cdf."""
    ordered = samples.sort(0).values
    empirical = (torch.arange(len(samples), dtype=samples.dtype) + 0.5)[:, None] / len(samples)
    return float((cdf(ordered) - empirical).abs().max())


def test_inverse_cdf_in_closed_form():
    edges = torch.tensor([[0.0, 1.0, 1.5, 4.0]], dtype=torch.float64)
    weights = torch.tensor([[2.0, 0.0, 6.0]], dtype=torch.float64)
    u = torch.tensor([[0.0, 0.125, 0.25, 0.625, 1.0]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 0.5, 1.0, 2.75, 4.0]], dtype=torch.float64)
    got = inverse_cdf(edges, weights, u)
    got[0, 2] = got[0, 2].clamp(max=1.0)  # mass is almost 0 between 1 and 1.5: any of these is right
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)


def test_inverse_cdf_inverts_the_cdf():
    g = torch.Generator().manual_seed(0)
    edges = torch.rand(7, 10, generator=g, dtype=torch.float64).sort(1).values
    weights = torch.rand(7, 9, generator=g, dtype=torch.float64)
    u = torch.rand(7, 50, generator=g, dtype=torch.float64).sort(1).values
    t = inverse_cdf(edges, weights, u)
    assert (t.diff(dim=1) >= 0).all()
    mass = (weights + 1e-5) / (weights + 1e-5).sum(1, keepdim=True)
    share = ((t[:, :, None] - edges[:, None, :-1]) / edges.diff(dim=1)[:, None]).clamp(0, 1)
    torch.testing.assert_close((share * mass[:, None]).sum(2), u, rtol=1e-9, atol=1e-9)


def test_samples_follow_the_density():
    edges, weights = torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[3.0, 1.0]])
    u = torch.rand(1, 20000, generator=torch.Generator().manual_seed(0))
    t = inverse_cdf(edges, weights, u)[0, :, None]
    cdf = lambda x: torch.where(x < 1, 0.75 * x, 0.75 + 0.125 * (x - 1))  # noqa: E731
    assert kolmogorov_distance(t, cdf) < 1.63 / math.sqrt(20000)


def test_a_ray_that_meets_nothing_is_sampled_evenly():
    edges = torch.linspace(0, 1, 6)[None]
    u = torch.tensor([[0.1, 0.5, 0.9]])
    torch.testing.assert_close(inverse_cdf(edges, torch.zeros(1, 5), u), u)


def test_colours_are_the_quadrature_of_equation_8():
    renderer = tiny_renderer(identity=False)
    rays_o, rays_d = rays()
    cond, background = torch.randn(1, 5), torch.rand(24, 3)
    out = renderer(rays_o, rays_d, cond, None, background)
    n = TINY.n_coarse + TINY.n_fine
    t = ((out.positions - rays_o.repeat_interleave(n, 0)) * rays_d.repeat_interleave(n, 0)).sum(1).view(24, n)
    index = torch.arange(24).repeat_interleave(n)
    sigmas, rgbs = renderer.fine(out.positions, rays_d, index, cond, None)
    sigmas, rgbs = sigmas.view(24, n).double(), rgbs.view(24, n, 3).double()
    leaves = torch.where(rays_d > 0, (1 - rays_o) / rays_d, -rays_o / rays_d).amin(1)
    steps = torch.cat([t.diff(dim=1), (leaves - t[:, -1])[:, None]], 1)
    reached = torch.exp(-torch.cumsum(sigmas * steps, 1) + sigmas * steps)
    weights = reached * (1 - torch.exp(-sigmas * steps))
    colors = (weights[..., None] * rgbs).sum(1) + (1 - weights.sum(1, keepdim=True)) * background
    assert 0.05 < out.opacities.mean() < 0.95
    torch.testing.assert_close(out.colors.double(), colors, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.weights.double(), weights.flatten(), rtol=1e-3, atol=1e-5)


def test_constant_density_is_the_exact_integral():
    renderer = tiny_renderer(identity=False)
    for field in (renderer.coarse, renderer.fine):
        torch.nn.init.zeros_(field.density.weight)
        torch.nn.init.constant_(field.density.bias, math.log(2.0) - TINY.density_bias)
        torch.nn.init.zeros_(field.color.weight)
        torch.nn.init.zeros_(field.color.bias)
    straight = torch.tensor([[0.5, 0.5, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    out = renderer(*straight, torch.zeros(1, 5), None, torch.zeros(1, 3))
    first_t = 2.0 + 0.5 / TINY.n_coarse  # nothing is sampled before the first stratum's middle
    reached = math.exp(-2.0 * (3.0 - first_t))
    torch.testing.assert_close(out.opacities, torch.tensor([1 - reached]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(out.colors, torch.full((1, 3), 0.5 * (1 - reached)), rtol=1e-3, atol=1e-3)


def test_fine_samples_gather_where_the_coarse_network_finds_matter():
    renderer = tiny_renderer(identity=False)

    def wall(positions, rays_d, ray_indices, cond, cond_index, identity=None):
        return 100.0 * ((positions[:, 2] - 0.5).abs() < 0.07), torch.ones(len(positions), 3)

    renderer.coarse.forward = wall
    straight = torch.tensor([[0.5, 0.5, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    out = renderer(*straight, torch.zeros(1, 5), None, torch.zeros(1, 3))
    near = (out.positions[:, 2] - 0.5).abs() < 0.13
    assert near.sum() >= TINY.n_fine


def test_every_parameter_gets_a_gradient():
    renderer = tiny_renderer()
    rays_o, rays_d = rays()
    cond = torch.randn(2, 5, requires_grad=True)
    index = (torch.arange(24) % 2).int()
    jitter = torch.rand(24)
    out = renderer(rays_o, rays_d, cond, index, torch.zeros(24, 3), jitter)
    loss = out.colors.square().sum() + out.coarse_colors.square().sum() + out.offset_penalty
    loss.backward()
    for name, parameter in renderer.named_parameters():
        if name.startswith("identity.encoder.projection"):
            continue  # the paper's field sees all of f_id
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert cond.grad.abs().sum(1).min() > 0


def test_offset_penalty_is_in_square_pixels():
    renderer = tiny_renderer()
    with torch.no_grad():
        renderer.identity.encoder.offset_net.params.zero_()
        renderer.identity.encoder.offset_net.layers()[-1][1].copy_(torch.tensor([3.0, 4.0]))
    out = renderer(*rays(), torch.zeros(1, 5), None, torch.zeros(24, 3))
    moved = (10 * torch.tanh(torch.tensor([0.3, 0.4]))).square().sum()
    n_samples = 24 * (TINY.n_coarse + TINY.n_fine)
    assert len(out.weights) == n_samples
    least, most = (1 - out.weights.mean()) * moved, 2 * moved
    assert OFFSET_PENALTY * least < out.offset_penalty < OFFSET_PENALTY * most


def test_it_is_called_like_the_head_renderer():
    for name in ("forward", "draw"):
        ours = inspect.signature(getattr(PaperRenderer, name)).parameters
        assert list(ours) == list(inspect.signature(getattr(HeadRenderer, name)).parameters)


@pytest.mark.parametrize("identity", [True, False])
def test_drawing_is_the_forward_pass(identity):
    renderer = tiny_renderer(identity)
    rays_o, rays_d = rays()
    cond, background = torch.randn(1, 5), torch.rand(24, 3)
    out = renderer(rays_o, rays_d, cond, None, background)
    colors, opacities, depths = renderer.draw(rays_o, rays_d, cond, background)
    torch.testing.assert_close(colors, out.colors)
    torch.testing.assert_close(opacities, out.opacities)
    torch.testing.assert_close(depths, out.depths)
    assert (renderer.draw(rays_o, rays_d, cond, background, 2.0)[1] > opacities).all()


def test_rays_that_miss_show_the_background():
    renderer = tiny_renderer()
    rays_o, rays_d = rays(6)
    rays_d[1:3] = -rays_d[1:3]
    background = torch.rand(6, 3)
    out = renderer(rays_o, rays_d, torch.zeros(1, 5), None, background)
    assert torch.equal(out.colors[1:3], background[1:3]) and not out.opacities[1:3].any()
    away = renderer(rays_o[1:3], rays_d[1:3], torch.zeros(1, 5), None, background[1:3])
    assert torch.equal(away.colors, background[1:3]) and len(away.weights) == 0
    assert renderer(rays_o[:0], rays_d[:0], torch.zeros(1, 5), None, background[:0]).colors.shape == (0, 3)


def test_identity_and_condition_matter():
    renderer = tiny_renderer()
    rays_o, rays_d = rays()
    draw = lambda cond: renderer.draw(rays_o, rays_d, cond, torch.zeros(24, 3))[0]  # noqa: E731
    before = draw(torch.zeros(1, 5))
    assert (draw(torch.ones(1, 5)) - before).abs().max() > 1e-3
    assert torch.equal(draw(torch.zeros(1, 5)), before)
    renderer.identity = PointIdentity(renderer.identity.encoder, references(seed=5), projected=False)
    assert (draw(torch.zeros(1, 5)) - before).abs().max() > 1e-6


def test_baked_features_serve_as_well():
    baked = BakedIdentity(PointIdentity(encoder(SMALL), references()), resolution=4)
    out = PaperRenderer(TINY, 5, baked)(*rays(), torch.zeros(1, 5), None, torch.zeros(24, 3))
    assert out.offset_penalty == 0 and out.colors.shape == (24, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(skip=8), "paper_field.skip must be at least 1 and less than"),
        (dict(n_hidden_color=0), "paper_field.n_hidden_color"),
        (dict(n_coarse=1), "paper_field.n_coarse"),
    ],
)
def test_config_rejects(settings, message):
    with pytest.raises(ConfigError, match=message):
        PaperFieldConfig(**settings)
