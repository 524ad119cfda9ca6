"""A real clip through the whole pipeline: what the quality report must show."""

import json

import numpy as np
import pytest

from nerfad.data.dataset import load_dataset
from nerfad.preprocess.doctor import doctor
from nerfad.preprocess.pipeline import preprocess

pytestmark = pytest.mark.media


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    import os
    from pathlib import Path

    out = tmp_path_factory.mktemp("real") / "aoc"
    return preprocess(Path(os.environ["NERFAD_MEDIA"]) / "aoc.mp4", out, size=256)


def test_poses_explain_the_landmarks(made):
    quality = json.loads((made / "manifest.json").read_text())["quality"]
    assert quality["detection_rate"] == 1.0
    assert quality["reprojection_px_at_512"]["mean"] <= 1.0
    assert quality["cuts_at_source_frames"] == []
    assert doctor(made).ok


def test_head_torso_and_box_are_where_the_face_is(made):
    dataset = load_dataset(made)
    for k in range(0, len(dataset), 40):
        labels = dataset.labels(k)
        x, y = dataset.landmarks[k, 1, :2].astype(int)
        assert labels[y, x] == 1 and labels[-3, 128] in (2, 3)
        corners = np.array(np.meshgrid(*dataset.aabb.reshape(2, 3).T, indexing="ij")).reshape(3, -1).T
        pixels = dataset.camera.project(dataset.c2w[k].astype(np.float64), corners.astype(np.float64))
        rows, columns = np.nonzero(labels == 1)
        assert pixels[:, 0].min() <= columns.min() and pixels[:, 0].max() >= columns.max() - 2
        assert pixels[:, 1].min() <= rows.min() and pixels[:, 1].max() >= rows.max() - 2
