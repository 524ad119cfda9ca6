"""Which pixels a step looks at."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import write_tiny_dataset

from nerfad.config import OptimConfig
from nerfad.data.dataset import load_dataset
from nerfad.engine.sampling import FrameStore, label_rectangle


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FrameStore:
    root = write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "data", n_frames=20)
    return FrameStore(load_dataset(Path(root)), np.arange(2, 12))


def draw(store: FrameStore, seed: int = 0, **settings):
    config = OptimConfig(**settings)
    generator = torch.Generator().manual_seed(seed)
    return store.draw(torch.tensor([3, 7]), 600, config, generator)


def test_batch_shows_the_pixels_it_names(store):
    batch = draw(store)
    for ray in (0, 200, 599):
        frame = int(batch.frames[batch.frame_index[ray]])
        column, row = batch.pixels[ray].tolist()
        truth = store.images[frame, row, column].float() / 255
        torch.testing.assert_close(batch.target[ray], truth)
        assert batch.labels[ray] == store.labels[frame, row, column]


def test_behind_background_pixels_lies_the_picture_and_elsewhere_the_plate(store):
    batch = draw(store)
    outside = batch.labels == 0
    assert torch.equal(batch.background[outside], batch.target[outside])
    pixels = batch.pixels[~outside]
    plate = store.plate[pixels[:, 1], pixels[:, 0]].float() / 255
    torch.testing.assert_close(batch.background[~outside], plate)


def test_shares_of_mouth_and_whole_picture(store):
    batch = draw(store, mouth_share=1.0, torso_share=0.0)
    box = store.rectangles[0, [3, 7]][batch.frame_index.long()]
    assert (batch.pixels >= box[:, :2].floor()).all() and (batch.pixels < box[:, 2:]).all()
    everywhere = draw(store, mouth_share=0.0, torso_share=1.0)
    assert everywhere.pixels.amin() == 0 and everywhere.pixels.amax() == 31


def test_triples_lie_on_a_line(store):
    batch = draw(store, triple_share=1.0)
    assert len(batch.triples) == 2 * 50  # half of each frame's 300 rays, in threes
    first, middle, last = (batch.pixels[batch.triples[:, k]] for k in range(3))
    assert torch.equal(last - middle, middle - first)
    assert (((last - middle) != 0).sum(1) == 1).all()
    frames = batch.frame_index[batch.triples]
    assert (frames == frames[:, :1]).all()
    assert len(draw(store, triple_share=0.0).triples) == 0


def test_same_generator_same_rays(store):
    assert torch.equal(draw(store, seed=5).pixels, draw(store, seed=5).pixels)
    assert not torch.equal(draw(store, seed=5).pixels, draw(store, seed=6).pixels)


def test_label_rectangle():
    mask = torch.zeros(8, 10, dtype=torch.bool)
    assert label_rectangle(mask).tolist() == [0, 0, 10, 8]
    mask[2:4, 5:9] = True
    assert label_rectangle(mask).tolist() == [5, 2, 9, 4]
