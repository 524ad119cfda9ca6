"""Proxy action units: units follow their blendshapes, scales are per person, silent units are named."""

import numpy as np
import pytest

from nerfad.features.action_units import AU_NAMES, BLENDSHAPES, PersonScale, raw_action_units
from nerfad.features.face_mesh import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, LIP_LOWER_INNER, lip_gap


def face(gap: float) -> np.ndarray:
    points = np.zeros((478, 3))
    points[EYE_OUTER_RIGHT, 0], points[EYE_OUTER_LEFT, 0] = -50, 50
    points[list(LIP_LOWER_INNER), 1] = gap
    return points


def test_the_fifty_two_blendshapes_are_in_order():
    assert len(BLENDSHAPES) == 52 and BLENDSHAPES[1:] == sorted(BLENDSHAPES[1:])


@pytest.mark.parametrize(
    ("unit", "shapes"),
    [
        ("AU12", ["mouthSmileLeft", "mouthSmileRight"]),
        ("AU26", ["jawOpen"]),
        ("AU45", ["eyeBlinkLeft", "eyeBlinkRight"]),
    ],
)
def test_a_unit_is_the_mean_of_its_blendshapes(unit, shapes):
    blendshapes = np.zeros(52)
    blendshapes[[BLENDSHAPES.index(shape) for shape in shapes]] = 0.8
    raw = raw_action_units(blendshapes, face(0))
    assert raw[AU_NAMES.index(unit)] == pytest.approx(0.8)
    assert np.count_nonzero(raw) == 1


def test_lips_part_over_the_eyes_distance():
    assert lip_gap(face(12.0)) == pytest.approx(0.12)
    assert raw_action_units(np.zeros(52), face(12.0))[AU_NAMES.index("AU25")] == pytest.approx(0.12)


def test_scales_are_per_person_and_say_in_json_what_they_are():
    rng = np.random.default_rng(0)
    raw = rng.uniform(0.1, 0.3, (500, len(AU_NAMES))).astype(np.float32)
    raw[:, 3] = 0.2 + 1e-4 * rng.random(500)
    scale = PersonScale.fit(raw)
    intensities = scale.apply(raw)
    assert intensities.min() == 0.0 and intensities.max() == 1.0
    assert 0.05 < (intensities == 0).mean(0)[0] < 0.15
    assert scale.without_signal() == [AU_NAMES[3]]
    low, high = scale.to_json()[AU_NAMES[0]]
    np.testing.assert_allclose(np.clip((raw[:, 0] - low) / (high - low), 0, 1), intensities[:, 0], atol=1e-6)
