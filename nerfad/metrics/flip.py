"""FLIP (Andersson et al. 2020): the difference a viewer sees when two pictures alternate."""

from __future__ import annotations

import numpy as np

from nerfad.metrics.unavailable import Unavailable


def flip(image: np.ndarray, truth: np.ndarray) -> float:
    """Mean LDR-FLIP of two uint8 RGB pictures at the reference viewing distance; 0 is identical."""
    try:
        import flip_evaluator
    except ImportError:
        raise Unavailable("unavailable: install flip-evaluator (pip install 'nerfad[train]')") from None
    reference = np.ascontiguousarray(truth, np.float32) / 255
    test = np.ascontiguousarray(image, np.float32) / 255
    _, mean, _ = flip_evaluator.evaluate(reference, test, "LDR", applyMagma=False)
    return float(mean)
