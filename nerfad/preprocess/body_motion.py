"""Motion of the torso in the picture: a similarity against a reference frame, from torso pixels only.

Gauss-Newton on grey values (forward-additive Lucas-Kanade with four parameters), from coarse to fine. The
reference's gradients are used, so each step costs one warp and a 4 x 4 solve.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from nerfad.features.regions import NECK, TORSO

_LEVEL_SIZES = (64, 128, 256)
_ITERATIONS = 8
# Grey difference from which a pixel counts less (a turning collar, a crease).
_ROBUST_GREY = 8.0
# Flat cloth says nothing: only the steepest pixels are compared.
_MAX_PIXELS = 6000


@dataclass(frozen=True)
class _Level:
    """Reference at one size: grey values and weights at the torso's pixels, and the Jacobian [n, 4]."""

    size: int
    grey: np.ndarray
    x: np.ndarray
    y: np.ndarray
    jacobian: np.ndarray


class BodyTracker:
    """Measures frames against one reference frame.

    Args:
        image: uint8 RGB [H, W, 3], the reference.
        labels: uint8 [H, W], its regions.
    """

    def __init__(self, image: np.ndarray, labels: np.ndarray) -> None:
        self._height = image.shape[0]
        self._levels = [_level(image, labels, size) for size in _LEVEL_SIZES if size <= self._height]
        self._pivot = np.array([image.shape[1] / 2, image.shape[0]])

    def measure(self, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
        """(dx, dy in pixels, rotation in rad, log scale) float32 [4] of the torso relative to the
        reference, about the middle of the picture's lower edge; and the mean grey difference left.
        """
        motion = np.zeros(4)
        error = np.inf
        for level in self._levels:
            scale = level.size / self._height
            grey = _grey(image, level.size)
            torso = _torso_mask(labels, level.size).astype(np.float32)
            motion[:2] *= scale
            motion, error = _align(level, grey, torso, motion, self._pivot * scale)
            motion[:2] /= scale
        return motion.astype(np.float32), error


def _grey(image: np.ndarray, size: int) -> np.ndarray:
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.0)


def _torso_mask(labels: np.ndarray, size: int) -> np.ndarray:
    """Torso pixels away from head and neck, with a rim of background: the shoulders' outline shows
    motion that a plain jacket does not.
    """
    small = cv2.resize(labels, (size, size), interpolation=cv2.INTER_NEAREST)
    rim = np.ones((5, 5), np.uint8)
    torso = cv2.dilate((small == TORSO).astype(np.uint8), rim)
    other = cv2.dilate(((small != TORSO) & (small > 0) & (small <= NECK)).astype(np.uint8), rim)
    return (torso > 0) & (other == 0)


def _level(image: np.ndarray, labels: np.ndarray, size: int) -> _Level:
    grey = _grey(image, size)
    rows, columns = np.nonzero(_torso_mask(labels, size))
    slope_x = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    steepest = np.argsort(-np.hypot(slope_x, slope_y)[rows, columns], kind="stable")[:_MAX_PIXELS]
    rows, columns = rows[steepest], columns[steepest]
    slope_x, slope_y = slope_x[rows, columns], slope_y[rows, columns]
    x = columns + 0.5 - size / 2 * image.shape[1] / image.shape[0]
    y = rows + 0.5 - size
    jacobian = np.stack([slope_x, slope_y, slope_y * x - slope_x * y, slope_x * x + slope_y * y], 1)
    return _Level(size, grey[rows, columns], x, y, jacobian.astype(np.float64))


def _align(
    level: _Level, grey: np.ndarray, torso: np.ndarray, motion: np.ndarray, pivot: np.ndarray
) -> tuple[np.ndarray, float]:
    """Refine `motion` (in the level's pixels); a point p of the reference appears at
    pivot + exp(log scale) R (p - pivot) + (dx, dy).
    """
    error = np.inf
    if len(level.grey) < 32:
        return motion, error
    for _ in range(_ITERATIONS):
        cos, sin = np.exp(motion[3]) * np.cos(motion[2]), np.exp(motion[3]) * np.sin(motion[2])
        map_x = (cos * level.x - sin * level.y + pivot[0] + motion[0] - 0.5).astype(np.float32)
        map_y = (sin * level.x + cos * level.y + pivot[1] + motion[1] - 0.5).astype(np.float32)
        seen = _sample(grey, map_x, map_y)
        inside = _sample(torso, map_x, map_y)
        difference = seen - level.grey
        # Per-frame brightness is not motion.
        difference = difference - np.average(difference, weights=inside + 1e-6)
        weights = inside / (1.0 + (difference / _ROBUST_GREY) ** 2)
        weighted = level.jacobian * weights[:, None]
        normal = weighted.T @ level.jacobian
        normal[np.diag_indices(4)] += 1e-3 * normal.diagonal() + 1e-3
        step = -np.linalg.solve(normal, weighted.T @ difference)
        # The Jacobian is the reference's: turn the shift into the frame's axes.
        motion = motion + np.array([cos * step[0] - sin * step[1], sin * step[0] + cos * step[1], *step[2:]])
        error = float(np.average(np.abs(difference), weights=inside + 1e-6))
        if np.abs(step[:2]).max() < 0.01 and np.abs(step[2:]).max() * level.size < 0.01:
            break
    return motion, error


def _sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return cv2.remap(
        image, x[None], y[None], interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )[0]
