"""Expression codes: free of pose, standardised, invertible where they claim to be."""

import json

import numpy as np
import pytest

from nerfad.models.expression import (
    CLASSIC,
    MESH,
    ExpressionCodes,
    blink_code,
    eye_openness,
    lip_gap,
)


def moving_mouth(n_frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks [n, 478, 3] of a rigid random face whose lower half opens by ``opening`` [n]."""
    rng = np.random.default_rng(seed)
    face = rng.normal(size=(478, 3)) * [40, 50, 20] + [256, 256, 0]
    face[MESH.outer_eyes[0]], face[MESH.outer_eyes[1]] = [200, 220, 0], [300, 220, 0]
    face[MESH.upper_lip], face[MESH.lower_lip] = [250, 300, 10], [250, 302, 10]
    opening = rng.uniform(0, 12, n_frames)
    landmarks = np.repeat(face[None], n_frames, 0)
    landmarks[:, MESH.lower_lip, 1] += opening
    landmarks[:, 152, 1] += opening
    return landmarks, opening


def turned(
    landmarks: np.ndarray, angle: float, scale: float, shift: tuple[float, float, float]
) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return scale * landmarks @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T + shift


def test_first_code_is_the_lip_gap():
    landmarks, _ = moving_mouth(50)
    codes = ExpressionCodes.fit_landmarks(landmarks, 3)
    encoded = codes.encode(landmarks)
    assert codes.names[0] == "lip_gap" and encoded.shape == (50, 4) and encoded.dtype == np.float32
    np.testing.assert_allclose(codes.lip_gap(encoded), lip_gap(landmarks), atol=1e-6)


def test_codes_are_standardised_over_the_frames_they_were_fitted_on():
    landmarks, _ = moving_mouth(80)
    landmarks = landmarks + np.random.default_rng(1).normal(size=landmarks.shape)
    encoded = ExpressionCodes.fit_landmarks(landmarks, 4).encode(landmarks)
    np.testing.assert_allclose(encoded.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(encoded.std(0), 1, atol=1e-4)


def test_codes_do_not_know_position_size_or_roll():
    landmarks, _ = moving_mouth(40)
    codes = ExpressionCodes.fit_landmarks(landmarks, 1)
    moved = turned(landmarks, 0.3, 1.4, (30, -20, 5))
    np.testing.assert_allclose(codes.encode(moved), codes.encode(landmarks), atol=1e-3)


def test_a_mode_follows_the_jaw():
    landmarks, opening = moving_mouth(60)
    encoded = ExpressionCodes.fit_landmarks(landmarks, 1).encode(landmarks)
    assert abs(np.corrcoef(encoded[:, 1], opening)[0, 1]) > 0.999


def test_state_survives_json():
    landmarks, _ = moving_mouth(30)
    codes = ExpressionCodes.fit_landmarks(landmarks, 2)
    text = json.dumps(codes.state(), default=lambda value: value.tolist())
    again = ExpressionCodes.from_state(json.loads(text))
    np.testing.assert_array_equal(again.encode(landmarks), codes.encode(landmarks))
    assert again.names == codes.names


def test_action_units_as_codes():
    aus = np.random.default_rng(0).uniform(0, 1, (40, 2))
    codes = ExpressionCodes.fit_aus(aus, ("AU25", "AU26"))
    np.testing.assert_allclose(codes.encode(aus).std(0), 1, atol=1e-5)
    np.testing.assert_allclose(codes.lip_gap(codes.encode(aus)), aus[:, 0], atol=1e-6)


def test_learnt_codes_refuse_to_encode():
    with pytest.raises(ValueError, match="learnt codes have no measurement"):
        ExpressionCodes.learnt(4).encode(np.zeros((3, 4)))


def test_blink_code_is_zero_when_open_and_one_when_closed():
    openness = np.full(200, 0.3)
    openness[50:54] = 0.02
    code = blink_code(openness, np.arange(200))
    assert code.shape == (200, 1) and code[0, 0] == 0 and code[51, 0] == 1


def test_blink_scale_ignores_frames_outside_training():
    openness = np.full(200, 0.3)
    openness[20:24] = 0.05
    other = openness.copy()
    other[150:] = 0.9
    train = np.arange(150)
    np.testing.assert_array_equal(blink_code(openness, train)[:150], blink_code(other, train)[:150])


def test_eyes_that_never_blink_give_a_flat_code():
    openness = 0.3 + 0.005 * np.random.default_rng(0).normal(size=300)
    assert blink_code(openness, np.arange(300)).max() < 0.2


def test_eye_openness_is_height_over_width():
    landmarks = np.zeros((1, 478, 3))
    for top, bottom, outer, inner in ((159, 145, 33, 133), (386, 374, 263, 362)):
        landmarks[0, [top, bottom, outer, inner], :2] = [[5, 0], [5, 3], [0, 1], [10, 1]]
    np.testing.assert_allclose(eye_openness(landmarks), [0.3])


def test_classic_landmarks_give_the_same_kind_of_codes():
    rng = np.random.default_rng(3)
    face = rng.normal(size=(68, 2)) * [40, 50] + [256, 256]
    opening = rng.uniform(2, 12, 60)
    landmarks = np.repeat(face[None], 60, 0)
    landmarks[:, CLASSIC.lower_lip] = landmarks[:, CLASSIC.upper_lip] + opening[:, None] * [0.0, 1.0]
    codes = ExpressionCodes.fit_landmarks(landmarks, 1)
    encoded = codes.encode(landmarks)
    assert codes.kind == "landmarks" and codes.names[0] == "lip_gap"
    np.testing.assert_allclose(encoded[:, 0], (opening - opening.mean()) / opening.std(), atol=1e-4)
    turned_face = landmarks @ np.array([[0.96, -0.28], [0.28, 0.96]]).T * 1.3 + 20
    np.testing.assert_allclose(codes.encode(turned_face), encoded, atol=1e-3)
    assert eye_openness(landmarks).shape == (60,)
