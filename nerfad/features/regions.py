"""Regions of a portrait: their labels, and the colours that label pictures (parsing/%d.png) use."""

from __future__ import annotations

import cv2
import numpy as np

BACKGROUND, HEAD, NECK, TORSO = range(4)
# Red, green, blue of labels 0-3, as AD-NeRF's and RAD-NeRF's preparation scripts paint them.
LABEL_COLOURS = np.array([(255, 255, 255), (0, 0, 255), (0, 255, 0), (255, 0, 0)], np.uint8)

_TO_COLOUR = np.full((1, 256, 3), 255, np.uint8)
_TO_COLOUR[0, : len(LABEL_COLOURS)] = LABEL_COLOURS


def _labels_of_corners() -> np.ndarray:
    """Label of every corner of the colour cube, one bit a channel; corners nobody paints are background."""
    table = np.full(256, BACKGROUND, np.uint8)
    for label, (red, green, blue) in enumerate(LABEL_COLOURS > 127):
        table[red + 2 * green + 4 * blue] = label
    return table


_FROM_CORNER = _labels_of_corners()


def colours_of(labels: np.ndarray) -> np.ndarray:
    """Label picture, uint8 RGB [H, W, 3], of labels uint8 [H, W].

    >>> labels_of(colours_of(np.array([[0, 1, 2, 3]], np.uint8))).tolist()
    [[0, 1, 2, 3]]
    """
    return cv2.LUT(cv2.merge([labels] * 3), _TO_COLOUR)


def labels_of(colours: np.ndarray) -> np.ndarray:
    """Labels uint8 [H, W] of a label picture in RGB; a colour counts as the nearest corner of the colour
    cube, because some tools save interpolated values.
    """
    bits = colours >> 7
    corner = bits[..., 0] + (bits[..., 1] << 1) + (bits[..., 2] << 2)
    return cv2.LUT(corner, _FROM_CORNER)
