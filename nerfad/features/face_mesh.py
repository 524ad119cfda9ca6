"""The face mesh of MediaPipe's landmarker: named sets of its 478 points, and its canonical shape."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

N_POINTS = 478

# fmt: off
# Points that the blendshape net reads, in its order.
BLENDSHAPE_POINTS = np.array([
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70,
    78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149,
    150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195,
    197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300,
    308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375,
    377, 378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454,
    466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
])
# Outline of the face, clockwise from the top of the forehead.
FACE_OVAL = np.array([
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
    149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
])
# The part of it below the ears, from the subject's left ear over the chin to the right ear.
JAW_LINE = np.array([
    454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234,
])
LIPS_OUTER = np.array([
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
])
# The classic 68 points (jaw, brows, nose, eyes, lips), as commonly mapped onto this mesh.
CLASSIC_68 = np.array([
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301, 168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
])
# Lids and brows: they move with the expression.
_EYES_AND_BROWS = np.array([
    7, 22, 23, 24, 25, 26, 27, 28, 29, 30, 33, 35, 46, 52, 53, 55, 56, 63, 65, 66, 70, 105, 107, 110, 112,
    124, 130, 133, 144, 145, 153, 154, 155, 156, 157, 158, 159, 160, 161, 163, 173, 189, 190, 193, 221, 222,
    223, 224, 225, 243, 246, 247, 249, 252, 253, 254, 255, 256, 257, 258, 259, 260, 263, 265, 276, 282, 283,
    285, 286, 293, 295, 296, 300, 334, 336, 339, 341, 353, 359, 362, 373, 374, 380, 381, 382, 383, 384, 385,
    386, 387, 388, 390, 398, 413, 414, 417, 441, 442, 443, 444, 445, 463, 466, 467,
])
# fmt: on
_NOSE_BASE_CM = -2.2
FOREHEAD, CHIN, NOSE_TIP = 10, 152, 1
EYE_OUTER_RIGHT, EYE_OUTER_LEFT = 33, 263
LIP_UPPER_INNER, LIP_LOWER_INNER = (13, 82, 312), (14, 87, 317)


def lip_gap(landmarks: np.ndarray) -> np.ndarray:
    """Distance of the inner lips over that of the outer eye corners, for [..., 478, >= 2] landmarks."""
    points = np.asarray(landmarks)[..., :2]
    gaps = [
        np.linalg.norm(points[..., upper, :] - points[..., lower, :], axis=-1)
        for upper, lower in zip(LIP_UPPER_INNER, LIP_LOWER_INNER, strict=True)
    ]
    eyes = np.linalg.norm(points[..., EYE_OUTER_RIGHT, :] - points[..., EYE_OUTER_LEFT, :], axis=-1)
    return np.mean(gaps, axis=0) / np.maximum(eyes, 1e-6)


def canonical_mesh(task: str | Path) -> np.ndarray:
    """The canonical face of a landmarker bundle, float64 [468, 3] in cm: x to the viewer's right for a
    face that looks at him, y up, z towards him.
    """
    with zipfile.ZipFile(task) as archive:
        metadata = archive.read("geometry_pipeline_metadata_landmarks.binarypb")
    floats = [
        struct.unpack("<f", value)[0]
        for field, kind, mesh in _fields(metadata)
        if field == 1 and kind == 2
        for inner, inner_kind, value in _fields(mesh)
        if inner == 3 and inner_kind == 5
    ]
    # Vertices are (x, y, z, u, v).
    return np.array(floats, np.float64).reshape(-1, 5)[:, :3]


def rigid_points(canonical: np.ndarray) -> np.ndarray:
    """Points that move with the skull: above the base of the nose, without lids and brows; int [196]."""
    above = np.nonzero(canonical[:, 1] > _NOSE_BASE_CM)[0]
    return np.setdiff1d(above, _EYES_AND_BROWS)


def _fields(message: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(field number, wire type, raw value) of a protocol-buffer message."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            start = position
            _, position = _varint(message, position)
        elif kind == 2:
            length, start = _varint(message, position)
            position = start + length
        elif kind == 5:
            start, position = position, position + 4
        else:
            raise ValueError(f"unexpected wire type {kind}")
        yield field, kind, message[start:position]


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position
