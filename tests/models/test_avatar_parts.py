"""Torso, renderer and poses: geometry against closed forms."""

import math

import numpy as np
import torch

from nerfad.cameras import Camera
from nerfad.config import FieldConfig, OccupancyConfig, TorsoConfig
from nerfad.models.avatar import AvatarModel, body_in_heights, moved_cameras, picture_points
from nerfad.models.field import TalkingField
from nerfad.models.renderer import HeadRenderer, SceneBox
from nerfad.models.torso import undo_similarity

CAMERA = Camera(48.0, 48.0, 16.0, 16.0, 32, 32)


def small_model(**changes) -> AvatarModel:
    torch.manual_seed(0)
    field = FieldConfig(n_levels=4, log2_table_size=10, finest_resolution=32, width=16)
    occupancy = OccupancyConfig(resolution=16, n_steps=32)
    return AvatarModel(
        HeadRenderer(TalkingField(field, 3 + changes.get("n_appearance", 0)), occupancy),
        TorsoConfig(n_levels=4, log2_table_size=10, finest_resolution=32, width=16),
        n_codes=3,
        **changes,
    )


def test_undo_similarity_inverts_the_motion():
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.normal(size=(20, 2)).astype(np.float32))
    body = torch.tensor([[0.1, -0.05, 0.3, 0.2]]).expand(20, 4)
    cos, sin, scale = math.cos(0.3), math.sin(0.3), math.exp(0.2)
    turn = torch.tensor([[cos, -sin], [sin, cos]])
    moved = scale * points @ turn.T + body[:, :2]
    torch.testing.assert_close(undo_similarity(moved, body), points, atol=1e-5, rtol=0)


def test_picture_points_turn_about_the_middle_of_the_lower_edge():
    corners = picture_points(CAMERA, torch.tensor([[0, 0], [31, 31]]))
    torch.testing.assert_close(corners, torch.tensor([[-15.5, -31.5], [15.5, -0.5]]) / 32)
    shifts = body_in_heights(np.array([[8.0, 4.0, 0.1, 0.2]]), 1, 32)
    torch.testing.assert_close(shifts, torch.tensor([[0.25, 0.125, 0.1, 0.2]]))


def test_box_carries_the_data_sets_box_into_the_unit_cube():
    box = SceneBox()
    box.fit(np.array([-1.0, -2.0, -1.0, 1.0, 2.0, 1.0]))
    c2w = np.eye(4, dtype=np.float32)
    c2w[:3, 3] = (0.0, 2.0, 8.0)
    torch.testing.assert_close(box.to_box(c2w)[:3, 3], torch.tensor([0.5, 1.0, 2.5]))


def test_moved_cameras_turn_about_the_middle():
    c2w = torch.eye(4)[None].clone()
    c2w[0, :3, 3] = torch.tensor([0.5, 0.5, 3.0])
    torch.testing.assert_close(moved_cameras(c2w, torch.zeros(1, 6)), c2w)
    quarter = moved_cameras(c2w, torch.tensor([[0.0, math.pi / 2, 0.0, 0.0, 0.0, 0.1]]))
    torch.testing.assert_close(quarter[0, :3, 3], torch.tensor([3.0, 0.5, 0.6]), atol=1e-5, rtol=0)


def test_head_is_drawn_over_torso_over_background():
    model = small_model()
    c2w = torch.eye(4)[None].clone()
    c2w[0, :3, 3] = torch.tensor([0.5, 0.5, 3.0])
    pixels = torch.tensor([[0, 0], [16, 16]])
    index = torch.zeros(2, dtype=torch.int32)
    background = torch.tensor([[0.2, 0.4, 0.9]]).expand(2, 3).contiguous()
    rays = model(CAMERA, c2w, torch.zeros(1, 4), pixels, index, torch.zeros(1, 3), background)
    assert rays.head.opacities[1] > 0.1 > rays.head.opacities[0] == 0.0  # the corner misses the box
    torch.testing.assert_close(rays.colors[0], rays.behind[0])
    alone = rays.colors - (1 - rays.head.opacities[:, None]) * rays.behind
    assert (alone[1] > 0).all()
    opacity = rays.torso_opacities[0]
    assert (rays.behind[0] - background[0]).abs().max() <= opacity


def test_every_parameter_gets_a_gradient():
    model = small_model(n_appearance=2, n_frames=4, refine_poses=True)
    c2w = torch.eye(4).repeat(4, 1, 1)
    c2w[:, :3, 3] = torch.tensor([0.5, 0.5, 3.0])
    with torch.no_grad():
        model.head.field.encoding.table.uniform_(-0.5, 0.5)
        model.torso.encoding.table.uniform_(-0.5, 0.5)
    pixels = torch.randint(8, 24, (64, 2))
    index = torch.arange(64, dtype=torch.int32) % 4
    cond = torch.cat([torch.randn(4, 3), model.appearance], 1)
    poses = moved_cameras(c2w, model.pose_delta)
    rays = model(CAMERA, poses, torch.zeros(4, 4), pixels, index, cond, torch.zeros(64, 3))
    rays.colors.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_cells_draw_the_same_pixels(kernel_device, monkeypatch):
    """A device of its own draws with the cells, the CPU without; both ways on each."""
    torch.manual_seed(0)
    config = FieldConfig(n_levels=4, base_resolution=6, log2_table_size=10, finest_resolution=32, width=16)
    head = HeadRenderer(TalkingField(config, 3), OccupancyConfig(resolution=16, n_steps=32)).to(kernel_device)
    with torch.no_grad():
        head.field.encoding.table.uniform_(-0.5, 0.5)
    rays_o = torch.tensor([[0.5, 0.5, 3.0]]).repeat(64, 1)
    rays_d = torch.nn.functional.normalize(torch.rand(64, 3) * 0.3 - torch.tensor([0.15, 0.15, 1.0]), dim=1)
    rays = [x.to(kernel_device) for x in (rays_o, rays_d, torch.randn(1, 3), torch.rand(64, 3))]
    assert (head.field.cells is None) == (kernel_device.type == "cpu")
    drawn = []
    for cells in (None, head.field.encoding.cells()):
        monkeypatch.setattr(TalkingField, "cells", cells)
        drawn.append(head.draw(*rays))
    assert len(cells) > 0 and drawn[0][1].max() > 0.15
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


def test_one_pass_draws_the_same_pixels():
    model = small_model()
    with torch.no_grad():
        model.head.field.encoding.table.uniform_(-0.5, 0.5)
    c2w = torch.eye(4)[None].clone()
    c2w[0, :3, 3] = torch.tensor([0.5, 0.5, 3.0])
    pixels = torch.cartesian_prod(torch.arange(32), torch.arange(32))
    cond, background = torch.randn(1, 3), torch.rand(1024, 3)
    index = torch.zeros(1024, dtype=torch.int32)
    slow = model(CAMERA, c2w, torch.zeros(1, 4), pixels, index, cond, background)
    fast = model.draw(CAMERA, c2w, torch.zeros(1, 4), pixels, cond, background)
    assert slow.head.opacities.max() > 0.15
    in_rows = model.draw(CAMERA, c2w, torch.zeros(1, 4), pixels, cond, background, image_width=32)
    assert torch.equal(in_rows.colors, fast.colors) and torch.equal(in_rows.depths, fast.depths)
    torch.testing.assert_close(fast.colors, slow.colors, atol=2e-4, rtol=0)
    torch.testing.assert_close(fast.opacities, slow.head.opacities, atol=2e-4, rtol=0)
    torch.testing.assert_close(fast.depths, slow.head.depths, atol=1e-3, rtol=0)
    near = model.draw(CAMERA, c2w, torch.zeros(1, 4), pixels, cond, background, surface_depth=True)
    torch.testing.assert_close(near.colors, fast.colors)
    seen = fast.opacities > 0.05
    assert (near.depths[seen] < fast.depths[seen]).all()  # nearer, and within the box all the same
    assert (near.depths[seen] / near.opacities[seen] > 2.0).all()
