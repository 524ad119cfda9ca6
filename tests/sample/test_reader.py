"""The reader sees the mouth of held-out frames, also when they are soft and noisy."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from nerfad.data.dataset import Dataset
from nerfad.errors import DatasetError
from nerfad.sample.generate import write_script
from nerfad.sample.identity import draw_identity
from nerfad.sample.model import SampleModel
from nerfad.sample.reader import SampleReader, open_sample_reader
from tests.sample.conftest import CLIP_SECONDS


@pytest.fixture(scope="module")
def reader(clip: Dataset) -> SampleReader:
    return open_sample_reader(clip)


def _same(image: np.ndarray) -> np.ndarray:
    return image


def _soft(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), 0.5)


def _noisy(image: np.ndarray) -> np.ndarray:
    grain = np.random.default_rng(int(image[0, 0, 0])).normal(0, 4, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("spoil", "least"), [(_same, 0.98), (_soft, 0.98), (_noisy, 0.96)])
def test_lip_gap_of_held_out_frames(
    clip: Dataset, reader: SampleReader, spoil: Callable[[np.ndarray], np.ndarray], least: float
) -> None:
    truth = np.load(clip.root / "ground_truth/lip_gap.npy")
    test = clip.split(0.2, 0.2)[1]
    seen = np.array([reader.read(spoil(clip.image(int(k)))).lip_gap for k in test])
    assert np.corrcoef(seen, truth[test])[0, 1] >= least
    assert 0.85 <= seen.std() / truth[test].std() <= 1.15


def test_units_and_landmarks_of_held_out_frames(clip: Dataset, reader: SampleReader) -> None:
    assert clip.aus is not None and clip.landmarks is not None
    test = clip.split(0.2, 0.2)[1]
    readings = [reader.read(clip.image(int(k))) for k in test]
    for name in ("AU25", "AU26", "AU45"):
        seen = [reading.aus[name] for reading in readings]
        assert np.corrcoef(seen, clip.aus[test, clip.au_names.index(name)])[0, 1] >= 0.95, name
    points = np.stack([reading.landmarks for reading in readings])
    assert np.linalg.norm((points - clip.landmarks[test])[..., :2], axis=-1).mean() <= 0.3


def test_it_reads_the_mouth_and_not_the_moment(clip: Dataset, reader: SampleReader) -> None:
    # The same held-out frames drawn with a shut mouth: nothing but the mouth tells.
    model, script = SampleModel(draw_identity(0), 64), write_script(CLIP_SECONDS, 0)
    for frame in clip.split(0.2, 0.2)[1][::8]:
        picture = model.render({"AU24": 0.3}, script.poses[frame]).image
        assert reader.read((255 * picture + 0.5).astype(np.uint8)).lip_gap <= 0.02


def test_without_truth_one_sentence(clip: Dataset, tmp_path) -> None:
    with pytest.raises(DatasetError, match="needs its data set"):
        open_sample_reader(None)
    (tmp_path / "x").mkdir()
    moved = Dataset(**{**vars(clip), "root": tmp_path / "x"})
    with pytest.raises(DatasetError, match="missing; make the data set again"):
        open_sample_reader(moved)
