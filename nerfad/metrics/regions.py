"""The face and the mouth as pixel masks, from the 478 landmarks of the true frame.

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
    """Pixels whose centres lie inside the polygon; pixel (row, column) has its centre at +0.5."""
    mask = np.zeros((height, width), np.uint8)
    subpixel_bits = 4
    fixed = np.round((polygon - 0.5) * (1 << subpixel_bits)).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 1, shift=subpixel_bits)
    return mask.astype(bool)


def face_mask(landmarks: np.ndarray, height: int, width: int) -> np.ndarray:
    """The face: the oval's 36 landmarks, scaled by 1.15 about their mean. [height, width] bool."""
    oval = np.asarray(landmarks, np.float64)[list(FACE_OVAL), :2]
    return _filled(_scaled(oval, FACE_SCALE), height, width)


def mouth_mask(landmarks: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mouth: the convex hull of the outer lips, scaled by 1.4 about their mean. [height, width] bool."""
    lips = np.asarray(landmarks, np.float64)[list(OUTER_LIPS), :2]
    hull = cv2.convexHull(_scaled(lips, MOUTH_SCALE).astype(np.float32))[:, 0]
    return _filled(hull, height, width)
