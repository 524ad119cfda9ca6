"""Depth of the rendered head against exact depth, which only the sample data sets have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DepthError:
    """Mean absolute errors in percent of the head's depth range in that frame."""

    percent: float
    flat_card_percent: float
    pixels: int


def depth_error(
    rendered: np.ndarray, exact: np.ndarray, head: np.ndarray, face: np.ndarray
) -> DepthError | None:
    """Compare depth over face pixels; None where no face pixel has exact depth.

    `rendered`, `exact`: [height, width] distance from the camera in the same units; `head`, `face`: bool
    masks. The range is that of the exact depth over head pixels, 1st to 99th percentile. The flat
    card stands at the exact depth's median over the face, the best a flat picture can do.
    """
    face = face & np.isfinite(exact) & (exact > 0)
    head = head & np.isfinite(exact) & (exact > 0)
    if not face.any():
        return None
    near, far = np.percentile(exact[head], [1, 99])
    span = max(float(far - near), 1e-9)
    error = np.abs(rendered[face].astype(np.float64) - exact[face])
    # A face pixel without any rendered depth counts as a full range off, not as missing.
    error = np.where(np.isfinite(error), np.minimum(error, span), span)
    card = np.abs(exact[face] - np.median(exact[face]))
    return DepthError(100 * float(error.mean()) / span, 100 * float(card.mean()) / span, int(face.sum()))
