"""Regions from a person mask and landmarks, on drawn portraits."""

import cv2
import numpy as np

from nerfad.features.regions import BACKGROUND, HEAD, NECK, TORSO, colours_of, labels_of
from nerfad.features.segmentation import _guided_upsample, portrait_labels
from tests.preprocess.drawn_clip import MESH_X, MESH_Y, mesh

SIZE = 160
SKIN, SUIT, WALL = (215, 165, 140), (40, 40, 60), (70, 130, 200)


def portrait(tilt_deg: float = 0.0, collar_gap: int = 0):
    """A head with hair over a neck over a suit: picture, person mask, landmarks."""
    centre = np.array([80.0, 66.0])
    turn = cv2.getRotationMatrix2D((80.0, 110.0), tilt_deg, 1.0)
    image = np.full((SIZE, SIZE, 3), WALL, np.uint8)
    body, head = np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(body, [np.array([[10, 160], [30, 118], [130, 118], [150, 160]])], 1)
    cv2.rectangle(body, (66, 90), (94, 122 - collar_gap), 2, -1)
    cv2.ellipse(head, (80, 60), (36, 46), 0, 0, 360, 1, -1)
    cv2.ellipse(head, (80, 66), (30, 40), 0, 0, 360, 2, -1)
    head = cv2.warpAffine(head, turn, (SIZE, SIZE), flags=cv2.INTER_NEAREST)
    image[body == 1], image[body == 2] = SUIT, tuple(int(0.7 * v) for v in SKIN)
    image[head == 1], image[head == 2] = (60, 40, 30), SKIN
    points = mesh()
    pixels = centre + np.stack([30 * points[:, 0] / MESH_X, -40 * points[:, 1] / MESH_Y], 1)
    pixels = pixels @ turn[:, :2].T + turn[:, 2]
    return image, ((body > 0) | (head > 0)).astype(np.float32), pixels


def test_head_with_hair_neck_torso_and_background_are_told_apart():
    labels = portrait_labels(*portrait())
    assert labels[66, 80] == HEAD and labels[18, 80] == HEAD and labels[60, 46] == HEAD
    assert labels[113, 80] == NECK
    assert labels[150, 80] == TORSO and labels[140, 30] == TORSO
    assert labels[10, 10] == BACKGROUND


def test_a_tilted_head_does_not_claim_the_shoulder():
    for tilt in (-18.0, 18.0):
        labels = portrait_labels(*portrait(tilt))
        assert (labels[121:] != HEAD).all()


def test_blobs_elsewhere_are_background():
    image, person, points = portrait()
    person[5:12, 140:150] = 1
    assert portrait_labels(image, person, points)[8, 145] == BACKGROUND


def test_a_head_divided_from_the_body_keeps_both():
    image, person, points = portrait()
    person[112:118] = 0
    labels = portrait_labels(image, person, points)
    assert labels[66, 80] == HEAD and labels[150, 80] == TORSO


def test_a_face_at_the_border_does_not_crash():
    image, person, points = portrait()
    for shift in ([0, 90], [70, 0], [-75, 0], [0, -70]):
        assert portrait_labels(image, person, points + shift).shape == (SIZE, SIZE)


def test_label_pictures_read_back():
    labels = np.random.default_rng(0).integers(0, 4, (20, 30), np.uint8)
    np.testing.assert_array_equal(labels_of(colours_of(labels)), labels)
    assert colours_of(np.array([[1, 2, 3]], np.uint8)).tolist() == [[[0, 0, 255], [0, 255, 0], [255, 0, 0]]]


def test_guided_upsampling_snaps_to_the_pictures_edge():
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[:, 61:] = 220
    small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur((np.arange(64) >= 31).astype(np.float32)[None].repeat(64, 0), (0, 0), 2)
    mask = _guided_upsample(coarse, small, picture)
    # The blurred mask alone would be between 0.2 and 0.8 over ten columns.
    assert mask[64, 56] < 0.25 and mask[64, 66] > 0.75
