"""Upright crops: where they lie, that they are turned, and that the way back ends where it began."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from folders import N_FRAMES, adnerf

from nerfad.cameras import Camera
from nerfad.data.dataset import Dataset, load_dataset
from nerfad.data.face_crops import EYE_DISTANCE, EYE_ROW, FaceCrops
from nerfad.errors import DatasetError

EYES = {33: (-16, 0), 133: (-8, 0), 362: (8, 0), 263: (16, 0)}
MOUTH = {61: (-9, 20), 291: (9, 20), 172: (-17, 22), 397: (17, 22), 2: (0, 12), 152: (0, 34)}


class Pictured(Dataset):
    """A data set in memory: every frame is the same smooth picture."""

    def image(self, i: int) -> np.ndarray:
        rows, columns = np.mgrid[: self.height, : self.width]
        red = 255 * columns / self.width
        green = 255 * rows / self.height
        blue = 127 + 60 * np.sin(columns / 9) * np.cos(rows / 11)
        return np.stack([red, green, blue], -1).astype(np.uint8)


def pictured(angles=(0.0, 0.3), lost=()):
    """Faces in the middle of 128 x 128 pictures, turned by angles in rad."""
    landmarks = np.zeros((len(angles), 478, 3), np.float32)
    for k, angle in enumerate(angles):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for site, place in (EYES | MOUTH).items():
            landmarks[k, site, :2] = turn @ np.array(place, float) + (64, 50)
    landmarks[list(lost)] = np.nan
    n = len(angles)
    return Pictured(
        root=Path("folder"),
        layout="nerfad",
        camera=Camera(300.0, 300.0, 64.0, 64.0, 128, 128),
        fps=25.0,
        frame_ids=np.arange(10, 10 + n),
        audio_ids=np.arange(n),
        c2w=np.zeros((n, 4, 4)),
        aabb=np.zeros(6),
        segments=np.zeros(n, int),
        audio_path=None,
        audio_kind="mel",
        audio_features=np.zeros((0, 80)),
        image_pattern="",
        landmarks=landmarks,
    )


@pytest.mark.parametrize("size", [112, 64])
def test_eyes_come_to_their_place_however_the_head_is_turned(size):
    dataset = pictured()
    crops = FaceCrops(dataset, size)
    for i in range(2):
        eyes = [dataset.landmarks[i, list(pair), :2].mean(0) for pair in ((33, 133), (362, 263))]
        left, right = crops.points_in_crop(i, np.array(eyes))
        half = EYE_DISTANCE * size / 2
        np.testing.assert_allclose(left, [size / 2 - half, EYE_ROW * size], atol=1e-4)
        np.testing.assert_allclose(right, [size / 2 + half, EYE_ROW * size], atol=1e-4)
        box = crops.mouth_box(i)
        mouth = crops.points_in_crop(i, dataset.landmarks[i, [61, 291, 152]])
        assert (mouth[:, 0] >= box[0]).all() and (mouth[:, 0] <= box[2]).all()
        assert (mouth[:, 1] >= box[1]).all() and (mouth[:, 1] <= box[3]).all()
        area = (box[2] - box[0]) * (box[3] - box[1])
        assert crops.mouth_mask(i).sum() == pytest.approx(area, rel=0.1)


def test_a_crop_shows_what_lies_there():
    dataset = pictured()
    crops = FaceCrops(dataset)
    image = dataset.image(1).astype(float)
    crop = crops.crop(1)
    for row, column in ((30, 40), (80, 20), (55, 100)):
        x, y = crops.to_frame_matrix[1] @ (column + 0.5, row + 0.5, 1.0)
        np.testing.assert_allclose(crop[row, column], image[int(y), int(x)], atol=8)


def test_pasting_back_restores_the_frame():
    dataset = pictured()
    crops = FaceCrops(dataset)
    for i in range(2):
        image = dataset.image(i)
        restored = crops.to_frame(i, crops.crop(i), np.zeros_like(image))
        inside = crops.to_frame(i, np.ones((112, 112), np.float32), np.zeros(image.shape[:2], np.float32)) > 0
        assert 0.3 < inside.mean() < 1
        assert np.abs(restored.astype(int) - image)[inside].max() <= 4
        assert (restored[~inside] == 0).all()


def test_the_size_of_the_picture_does_not_matter():
    dataset = pictured()
    small = replace(dataset, landmarks=dataset.landmarks / 2, camera=dataset.camera.resized(64, 64))
    difference = FaceCrops(small).crop(1).astype(int) - FaceCrops(dataset).crop(1)
    # The blue waves of the picture do not grow with it.
    assert np.abs(difference[..., :2]).mean() < 2


def test_a_frame_without_a_face_is_named():
    crops = FaceCrops(pictured(angles=(0, 0, 0), lost=(1,)))
    assert [crops.has_face(i) for i in range(3)] == [True, False, True]
    with pytest.raises(DatasetError, match="folder: no face was found in frame 11"):
        crops.crop(1)


def test_a_folder_that_says_nothing_of_faces_is_refused():
    with pytest.raises(DatasetError, match="says nowhere where the face is"):
        FaceCrops(replace(pictured(), landmarks=None))


def test_rectangles_are_the_last_resort(tmp_path):
    rects = {"face_rect": np.tile([20, 30, 47, 50], (2, 1))}
    crops = FaceCrops(replace(pictured(), root=tmp_path, landmarks=None, rects=rects))
    middle = np.array([[20 + 23.5, 30 + 0.45 * 20.0]])
    np.testing.assert_allclose(crops.points_in_crop(0, middle), [[56, EYE_ROW * 112]], atol=1e-6)
    assert crops.mouth_mask(0).any()


def test_classic_landmarks_of_other_projects(tmp_path):
    adnerf(tmp_path)
    points = np.zeros((68, 2))
    points[[36, 39, 42, 45]] = [(16, 14), (20, 14), (26, 14), (30, 14)]
    (tmp_path / "ori_imgs").mkdir(exist_ok=True)
    for k in range(N_FRAMES):
        np.savetxt(tmp_path / f"ori_imgs/{k}.lms", points)
    crops = FaceCrops(load_dataset(tmp_path))
    np.testing.assert_allclose(crops.points_in_crop(0, [[23, 14]]), [[56, EYE_ROW * 112]], atol=1e-6)
    half = FaceCrops(load_dataset(tmp_path, size=20))
    np.testing.assert_allclose(half.points_in_crop(0, [[11.5, 7]]), [[56, EYE_ROW * 112]], atol=1e-6)
