"""Where speech may be exchanged in training, and that it is exchanged there only."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_faces import write_tiny_faces

from nerfad.data.dataset import load_dataset
from nerfad.data.face_crops import FaceCrops
from nerfad.engine.speech_region import MOVED_SHARE, SpeechRegion, exchanged

SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_dataset(Path(write_tiny_faces(tmp_path_factory.mktemp("data") / "faces")))


def half_mask(low: float = 0.4) -> torch.Tensor:
    """A whose lower half moves."""
    mask = torch.ones(1, 1, SIZE, SIZE)
    mask[..., SIZE // 2 :, :] = low
    return mask


def test_freedom_is_the_masks_at_every_pixel_of_a_frame(data):
    frames = np.array([3, 40])
    region = SpeechRegion.of(data, frames, half_mask())
    crops = FaceCrops(data, SIZE)
    rows, columns = np.mgrid[: data.height, : data.width]
    pixels = torch.from_numpy(np.stack([columns.ravel(), rows.ravel()], 1))
    for k, frame in enumerate(frames):
        got = region(torch.full((len(pixels),), k), pixels).view(data.height, data.width)
        points = crops.points_in_crop(int(frame), pixels.numpy() + 0.5)
        inside = ((points >= 0) & (points < SIZE)).all(1)
        expected = ~(inside & (points[:, 1] >= SIZE // 2))
        assert 0 < expected.sum() < expected.size
        assert (got.numpy().ravel() == expected).mean() > 0.99  # pixels whose centre lies on a border


def test_freedom_falls_with_the_attention_and_ignores_its_contrast(data):
    mask = torch.ones(1, 1, SIZE, SIZE)
    mask[0, 0, 0, :3] = torch.tensor([0.9, 1 - 0.1 * MOVED_SHARE, 1 - 0.05 * MOVED_SHARE])
    for contrast in (1.0, 0.3):
        freedom = SpeechRegion.of(data, np.array([3]), 1 - contrast * (1 - mask)).freedom
        torch.testing.assert_close(freedom[0, :4], torch.tensor([0.0, 0.0, 0.5, 1.0]))


def test_a_mask_that_hides_nothing_leaves_everything_free(data):
    assert (SpeechRegion.of(data, np.array([3]), torch.ones(1, 1, SIZE, SIZE)).freedom == 1).all()


def test_a_frame_without_a_face_keeps_its_speech(data):
    region = SpeechRegion.of(data, np.array([3, 4]), half_mask())
    region.to_crop[1] = torch.nan
    pixels = torch.tensor([[0, 0], [0, 0]])
    assert region(torch.tensor([0, 1]), pixels).tolist() == [1.0, 0.0]


def test_speech_is_exchanged_where_it_is_free_and_nothing_else_is():
    generator = torch.Generator().manual_seed(0)
    cond = torch.arange(12.0).view(3, 4)
    own = (torch.arange(9000) % 3).int()
    freedom = torch.where(torch.arange(9000) < 3000, 0.0, torch.where(torch.arange(9000) < 6000, 0.5, 1.0))
    for _ in range(5):
        both, index = exchanged(cond, 2, own, freedom, 0.8, generator)
        assert index.dtype == torch.int32 and torch.equal(both[:3], cond)
        assert torch.equal(both[3:, 2:], cond[:, 2:])  # blink and appearance stay
        assert sorted(both[3:, 0].tolist()) == sorted(cond[:, 0].tolist())
        assert (both[3:, :2] != cond[:, :2]).all()  # nobody keeps their own
        swapped = index != own
        assert torch.equal(index[swapped], own[swapped] + 3)
        shares = swapped.float().view(3, 3000).mean(1)
        assert shares[0] == 0
        torch.testing.assert_close(shares, torch.tensor([0.0, 0.4, 0.8]), atol=0.04, rtol=0)


def test_one_frame_alone_has_nobody_to_exchange_with():
    cond, own = torch.ones(1, 3), torch.zeros(5, dtype=torch.int32)
    both, index = exchanged(cond, 2, own, torch.ones(5), 1.0, torch.Generator())
    assert both is cond and index is own
