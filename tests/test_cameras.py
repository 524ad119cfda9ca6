"""Cameras: rays against the formula, projection, resizing."""

import numpy as np
import pytest
import torch

from nerfad.cameras import Camera


def some_pose(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    pose = np.eye(4)
    pose[:3, :3] = rotation * np.sign(np.linalg.det(rotation))
    pose[:3, 3] = rng.normal(size=3)
    return pose


@pytest.mark.parametrize("pixel_offset", [0.0, 0.5])
def test_projecting_a_point_of_a_ray_gives_its_pixel(pixel_offset):
    camera = Camera(90.0, 80.0, 31.0, 17.0, height=40, width=60, pixel_offset=pixel_offset)
    pixels = np.random.default_rng(1).uniform(0, 40, (50, 2))
    rays_o, rays_d = camera.rays(some_pose(), pixels)
    np.testing.assert_allclose(np.linalg.norm(rays_d, axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(camera.project(some_pose(), rays_o + 3.0 * rays_d), pixels, atol=1e-9)


def test_directions_are_those_of_the_ad_nerf_formula():
    camera = Camera(100.0, 100.0, 20.0, 30.0, height=60, width=40, pixel_offset=0.0)
    _, rays_d = camera.rays(np.eye(4), np.array([[25, 10]]))
    expected = np.array([(25 - 20) / 100, -(10 - 30) / 100, -1.0])
    np.testing.assert_allclose(rays_d[0], expected / np.linalg.norm(expected))


@pytest.mark.parametrize("pixel_offset", [0.0, 0.5])
def test_resizing_keeps_the_ray_through_a_corner(pixel_offset):
    camera = Camera(90.0, 80.0, 31.0, 17.0, height=40, width=60, pixel_offset=pixel_offset)
    half = camera.resized(20, 30)
    corner = -pixel_offset - (0.5 - pixel_offset)
    for shift in (0.0, 1.0):
        full_pixel = np.array([[corner + 60 * shift, corner + 40 * shift]])
        half_pixel = np.array([[corner + 30 * shift, corner + 20 * shift]])
        _, expected = camera.rays(np.eye(4), full_pixel)
        _, actual = half.rays(np.eye(4), half_pixel)
        np.testing.assert_allclose(actual, expected, atol=1e-12)
    assert half.fl_x == camera.fl_x / 2


def test_torch_gradients_reach_the_pose_and_a_pose_per_ray_works():
    camera = Camera(100.0, 100.0, 4.0, 4.0, height=8, width=8)
    pixels = torch.tensor([[1, 2], [3, 4]])
    c2w = torch.tensor(some_pose(), requires_grad=True)
    rays_o, rays_d = camera.rays(c2w, pixels)
    (rays_o.sum() + rays_d[:, 0].sum()).backward()
    assert c2w.grad[:3].abs().sum() > 0
    per_ray = camera.rays(torch.stack([c2w, c2w]), pixels)
    assert torch.equal(per_ray[1], rays_d)
    assert torch.equal(per_ray[0], rays_o)
