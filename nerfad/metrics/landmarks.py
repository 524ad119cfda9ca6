"""Landmark distance of the mouth, with the published lists of landmarks it runs over."""

from __future__ import annotations

import numpy as np

# MediaPipe's lip refinement set: four rings of 20 landmarks, from the outer border inwards, in
# MediaPipe's own order (lower half, then upper half).
LIP_RINGS = (
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
    (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408),
    (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
)

LMD_40 = LIP_RINGS[0] + LIP_RINGS[3]
"""The lip contours: outer and inner border."""

LMD_79 = (LIP_RINGS[0] + LIP_RINGS[1] + LIP_RINGS[2] + LIP_RINGS[3])[:-1]
"""The refinement set has 80 landmarks and the paper, which uses 79, does not list them: all but the last."""

CLASSIC_MOUTH = (
    *(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91),
    *(78, 81, 13, 311, 308, 402, 14, 178),
)
"""The mouth of the classic 68 landmarks, points 48 to 67, in the mesh: the outer lip from the corner on the
left of the picture over the upper lip, then the inner lip the same way."""


def landmark_distance(generated: np.ndarray, real: np.ndarray, indices: tuple[int, ...] = LMD_40) -> float:
    """Mean distance in pixels between two frames' mouths, each centred on its own mean.

    `generated`, `real`: [478, 2 or 3] in pixels; only x and y count. The mean runs over `indices`.
    """
    a = np.asarray(generated, np.float64)[list(indices), :2]
    b = np.asarray(real, np.float64)[list(indices), :2]
    difference = (a - a.mean(axis=0)) - (b - b.mean(axis=0))
    return float(np.linalg.norm(difference, axis=1).mean())


def lip_gap(landmarks: np.ndarray) -> float:
    """Opening of the mouth: distance of landmarks 13 and 14 over the distance of 33 and 263."""
    points = np.asarray(landmarks, np.float64)[:, :2]
    return float(np.linalg.norm(points[13] - points[14]) / np.linalg.norm(points[33] - points[263]))
