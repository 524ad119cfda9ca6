"""Structural similarity (Wang et al. 2004) and its multi-scale form (Wang et al. 2003), on luma."""

from __future__ import annotations

import cv2
import numpy as np

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SMALLEST_SIDE = WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)


def _luma(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def _blurred(plane: np.ndarray) -> np.ndarray:
    """Gaussian mean at every place where the whole window lies inside the picture."""
    edge = WINDOW // 2
    full = cv2.GaussianBlur(plane, (WINDOW, WINDOW), SIGMA, borderType=cv2.BORDER_REFLECT)
    return full[edge:-edge, edge:-edge]


def _similarity(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """(mean SSIM, mean contrast-structure term) of two planes."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a = _blurred(a * a) - mean_a**2
    var_b = _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    structure = (2 * covariance + C2) / (var_a + var_b + C2)
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return float(np.mean(luminance * structure)), float(np.mean(structure))


def _check(image: np.ndarray, truth: np.ndarray, smallest: int, name: str) -> None:
    if image.shape != truth.shape:
        raise ValueError(f"{name}: image {list(image.shape)} and truth {list(truth.shape)} differ in shape")
    if min(image.shape[:2]) < smallest:
        raise ValueError(f"{name}: needs at least {smallest} pixels a side, got {list(image.shape[:2])}")


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean SSIM of two uint8 RGB pictures: Gaussian window 11×11, sigma 1.5, K1 0.01, K2 0.03."""
    _check(image, truth, WINDOW, "ssim")
    return _similarity(_luma(image), _luma(truth))[0]


def ms_ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Multi-scale SSIM over five scales with the published weights; sides of at least 176 pixels."""
    _check(image, truth, MS_SSIM_SMALLEST_SIDE, "ms_ssim")
    a, b = _luma(image), _luma(truth)
    product = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        full, structure = _similarity(a, b)
        last = scale == len(SCALE_WEIGHTS) - 1
        # A negative structure term has no real power; it means no similarity at that scale.
        product *= max(full if last else structure, 0.0) ** weight
        a, b = _halved(a), _halved(b)
    return product


def _halved(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape[0] // 2 * 2, plane.shape[1] // 2 * 2
    return cv2.resize(plane[:height, :width], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
