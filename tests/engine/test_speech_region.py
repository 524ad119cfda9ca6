"""Which part of the box the attention says that speech moves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_faces import write_tiny_faces

from nerfad.data.dataset import load_dataset
from nerfad.data.face_crops import FaceCrops
from nerfad.engine.speech_region import MOVED_SHARE, REACH, moved_region, stillness

SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_dataset(Path(write_tiny_faces(tmp_path_factory.mktemp("data") / "faces")))


def half_mask(low: float = 0.4) -> torch.Tensor:
    """A whose lower half moves."""
    mask = torch.ones(1, 1, SIZE, SIZE)
    mask[..., SIZE // 2 :, :] = low
    return mask


def test_the_region_is_where_the_mask_moves_and_a_little_more():
    first = SIZE // 2 - round(REACH * SIZE)
    for low in (0.0, 0.4, 0.97):  # whatever the contrast
        region = moved_region(half_mask(low))
        assert region[first:].all() and not region[:first].any()
    weak = half_mask(0.5)
    weak[..., 0:6, :] = 1 - 0.5 * MOVED_SHARE * 0.9
    assert not moved_region(weak)[:first].any()
    weak[..., 0:6, :] = 1 - 0.5 * MOVED_SHARE * 1.1
    assert moved_region(weak)[0:6].all()


def test_specks_do_not_count_nor_does_a_mask_that_hides_nothing():
    speck = half_mask()
    speck[..., 3:5, 20:22] = 0.0
    assert torch.equal(moved_region(speck), moved_region(half_mask(0.0)))
    assert not moved_region(torch.ones(1, 1, SIZE, SIZE)).any()


def test_points_are_still_unless_most_views_see_them_in_the_region(data):
    frames = np.array([3, 40, 60])
    c2w = torch.from_numpy(data.c2w[frames].astype(np.float32))
    pixels = torch.cartesian_prod(torch.arange(0.0, data.width), torch.arange(0.0, data.height))
    rays_o, rays_d = data.camera.rays(c2w[:1].expand(len(pixels), 4, 4), pixels)
    points = rays_o + 2.0 * rays_d
    crops, region = FaceCrops(data, SIZE), moved_region(half_mask()).numpy()

    def in_region(k: int) -> np.ndarray:
        seen = data.camera.project(c2w[k], points).numpy()
        at = np.floor(crops.points_in_crop(int(frames[k]), seen + 0.5)).astype(int)
        inside = ((at >= 0) & (at < SIZE)).all(1)
        column, row = at.clip(0, SIZE - 1).T
        return inside & region[row, column]

    alone = stillness(points, half_mask(), data, frames[:1], c2w[:1])
    at_pixels = np.floor(crops.points_in_crop(3, pixels.numpy() + 0.5)).astype(int)
    inside = ((at_pixels >= 0) & (at_pixels < SIZE)).all(1)
    column, row = at_pixels.clip(0, SIZE - 1).T
    expected = inside & region[row, column]
    assert 0 < expected.sum() < expected.size
    assert ((alone.numpy() == 0) == expected).mean() > 0.99  # pixels whose centre lies on a border
    together = stillness(points, half_mask(), data, frames, c2w)
    votes = np.sum([in_region(k) for k in range(3)], 0)
    np.testing.assert_array_equal(together.numpy() == 0, votes >= 2)


def test_frames_without_a_face_are_not_asked(data, monkeypatch):
    c2w = torch.from_numpy(data.c2w[[3, 40, 41]].astype(np.float32))
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    expected = stillness(points, half_mask(), data, np.array([3]), c2w[:1])
    assert 0 < expected.sum() < len(points)
    monkeypatch.setattr(FaceCrops, "has_face", lambda self, frame: frame == 3)
    assert torch.equal(stillness(points, half_mask(), data, np.array([3, 40, 41]), c2w), expected)
