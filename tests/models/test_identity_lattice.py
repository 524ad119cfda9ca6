"""The baked form of the identity features: values, gradients, refusals, and a head that needs them."""

from dataclasses import replace

import pytest
import torch
from small_identity import HEARING, SMALL, encoder, points, references
from toy_head import draw, fit, make_renderer, make_toy_head, mean_psnr

from nerfad.config import ConfigError
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity, lattice_vertices


def point_form(**changes) -> PointIdentity:
    return PointIdentity(encoder(replace(SMALL, **changes)), references())


@pytest.mark.parametrize("n_projected", [2, 8, 16])
def test_vertices_hold_the_point_forms_values(n_projected):
    point = point_form(n_projected=n_projected)
    baked = BakedIdentity(point, resolution=5)
    at_vertices = torch.randint(0, 6, (40, 3), generator=torch.Generator().manual_seed(0)) / 5
    got, offsets = baked.reader()(at_vertices, None, None)
    assert got.shape == (40, n_projected) and offsets is None
    torch.testing.assert_close(got, point.reader()(at_vertices, None, None)[0], rtol=1e-4, atol=1e-5)


def test_between_vertices_it_is_linear():
    baked = BakedIdentity(point_form(), resolution=4)
    ends = torch.tensor([[0.25, 0.5, 0.75], [0.5, 0.5, 0.75]])
    read = lambda p: baked.reader()(p, None, None)[0]  # noqa: E731
    torch.testing.assert_close(read(ends.mean(0, keepdim=True))[0], read(ends).mean(0))


def test_finer_lattices_come_closer():
    point = point_form(position_octaves=2)
    exact = point.reader()(points(200), None, None)[0].detach()
    errors = [
        float((BakedIdentity(point, r).reader()(points(200), None, None)[0].detach() - exact).square().mean())
        for r in (4, 8, 16)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def test_gradient_through_the_lattice_is_that_of_the_vertices():
    point = point_form()
    baked = BakedIdentity(point, resolution=4)
    at_vertices = torch.randint(0, 5, (30, 3), generator=torch.Generator().manual_seed(0)) / 4
    weights = torch.randn(30, 16, generator=torch.Generator().manual_seed(1))
    for half in (slice(0, 12), slice(12, 30)):  # gradients of several steps add up
        (baked.reader()(at_vertices[half], None, None)[0] * weights[half]).sum().backward()
    baked.pull_back()
    assert baked.table.grad is None
    through = {name: p.grad.clone() for name, p in point.named_parameters()}
    point.zero_grad()
    (point.reader()(at_vertices, None, None)[0] * weights).sum().backward()
    for name, parameter in point.named_parameters():
        torch.testing.assert_close(through[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_bakes_again_only_where_it_is_told_to():
    point = point_form()
    baked = BakedIdentity(point, resolution=4)
    before = baked.table.detach().clone()
    with torch.no_grad():
        point.encoder.projection.bias.add_(1.0)
    baked.bake(lambda p: p[:, 0] < 0.3)
    change = baked._levels(baked.table.detach() - before).permute(1, 0, 2).flatten(1)
    low = lattice_vertices(baked.resolution, torch.arange(125))[:, 0] < 0.3
    torch.testing.assert_close(change[low], torch.ones(50, 16), rtol=1e-4, atol=1e-4)
    assert not change[~low].any()


def test_state_restores_the_lattice():
    baked = BakedIdentity(point_form(), resolution=4)
    other = BakedIdentity(PointIdentity(encoder(SMALL), references(seed=9)), resolution=4)
    other.load_state_dict(baked.state_dict())
    assert torch.equal(other.table, baked.table)
    expected = baked.points.reader()(points(), None, None)[0]
    torch.testing.assert_close(other.points.reader()(points(), None, None)[0], expected)


@pytest.mark.parametrize("n_features", [1, 2, 4])
def test_a_lattice_may_be_read_with_a_grid_of_fewer_features(n_features):
    baked = BakedIdentity(point_form(), resolution=4)
    other = BakedIdentity(point_form(), resolution=4, bake=False, n_features=n_features)
    other.load_state_dict(baked.state_dict())
    torch.testing.assert_close(
        other.reader()(points(), None, None)[0], baked.reader()(points(), None, None)[0]
    )


def test_a_converted_lattice_still_collects_gradients():
    baked = BakedIdentity(point_form(), resolution=4).double()
    baked.reader()(points().double(), None, None)[0].sum().backward()
    assert baked.table.grad is not None and baked.table.grad.abs().sum() > 0
    baked.pull_back()
    assert baked.points.encoder.projection.weight.grad.dtype == torch.float64


def test_held_maps_draw_the_same():
    point = point_form()
    expected = point.reader()(points(), None, None)[0]
    with point.held():
        held = point.reader()(points(), None, None)[0]
    assert torch.equal(held, expected)
    with torch.no_grad():
        point.encoder.projection.bias.add_(1.0)
        point.encoder.feature_net.layers[0].weight.mul_(0.5)
    assert not torch.allclose(point.reader()(points(), None, None)[0], expected + 1.0, atol=1e-5)


def test_another_identity_gives_other_features():
    point = point_form()
    before = point.reader()(points(), None, None)[0]
    other = PointIdentity(point.encoder, references(seed=7))
    assert (other.reader()(points(), None, None)[0] - before).abs().max() > 1e-3


def test_refuses_what_cannot_be_baked():
    hearing = PointIdentity(encoder(HEARING), references())
    with pytest.raises(ConfigError, match="hear the sound change with every frame and cannot be baked"):
        BakedIdentity(hearing, 8)
    with pytest.raises(ConfigError, match="only the learned projection"):
        BakedIdentity(PointIdentity(encoder(), references(), projected=False), 8)
    with pytest.raises(ConfigError, match=r"resolution must be in 1\.\.256, not 0"):
        BakedIdentity(point_form(), 0)


@pytest.fixture(scope="module")
def toy():
    return make_toy_head(n_frames=8, size=48)


def test_point_form_trains_and_is_baked_without_loss(toy):
    renderer = make_renderer(toy)
    losses = fit(renderer, toy, n_steps=25, n_rays=256)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    exact = draw(renderer, toy, 2)
    baked = BakedIdentity(renderer.field.identity, n_features=renderer.field.config.n_features)
    renderer.field.identity = baked
    difference = -10 * (draw(renderer, toy, 2) - exact).square().mean().log10()
    assert difference > 40.0


def test_a_trained_head_needs_its_identity_features(toy):
    renderer = make_renderer(toy, baked_resolution=24)
    losses = fit(renderer, toy, n_steps=150)
    assert sum(losses[-5:]) < 0.2 * sum(losses[:5])
    trained = mean_psnr(renderer, toy)
    with torch.no_grad():
        renderer.field.identity.table.zero_()
    assert trained > 24.0
    assert mean_psnr(renderer, toy) < trained - 2.0
