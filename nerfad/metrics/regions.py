"""The face and the mouth as pixel masks, from the 478 landmarks (or rectangles) of the true frame.

Regions come from the *true* frame, are used for scoring only, and never reach the renderer.
"""

from __future__ import annotations

import cv2
import numpy as np

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
OUTER_LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291,
    409, 270, 269, 267, 0, 37, 39, 40, 185,
)  # fmt: skip

FACE_SCALE = 1.15
MOUTH_SCALE = 1.4


def _scaled(points: np.ndarray, scale: float) -> np.ndarray:
    """Points moved away from their mean by a factor."""
    mean = points.mean(axis=0)
    return mean + scale * (points - mean)


def _filled(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels whose centres, at +0.5, lie inside the polygon (even-odd rule).

    cv2.fillPoly would add every pixel that the border touches, 5 % of a mouth.
    """
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    rows = np.arange(height)[:, None] + 0.5
    crossed = (y0 <= rows) != (y1 <= rows)
    slope = (x1 - x0) / np.where(y1 == y0, 1.0, y1 - y0)
    crossings = np.sort(np.where(crossed, x0 + (rows - y0) * slope, np.inf), axis=1)
    mask = np.zeros((height, width), bool)
    for row in np.nonzero(crossed.any(axis=1))[0]:
        columns = np.clip(np.ceil(crossings[row][: crossed[row].sum()] - 0.5), 0, width).astype(int)
        for start, end in columns.reshape(-1, 2):
            mask[row, start:end] = True
    return mask


def face_mask(landmarks: np.ndarray, height: int, width: int) -> np.ndarray:
    """The face: the oval's 36 landmarks, scaled by 1.15 about their mean. [height, width] bool."""
    oval = np.asarray(landmarks, np.float64)[list(FACE_OVAL), :2]
    return _filled(_scaled(oval, FACE_SCALE), height, width)


def mouth_mask(landmarks: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mouth: the convex hull of the outer lips, scaled by 1.4 about their mean. [height, width] bool."""
    lips = np.asarray(landmarks, np.float64)[list(OUTER_LIPS), :2]
    hull = cv2.convexHull(_scaled(lips, MOUTH_SCALE).astype(np.float32))[:, 0]
    return _filled(hull, height, width)


def ellipse_mask(rect: np.ndarray, scale: float, height: int, width: int) -> np.ndarray:
    """The ellipse inscribed in a rectangle (x, y, w, h), scaled about its centre. [height, width] bool.

    For data sets that have no landmarks but give `face_rect` and `lip_rect`.
    """
    x, y, w, h = (float(v) for v in rect)
    columns = (np.arange(width) + 0.5 - (x + w / 2)) / (scale * w / 2)
    rows = (np.arange(height) + 0.5 - (y + h / 2)) / (scale * h / 2)
    return rows[:, None] ** 2 + columns[None] ** 2 <= 1
