"""The torso's similarity is measured to a fraction of a pixel, whatever the head does."""

import cv2
import numpy as np
import pytest

from nerfad.features.regions import HEAD, TORSO
from nerfad.preprocess.body_motion import BodyTracker

SIZE = 128


def portrait() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    cloth = cv2.resize(
        rng.integers(30, 200, (16, 16, 3), np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC
    )
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[80:, 14:114] = TORSO
    image = np.where((labels == TORSO)[..., None], cloth, np.uint8(90))
    return image, labels


def moved(image, labels, motion):
    """The torso moved by (dx, dy, rotation, log scale) about the middle of the lower edge."""
    scale, cos, sin = np.exp(motion[3]), np.cos(motion[2]), np.sin(motion[2])
    turn = scale * np.array([[cos, -sin], [sin, cos]])
    pivot = np.array([SIZE / 2, SIZE]) - 0.5
    matrix = np.column_stack([turn, pivot + motion[:2] - turn @ pivot])
    picture = cv2.warpAffine(
        image, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return picture, cv2.warpAffine(labels, matrix, (SIZE, SIZE), flags=cv2.INTER_NEAREST)


@pytest.mark.parametrize(
    "motion", [(0, 0, 0, 0), (3.3, -1.7, 0, 0), (-6, 2, 0.03, 0), (2, 1, -0.02, 0.04), (9, -4, 0.02, -0.03)]
)
def test_known_motions(motion):
    image, labels = portrait()
    found, error = BodyTracker(image, labels).measure(*moved(image, labels, motion))
    np.testing.assert_allclose(found[:2], motion[:2], atol=0.15)
    np.testing.assert_allclose(found[2:], motion[2:], atol=0.004)
    assert error < 6


def test_a_head_that_moves_alone_changes_nothing():
    image, labels = portrait()
    tracker = BodyTracker(image, labels)
    results = []
    for x in (40, 55):
        picture, regions = image.copy(), labels.copy()
        cv2.circle(picture, (x + 10, 60), 26, (230, 180, 150), -1)
        cv2.circle(regions, (x + 10, 60), 26, HEAD, -1)
        results.append(tracker.measure(picture, regions)[0])
    for found in results:
        np.testing.assert_allclose(found, 0, atol=0.12)


def test_brightness_is_not_motion():
    image, labels = portrait()
    brighter = np.clip(image.astype(int) + 12, 0, 255).astype(np.uint8)
    found, _ = BodyTracker(image, labels).measure(brighter, labels)
    np.testing.assert_allclose(found, 0, atol=0.05)


def test_no_torso_in_sight_is_no_motion():
    image, labels = portrait()
    found, _ = BodyTracker(image, np.zeros_like(labels)).measure(image, labels)
    np.testing.assert_array_equal(found, 0)
