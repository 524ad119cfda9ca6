"""A clip that is drawn, and stand-ins for the nets that read it: the whole pipeline runs without models.

The head is a skin-coloured ellipse with a known path, the torso a striped trapezoid with another. The
stand-in landmarker finds the ellipse by its colour and answers with the projection of an egg-shaped mesh.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from nerfad.features.face_mesh import CLASSIC_68, FACE_OVAL, N_POINTS
from nerfad.features.landmarks import Face, FaceBox
from nerfad.io.video import write_video

SKIN = np.array([220, 170, 140])
WALL = np.array([60, 120, 90])
N_FRAMES = 30
# Half axes of the drawn head over the picture's size, and of the mesh in cm.
HEAD_X, HEAD_Y = 0.16, 0.21
MESH_X, MESH_Y, MESH_Z = 7.5, 9.8, 7.0
DISTANCE_CM = 1200 / 512 * MESH_Y / HEAD_Y


def head_centre(k: int, size: int) -> np.ndarray:
    return size * (np.array([0.5, 0.42]) + 0.03 * np.array([np.sin(k / 9), np.cos(k / 7)]))


def torso_shift(k: int, size: int) -> np.ndarray:
    return size * 0.02 * np.array([np.sin(k / 11), 0.5 * np.cos(k / 13)])


def draw(k: int, size: int, n_heads: int = 1) -> np.ndarray:
    """Frame k, uint8 RGB [size, size, 3]."""
    rows = np.arange(size)[:, None, None]
    image = np.broadcast_to(WALL + rows * 40 / size, (size, size, 3)).astype(np.uint8).copy()
    shift = torso_shift(k, size)
    outline = np.array([[0.3, 0.66], [0.7, 0.66], [0.9, 1.1], [0.1, 1.1]]) * size + shift
    cv2.fillPoly(image, [np.rint(outline * 16).astype(np.int32)], (40, 40, 110), cv2.LINE_AA, 4)
    for x in (0.38, 0.5, 0.62):
        top, bottom = np.array([x, 0.68]) * size + shift, np.array([x - 0.02, 1.1]) * size + shift
        ends = [tuple(np.rint(p * 16).astype(int).tolist()) for p in (top, bottom)]
        cv2.line(image, *ends, (230, 230, 235), max(2, size // 40), cv2.LINE_AA, 4)
    for head in range(n_heads):
        centre = head_centre(k, size) + np.array([0.33 * head, 0]) * size - (n_heads - 1) * 0.17 * size
        axes = np.array([HEAD_X, HEAD_Y]) * size * (0.9 if n_heads > 1 else 1.0)
        points = [tuple(np.rint(v * 16).astype(int).tolist()) for v in (centre - 0.5, axes)]
        cv2.ellipse(image, points[0], points[1], 0, 0, 360, SKIN.tolist(), -1, cv2.LINE_AA, 4)
        opening = 0.015 + 0.01 * np.sin(k)
        mouth = [
            tuple(np.rint(v * 16).astype(int).tolist())
            for v in (centre + np.array([0, 0.11]) * size - 0.5, np.array([0.05, opening]) * size)
        ]
        cv2.ellipse(image, mouth[0], mouth[1], 0, 0, 360, (120, 30, 40), -1, cv2.LINE_AA, 4)
    return image


def speech(seconds: float) -> tuple[np.ndarray, int]:
    t = np.arange(round(seconds * 16000)) / 16000
    return (0.3 * np.sin(2 * np.pi * 180 * t) * (1 + np.sin(2 * np.pi * 3 * t)) / 2).astype(np.float32), 16000


def write_clip(
    path: Path, frames: list[np.ndarray] | None = None, *, size: int = 128, fps: float = 25
) -> Path:
    frames = [draw(k, size) for k in range(N_FRAMES)] if frames is None else frames
    write_video(path, frames, fps, audio=speech(len(frames) / fps), crf=10, preset="ultrafast", comment=None)
    return path


def mesh() -> np.ndarray:
    """An egg of 478 points in cm, the outline of the face on its rim."""
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 2 * np.pi, N_POINTS), np.sqrt(rng.uniform(0, 0.9, N_POINTS))
    angle[FACE_OVAL] = np.pi / 2 - np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    radius[FACE_OVAL] = 0.97
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    z = np.sqrt(np.maximum(1 - x**2 - y**2, 0))
    return np.stack([MESH_X * x, MESH_Y * y, MESH_Z * z], 1)


def _heads(rgb: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(centre, half axes) of the skin-coloured ellipses, the largest first."""
    step = max(1, rgb.shape[0] // 256)
    small = rgb[::step, ::step].astype(np.int16)
    skin = (np.abs(small - SKIN.astype(np.int16)).max(-1) < 30).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(skin)
    found = []
    for x, y, width, height, area in sorted(stats[1:].tolist(), key=lambda row: -row[4]):
        if area > 0.01 * skin.size:
            centre, axes = np.array([x + width / 2, y + height / 2]), np.array([width, height]) / 2
            found.append((centre * step, axes * step))
    return found


class DrawnLandmarker:
    """Stands in for the face landmarker."""

    def __init__(self, models: object = None) -> None:
        del models

    def find_faces(self, rgb: np.ndarray) -> list[FaceBox]:
        return [
            FaceBox(np.concatenate([c - a, c + a]), np.stack([c - a * (0.5, 0), c + a * (0.5, 0)]), 0.9)
            for c, a in _heads(rgb)
        ]

    def detect(self, rgb: np.ndarray) -> Face | None:
        heads = _heads(rgb)
        if not heads:
            return None
        centre, axes = heads[0]
        points = mesh()
        scale = axes[1] / MESH_Y * DISTANCE_CM / (DISTANCE_CM - points[:, 2])
        pixels = centre + np.stack([points[:, 0] * scale, -points[:, 1] * scale], 1)
        landmarks = np.concatenate([pixels, -points[:, 2:] * axes[1] / MESH_Y], 1)
        assert CLASSIC_68.max() < len(landmarks)
        return Face(landmarks.astype(np.float32), np.full(52, 0.1, np.float32), 1.0)


class DrawnSegmenter:
    """Stands in for the person segmenter: everything that is not the wall's colour."""

    def __init__(self, models: object = None) -> None:
        del models

    def probability(self, rgb: np.ndarray) -> np.ndarray:
        size = rgb.shape[0]
        wall = WALL + np.arange(size)[:, None, None] * 40 / size
        return (np.abs(rgb - wall).max(-1) > 24).astype(np.float32)
