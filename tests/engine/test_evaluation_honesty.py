"""What an evaluation may know of held-out frames: head pose, torso, background. Nothing of the face.

The face pixels, action units, landmarks and blendshapes of the held-out frames are replaced by noise,
before training and again before rendering; every render of the head must come out bit for bit the same.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_data import FPS, train_tiny, write_tiny_dataset

from nerfad.data.dataset import Dataset, load_dataset
from nerfad.data.writer import DatasetWriter
from nerfad.engine.evaluation_sources import AvatarSource, SourceFrame
from nerfad.io.images import load_image, save_image

HEAD = 1

N_FRAMES = 80


def held_out(data: Dataset) -> np.ndarray:
    """Positions that no training uses, whatever its audio window: the last fifth."""
    return data.split(0.3, 0.2)[1]


def with_noise_for_faces(source: Path, target: Path) -> Path:
    """A copy in which nothing of the held-out faces is left."""
    shutil.copytree(source, target)
    data, writer, rng = load_dataset(target), DatasetWriter(target), np.random.default_rng(7)
    test = held_out(data)
    for i in test:
        head = data.labels(int(i)) == HEAD
        for name in ("ori_imgs", "gt_imgs"):
            path = target / name / f"{data.frame_ids[i]}.jpg"
            image = load_image(path)
            image[head] = rng.integers(0, 256, (int(head.sum()), 3))
            save_image(path, image)
    for name in ("landmarks", "blendshapes"):
        values = np.load(target / f"{name}.npy")
        values[test] = rng.uniform(0, 30, values[test].shape)
        writer.write_array(name, values)
    assert data.aus is not None
    data.aus[test] = rng.uniform(0, 1, data.aus[test].shape)
    writer.write_aus(data.frame_ids, data.au_names, data.aus, FPS)
    return target


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_tiny_dataset(tmp_path_factory.mktemp("clean") / "data", N_FRAMES)
    rng = np.random.default_rng(1)
    writer = DatasetWriter(root)
    writer.write_array("landmarks", rng.uniform(8, 24, (N_FRAMES, 478, 3)).astype(np.float32))
    writer.write_array("blendshapes", rng.uniform(0, 1, (N_FRAMES, 52)).astype(np.float32))
    return root


@pytest.fixture(scope="module")
def noisy(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_noise_for_faces(clean, tmp_path_factory.mktemp("noisy") / "data")


@pytest.fixture(scope="module")
def run(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(clean, tmp_path_factory.mktemp("run"))


def renders(run: Path, data: Path) -> list[SourceFrame]:
    source = AvatarSource.open(run, data)
    return list(source.frames(source.positions))


def assert_same(some: list[SourceFrame], others: list[SourceFrame]) -> None:
    assert len(some) == len(others) == N_FRAMES // 5
    for a, b in zip(some, others, strict=True):
        assert a.position == b.position
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.opacity, b.opacity)
        np.testing.assert_array_equal(a.depth, b.depth)


def test_the_noise_is_where_it_should_be(clean: Path, noisy: Path) -> None:
    before, after = load_dataset(clean), load_dataset(noisy)
    test = held_out(before)
    train_frames = np.setdiff1d(np.arange(len(before)), test)
    for i in (int(test[0]), int(test[-1])):
        head = before.labels(i) == HEAD
        difference = np.abs(before.image(i).astype(int) - after.image(i))
        assert difference[head].mean() > 30
    for name in ("landmarks", "blendshapes", "aus"):
        a, b = getattr(before, name), getattr(after, name)
        assert np.abs(a[test] - b[test]).mean() > 0.05
        np.testing.assert_allclose(a[train_frames], b[train_frames], atol=1e-6)
    assert before.fingerprint() == after.fingerprint()


def test_rendering_knows_nothing_of_held_out_faces(run: Path, clean: Path, noisy: Path) -> None:
    assert_same(renders(run, clean), renders(run, noisy))


def test_training_knows_nothing_of_held_out_faces(
    run: Path, clean: Path, noisy: Path, tmp_path: Path
) -> None:
    assert_same(renders(run, clean), renders(train_tiny(noisy, tmp_path / "run"), noisy))


def test_the_comparison_can_fail(run: Path, clean: Path) -> None:
    source = AvatarSource.open(run, clean)
    first = next(source.frames(source.positions))
    source.dataset.c2w[source.positions[0]] = source.dataset.c2w[source.positions[0] - 9]
    moved = next(source.frames(source.positions))
    assert not np.array_equal(first.image, moved.image)
    other = source.with_sound_of(int(source.positions[1]), 3)
    own = next(source.frames(source.positions[1:]))
    assert other.shape == own.image.shape


def test_a_window_shows_what_the_whole_frame_shows(run: Path, clean: Path) -> None:
    source = AvatarSource.open(run, clean)
    position = int(source.positions[0])
    whole = source.with_sound_of(position, 5)
    np.testing.assert_array_equal(source.with_sound_of(position, 5, (9, 14, 25, 31)), whole[14:31, 9:25])
