"""The hash-grid field with identity features: same contract as TalkingField and HeadRenderer; gradients."""

from dataclasses import replace

import pytest
import torch
from small_identity import CAMERA, HEARING, SMALL, encoder, points, references, turned

from nerfad.config import ConfigError, FieldConfig, OccupancyConfig
from nerfad.models.identity_field import IdentityField, IdentityHeadRenderer
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity
from nerfad.models.still import StillHead

N_COND = HEARING.n_audio
FIELD = FieldConfig(n_levels=4, log2_table_size=10, finest_resolution=32, width=16)


def small_field(config=SMALL, baked: bool = False) -> IdentityField:
    identity = PointIdentity(encoder(config), references())
    form = BakedIdentity(identity, 8, n_features=FIELD.n_features) if baked else identity
    field = IdentityField(FIELD, N_COND, form)
    with torch.no_grad():
        field.encoding.table.uniform_(-0.5, 0.5)
    return field


def small_renderer(field: IdentityField) -> IdentityHeadRenderer:
    return IdentityHeadRenderer(field, OccupancyConfig(resolution=16, n_steps=32))


def rays():
    pixels = torch.cartesian_prod(torch.arange(6.0, 14.0), torch.arange(5.0, 13.0))
    rays_o, rays_d = CAMERA.rays(torch.from_numpy(turned(0.1)), pixels)
    return rays_o.contiguous(), rays_d.contiguous()


@pytest.mark.parametrize("config", [SMALL, HEARING], ids=["blind", "hearing"])
def test_densities_are_those_of_the_forward_pass(config):
    field = small_field(config)
    with torch.no_grad():
        field.identity.encoder.offset_net.params.mul_(5.0)
    cond = torch.randn(3, N_COND, generator=torch.Generator().manual_seed(0))
    index = torch.zeros(11, dtype=torch.int32)
    rows = field.densities(points(), cond)
    for row, expected in zip(cond, rows, strict=True):
        sigmas, _ = field(points(), rays()[1][:1], index, row[None].contiguous(), None)
        torch.testing.assert_close(sigmas, expected, rtol=1e-4, atol=1e-6)
    by_sample = field(points(), rays()[1][:1], index, cond, (torch.arange(11) % 3).int())[0]
    torch.testing.assert_close(by_sample, rows[torch.arange(11) % 3, torch.arange(11)], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("baked", [False, True])
def test_drawing_is_the_forward_pass(baked):
    renderer = small_renderer(small_field(baked=baked))
    rays_o, rays_d = rays()
    cond, background = torch.randn(1, N_COND), torch.rand(64, 3)
    out = renderer(rays_o, rays_d, cond, None, background)
    colors, opacities, depths = renderer.draw(rays_o, rays_d, cond, background)
    assert opacities.max() > 0.1
    torch.testing.assert_close(colors, out.colors)
    torch.testing.assert_close(depths, out.depths)
    assert (renderer.draw(rays_o, rays_d, cond, background, 2.0)[1] > opacities).all()
    torch.testing.assert_close(renderer.draw(rays_o, rays_d, cond, background)[1], opacities)


@pytest.mark.parametrize("training", [True, False])
def test_the_lattice_is_read_with_the_grid(training):
    """The baked field, drawn by kernels that know no identity, is the networks on both kinds of features."""
    field = small_field(baked=True).train(training)
    positions, cond = points(200), torch.randn(2, N_COND)
    for change in (0.0, 0.5):  # the joined table follows both tables
        with torch.no_grad():
            field.encoding.table.add_(change)
            field.identity.table.mul_(1 + change)
            features = field.identity.reader()(positions, None, None)[0]
            inputs = torch.cat([field.encoding(positions), features], 1)
            expected = torch.stack(
                [field._density(field.density_net(inputs, row)[:, 0]) for row in cond[:, None].contiguous()]
            )
            assert torch.equal(field.densities(positions, cond), expected)


def test_a_still_head_is_drawn_from_a_cache():
    renderer = small_renderer(small_field(baked=True)).eval()
    rays_o, rays_d = rays()
    background = torch.rand(64, 3)
    still = StillHead.at(renderer, rays_o, rays_d, background)
    assert still.cache is not None
    assert StillHead.at(small_renderer(small_field()), rays_o, rays_d, background).cache is None
    for cond in torch.randn(2, 1, N_COND):
        torch.testing.assert_close(still.draw(cond), renderer.draw(rays_o, rays_d, cond, background))


@pytest.mark.parametrize(
    ("field", "n_features", "message"),
    [
        (FIELD, 8, "the identity lattice has 8 features a level, the field's grid 2"),
        (replace(FIELD, n_levels=25), 2, "take 8 of the grid's 32 levels: field.n_levels must be at most 24"),
    ],
)
def test_refuses_a_lattice_that_does_not_fit_behind_the_grid(field, n_features, message):
    baked = BakedIdentity(PointIdentity(encoder(), references()), 4, n_features=n_features)
    with pytest.raises(ConfigError, match=message):
        IdentityField(field, N_COND, baked)


def test_every_parameter_gets_a_gradient():
    field = small_field()
    rays_o, rays_d = rays()
    cond = torch.randn(1, N_COND, requires_grad=True)
    out = small_renderer(field)(rays_o, rays_d, cond, None, torch.zeros(64, 3))
    assert field.offsets.shape == (4, len(out.weights), 2)
    out.colors.square().sum().backward()
    for name, parameter in field.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert cond.grad.abs().sum() > 0


def test_baked_field_writes_its_gradient_into_the_lattice():
    field = small_field(baked=True)
    out = small_renderer(field)(*rays(), torch.randn(1, N_COND), None, torch.zeros(64, 3))
    out.colors.square().sum().backward()
    assert field.offsets is None and field.identity.table.grad.abs().sum() > 0
    field.identity.pull_back()
    for name, parameter in field.identity.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("by_ray", [False, True])
def test_samples_behind_the_stop_are_left_out_without_a_difference(by_ray):
    """Colours, weights and every gradient are those of all samples; fewer are drawn with gradients."""
    field = small_field()
    renderer = small_renderer(field)
    with torch.no_grad():
        field.density_net.params.mul_(4.0)
    field.density_factor = 50.0
    rays_o, rays_d = rays()
    rays_d[:5] *= -1  # these miss the box: rays without samples
    generator = torch.Generator().manual_seed(0)
    cond, background = torch.randn(2, N_COND, generator=generator), torch.rand(64, 3, generator=generator)
    index = (torch.arange(64) % 2).int() if by_ray else None
    target, found = torch.rand(64, 3, generator=generator), []
    n_drawn = []
    field.color_net.register_forward_hook(lambda _, inputs, __: n_drawn.append(len(inputs[0])))
    before_the_stop = field._before_the_stop
    for pruned in (True, False):
        if not pruned:
            field._before_the_stop = lambda positions, samples, *_: (
                torch.arange(len(positions)),
                samples.packed_info,
            )
        field.zero_grad()
        out = renderer(rays_o, rays_d, cond, index, background)
        (out.colors - target).square().sum().backward()
        found.append((out.colors.detach(), out.weights.detach(), [p.grad for p in field.parameters()]))
    field._before_the_stop = before_the_stop
    assert 0 < n_drawn[0] < 0.8 * n_drawn[1] == 0.8 * len(found[1][1])
    torch.testing.assert_close(found[0][:2], found[1][:2])
    for pruned, whole in zip(found[0][2], found[1][2], strict=True):
        torch.testing.assert_close(pruned, whole, rtol=1e-3, atol=1e-5)
