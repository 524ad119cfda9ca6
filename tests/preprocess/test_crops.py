"""Face crops: where they are taken, and that they show it."""

import numpy as np

from nerfad.features.face_mesh import FACE_OVAL
from nerfad.preprocess.crops import face_crop, face_squares


def test_squares_surround_the_face_with_one_side():
    points = np.zeros((5, 478, 3), np.float32)
    angle = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    for k in range(5):
        points[k, FACE_OVAL, 0] = 50 + 2 * k + 20 * np.sin(angle)
        points[k, FACE_OVAL, 1] = 60 - k - 30 * np.cos(angle)
    squares = face_squares(points)
    np.testing.assert_allclose(squares[:, 2], 1.25 * 60, rtol=1e-4)
    np.testing.assert_allclose(squares[:, 0] + squares[:, 2] / 2, 50 + 2 * np.arange(5), rtol=1e-4)
    np.testing.assert_allclose(squares[:, 1] + squares[:, 2] / 2, 60 - np.arange(5), rtol=1e-4)


def test_a_crop_shows_its_square():
    row, column = np.mgrid[:128, :128]
    image = np.dstack([2 * column, 2 * row, 0 * row]).astype(np.uint8)
    for side in (56.0, 90.0):
        crop = face_crop(image, np.array([20.0, 30.0, side]), size=56).astype(float)
        # Pixel k of the crop is centred at left + (k + 0.5) side / size, the picture's value there is known.
        centre = 2 * (20 + (np.arange(56) + 0.5) * side / 56 - 0.5)
        np.testing.assert_allclose(crop[28, 5:-5, 0], centre[5:-5], atol=1.5)
    outside = face_crop(image, np.array([-30.0, -30.0, 60.0]))
    assert outside.shape == (112, 112, 3) and (outside[0, 0] == image[0, 0]).all()
