"""Identity features: geometry of projection and offset, attention, gradients, choices, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_identity import CAMERA, HEARING, SMALL, encoder, points, references, turned

from nerfad.config import ConfigError
from nerfad.models.identity_features import (
    OFFSET_PENALTY,
    IdentityConfig,
    References,
    SlotAttention,
    choose_references,
    offset_penalty,
)


def test_projection_is_the_cameras_in_every_view():
    refs = references()
    pixels = refs.project(points())
    for view, pose in enumerate(refs.c2w):
        torch.testing.assert_close(pixels[view], CAMERA.project(pose, points()))


def test_shapes_of_the_papers_sizes():
    refs = references()
    net = encoder(IdentityConfig())
    maps = net.feature_net(refs)
    assert maps.shape == (4, 18, 20, 128) and maps.is_contiguous()
    features, offsets = net(refs, maps, points())
    assert features.shape == (11, 256) and offsets.shape == (4, 11, 2)
    assert net.projection(features).shape == (11, 16)


def test_offsets_start_near_zero_and_stay_within_ten_pixels():
    refs, net = references(), encoder()
    maps = net.feature_net(refs)
    assert net(refs, maps, points())[1].abs().max() < 0.1
    with torch.no_grad():
        net.offset_net.params.mul_(50.0)
    far = net(refs, maps, points())[1].abs().max()
    assert 5.0 < far <= 10.0


def test_feature_maps_keep_the_place():
    refs, net = references(), encoder()
    maps = net.feature_net(refs)
    changed = refs.images.clone()
    changed[1, :, 4, 15] += 0.5
    difference = (net.feature_net(replace(refs, images=changed)) - maps).abs().sum(3)
    view, row, column = torch.nonzero(difference, as_tuple=True)
    assert set(view.tolist()) == {1}
    assert row.min() >= 1 and row.max() <= 7 and column.min() >= 12 and column.max() <= 18
    assert difference[1, 4, 15] > 0


def test_a_point_sees_what_the_references_show_where_it_projects():
    refs, net = references(), encoder()
    point = points(1)
    pixel = refs.project(point)[2, 0].round().long()
    read = lambda images: net(refs, net.feature_net(replace(refs, images=images)), point)[0]  # noqa: E731
    before = read(refs.images)
    near, away = refs.images.clone(), refs.images.clone()
    near[2, :, pixel[1], pixel[0]] += 0.5
    away[2, :, (pixel[1] + 9) % 18, (pixel[0] + 10) % 20] += 0.5
    assert (read(near) - before).abs().max() > 1e-4
    torch.testing.assert_close(read(away), before)


def test_order_of_the_references_does_not_matter():
    refs, net = references(), encoder()
    turned_round = References(CAMERA, refs.c2w.flip(0), refs.images.flip(0))
    torch.testing.assert_close(
        net(turned_round, net.feature_net(turned_round), points())[0],
        net(refs, net.feature_net(refs), points())[0],
        rtol=1e-4,
        atol=1e-5,
    )


def test_slots_of_one_input_hold_its_value():
    """With one input every slot's share of it is normalised to 1, whatever the queries are."""
    torch.manual_seed(0)
    attention = SlotAttention(6, n_slots=2, width=8, n_iterations=2)
    x = torch.randn(5, 1, 6)
    value = attention.to_values(attention.normalise_inputs(x))[:, 0]
    slots = attention.slots.expand(5, -1, -1)
    for _ in range(2):
        got = value.repeat_interleave(2, 0)
        slots = attention.update(got, slots.flatten(0, 1)).view(5, 2, 8)
        slots = slots + attention.refine(slots)
    torch.testing.assert_close(attention(x), slots.flatten(1))


def test_attention_of_several_inputs_is_a_competition():
    torch.manual_seed(0)
    attention = SlotAttention(6, n_slots=2, width=8, n_iterations=2)
    with torch.no_grad():
        attention.slots.mul_(10.0)
        attention.to_queries.weight.mul_(20.0)
    slots = attention(torch.randn(5, 4, 6)).view(5, 2, 8)
    assert (slots[:, 0] - slots[:, 1]).abs().amax(1).min() > 0.1


def test_every_parameter_gets_a_gradient():
    refs, net = references(), encoder()
    position = points().requires_grad_()
    features, offsets = net(refs, net.feature_net(refs), position)
    (net.projection(features).square().sum() + offsets.square().sum()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert position.grad.abs().sum() > 0


def test_blind_to_sound_unless_asked_for():
    refs, sound = references(), torch.randn(2, 5, generator=torch.Generator().manual_seed(2))
    index = (torch.arange(11) % 2).int()
    for config, hears in ((SMALL, False), (HEARING, True)):
        net = encoder(config)
        with torch.no_grad():
            net.offset_net.params.mul_(5.0)
        maps = net.feature_net(refs)
        results = [net(refs, maps, points(), sound + shift, index) for shift in (0.0, 1.0)]
        change = (results[0][0] - results[1][0]).abs().max()
        assert (change > 1e-3) == hears
    one_by_one = [net(refs, maps, points()[k : k + 1], sound[k % 2][None])[1] for k in range(11)]
    torch.testing.assert_close(results[0][1], torch.cat(one_by_one, 1), rtol=1e-4, atol=1e-4)


def test_offset_penalty_in_closed_form():
    offsets = torch.tensor([[[3.0, 4.0], [6.0, 8.0]]])
    weights = torch.tensor([0.2, 1.0], requires_grad=True)
    penalty = offset_penalty(offsets, weights)
    torch.testing.assert_close(penalty, torch.tensor(OFFSET_PENALTY * 0.8 * 25 / 2))
    assert not penalty.requires_grad


def test_references_are_spread():
    poses = torch.from_numpy(np.stack([turned(yaw) for yaw in (0.0, 0.02, -0.5, 0.45, 0.01, 0.2)]))
    assert set(choose_references(poses, 3).tolist()[1:]) == {2, 3}
    assert len(set(choose_references(poses, 6).tolist())) == 6
    same = torch.eye(4).repeat(4, 1, 1)
    assert len(set(choose_references(same, 4).tolist())) == 4
    with pytest.raises(ConfigError, match="4 reference frames are asked for, but there are only 3"):
        choose_references(poses[:3], 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(n_channels=8), "identity.n_channels must be between 16 and 128"),
        (dict(n_slots=0), "identity.n_slots and slot_width"),
        (dict(n_iterations=0), "identity.n_iterations"),
        (dict(max_offset_px=0.0), "identity.max_offset_px"),
        (dict(n_projected=12), "identity.n_projected must be 1, 2, 4 or a multiple of 8"),
        (dict(audio_in_offset=True), "identity.n_audio must be more than 0 exactly if"),
        (dict(n_audio=3), "identity.n_audio must be more than 0 exactly if"),
    ],
)
def test_config_rejects(settings, message):
    with pytest.raises(ConfigError, match=message):
        IdentityConfig(**settings)


def test_references_reject_pictures_of_another_size():
    with pytest.raises(ConfigError, match=r"pictures \[4, 3, 18, 20\], got .* \[4, 3, 18, 21\]"):
        References(CAMERA, references().c2w, torch.zeros(4, 3, 18, 21))
