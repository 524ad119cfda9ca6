"""Peak signal-to-noise ratio, of a whole picture or of a region."""

from __future__ import annotations

import numpy as np

CEILING_DB = 100.0
"""Reported for identical pictures, whose ratio is infinite."""


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """−10 log10 of the mean squared error of two uint8 RGB pictures on the scale 0..1, in dB.

    The mean runs over the pixels (of `mask`, [height, width] bool) and the three channels. NaN where
    the mask is empty.

    >>> import numpy as np
    >>> black = np.zeros((4, 4, 3), np.uint8)
    >>> round(psnr(black, black + 51), 3)       # an error of 0.2 everywhere
    13.979
    """
    if image.shape != truth.shape:
        raise ValueError(f"psnr: image {list(image.shape)} and truth {list(truth.shape)} differ in shape")
    error = image.astype(np.float64) - truth
    if mask is not None:
        if not mask.any():
            return float("nan")
        error = error[mask]
    mse = float(np.mean(error * error)) / 255.0**2
    return CEILING_DB if mse <= 0 else min(CEILING_DB, -10.0 * float(np.log10(mse)))
