"""The landmarker: its geometry without models; with them, a real face."""

import numpy as np
import pytest

from nerfad.errors import BackendError, ModelNotFoundError
from nerfad.features.face_mesh import (
    BLENDSHAPE_POINTS,
    CHIN,
    CLASSIC_68,
    EYE_OUTER_LEFT,
    EYE_OUTER_RIGHT,
    FOREHEAD,
    canonical_mesh,
    rigid_points,
)
from nerfad.features.landmarks import (
    FaceLandmarker,
    _Crop,
    _detector_anchors,
    _merge,
    open_landmarker,
)
from nerfad.io.video import VideoReader
from nerfad.models_store import find_model


def test_point_sets_have_their_published_sizes():
    assert len(BLENDSHAPE_POINTS) == 146 and len(CLASSIC_68) == 68
    assert _detector_anchors().shape == (896, 2)


def test_a_crop_turns_the_eye_line_level():
    crop = _Crop.around(np.array([40.0, 50, 120, 130]), np.array([60.0, 80]), np.array([100.0, 100]))
    to_image = crop.to_image()
    np.testing.assert_allclose(to_image @ [128, 128, 1], [80, 90])
    along_x = to_image[:, 0] / np.linalg.norm(to_image[:, 0])
    np.testing.assert_allclose(along_x, np.array([40, 20]) / np.hypot(40, 20))
    assert np.linalg.norm(to_image[:, 0]) * 256 == pytest.approx(1.5 * 80)


def test_overlapping_boxes_are_averaged_and_others_kept():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 12], [30, 30, 40, 40.0]])
    eyes = np.zeros((3, 2, 2))
    groups = _merge(boxes, eyes, np.array([0.6, 0.9, 0.7]))
    assert [round(score, 2) for _, _, score in groups] == [0.9, 0.7]
    np.testing.assert_allclose(groups[0][0], [0, 0, 10, (0.6 * 10 + 0.9 * 12) / 1.5])


def test_unknown_landmarker_and_missing_models_are_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(BackendError, match="choose litert or mediapipe"):
        open_landmarker("dlib")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NERFAD_MODELS", raising=False)
    with pytest.raises(ModelNotFoundError, match="nerfad models fetch"):
        FaceLandmarker()


@pytest.mark.models
def test_canonical_face_is_a_face_in_centimetres(models):
    face = canonical_mesh(find_model("face_landmarker", models))
    assert face.shape == (468, 3)
    assert 8 < face[EYE_OUTER_LEFT, 0] - face[EYE_OUTER_RIGHT, 0] < 10
    assert face[FOREHEAD, 1] > 8 > -8 > face[CHIN, 1]
    rigid = rigid_points(face)
    assert len(rigid) == 196 and face[rigid, 1].min() > -2.2


@pytest.mark.models
def test_no_face_in_noise(models):
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    assert FaceLandmarker(models).detect(noise) is None


def first_frames(path, n: int) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.image for _, frame in zip(range(n), reader, strict=False)]


@pytest.mark.media
def test_landmarks_follow_shift_and_scale_of_the_picture(models, media):
    import cv2

    landmarker = FaceLandmarker(models)
    for image in first_frames(media / "aoc.mp4", 3):
        face = landmarker.detect(image)
        assert face is not None and face.confidence > 0.9
        shifted = landmarker.detect(np.pad(image, ((20, 0), (36, 0), (0, 0)), mode="edge"))
        assert np.abs(shifted.landmarks[:, :2] - face.landmarks[:, :2] - [36, 20]).mean() < 1.0
        half = landmarker.detect(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        # No half-pixel offset between sizes.
        assert np.abs((2 * half.landmarks[:, :2] - face.landmarks[:, :2]).mean(0)).max() < 0.6


@pytest.mark.media
def test_tracking_agrees_with_detecting(models, media):
    detector, tracker = FaceLandmarker(models), FaceLandmarker(models)
    previous, distances = None, []
    for image in first_frames(media / "aoc.mp4", 8):
        previous = tracker.track(image, previous)
        face = detector.detect(image)
        distances.append(np.linalg.norm((face.landmarks - previous.landmarks)[:, :2], axis=1).mean())
    # Pixels of a face 300 pixels wide.
    assert np.mean(distances) < 1.2


@pytest.mark.media
def test_litert_and_mediapipe_agree_within_a_pixel(models, media):
    pytest.importorskip("mediapipe")
    ours, theirs = FaceLandmarker(models, passes=1), open_landmarker("mediapipe", models)
    for image in first_frames(media / "aoc.mp4", 5):
        a, b = ours.detect(image), theirs.detect(image)
        assert np.linalg.norm((a.landmarks - b.landmarks)[:, :2], axis=1).mean() < 1.0
        assert np.abs(a.blendshapes - b.blendshapes).mean() < 0.05
