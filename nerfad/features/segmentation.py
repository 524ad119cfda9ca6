"""Regions of a portrait: head with hair, neck, torso, background.

A small net tells person from background; a guided filter pulls its edge onto the picture's; the face
landmarks then say where the head ends. Hair that falls below the jaw line counts as torso.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from nerfad.features.face_mesh import CHIN, FACE_OVAL, FOREHEAD, JAW_LINE
from nerfad.features.litert import Net
from nerfad.features.regions import BACKGROUND, HEAD, NECK, TORSO
from nerfad.models_store import find_model

_GUIDE_EPSILON = 1e-3
_SHOULDER_RISE = 0.4
# Parts of the person apart from the face's count from this share of the picture on.
_PART_SHARE = 0.03
# Cheeks, whose colour is taken for the neck's.
_CHEEKS = (
    np.array([117, 118, 119, 100, 142, 203, 206, 207, 187, 123]),
    np.array([346, 347, 348, 329, 371, 423, 426, 427, 411, 352]),
)


class PersonSegmenter:
    """Person against background. One object per thread."""

    def __init__(self, models: str | Path | None = None) -> None:
        self._net = Net(find_model("selfie_segmentation", models))

    def probability(self, rgb: np.ndarray) -> np.ndarray:
        """float32 [H, W] in 0..1 for a uint8 RGB picture, edges aligned with the picture's."""
        height, width = self._net.input_shape[1:3]
        small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        mask = self._net(small[None] * np.float32(1 / 255))[0][0, ..., -1]
        return _guided_upsample(mask, small, rgb)


def _guided_upsample(mask: np.ndarray, small: np.ndarray, rgb: np.ndarray, radius: int = 4) -> np.ndarray:
    """Guided filter with a grey guide, its coefficients found at the mask's size and used at the
    picture's (He & Sun, "Fast guided filter", 2015).
    """
    guide = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) * np.float32(1 / 255)
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, window)

    mean_guide, mean_mask = mean(guide), mean(mask)
    covariance = mean(guide * mask) - mean_guide * mean_mask
    slope = covariance / (mean(guide * guide) - mean_guide**2 + _GUIDE_EPSILON)
    offset = mean_mask - slope * mean_guide
    size = (rgb.shape[1], rgb.shape[0])
    slope, offset = (cv2.resize(mean(v), size, interpolation=cv2.INTER_LINEAR) for v in (slope, offset))
    full = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) * np.float32(1 / 255)
    return np.clip(slope * full + offset, 0.0, 1.0)


def portrait_labels(rgb: np.ndarray, person: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Labels of one frame.

    Args:
        rgb: uint8 [H, W, 3].
        person: float [H, W], probability of the person.
        landmarks: [478, >= 2] in pixels from the corner.

    Returns:
        uint8 [H, W]: 0 background, 1 head, 2 neck, 3 torso.
    """
    points = np.asarray(landmarks, np.float64)[:, :2]
    height, width = person.shape
    face = np.zeros((height, width), np.uint8)
    cv2.fillPoly(face, [np.rint(points[FACE_OVAL] - 0.5).astype(np.int32)], 1)
    foreground = _main_parts(person > 0.5, face > 0)
    below = _below_jaw(points, height, width)
    labels = np.full((height, width), BACKGROUND, np.uint8)
    labels[foreground] = HEAD
    labels[foreground & below & (face == 0)] = TORSO
    labels[_neck(rgb, labels == TORSO, points)] = NECK
    return _without_specks(labels)


def _largest_part(mask: np.ndarray) -> np.ndarray:
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return mask if count <= 2 else parts == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()


def _main_parts(mask: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The part with most of the face and all large parts: a scarf in the wall's colour may divide them."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count <= 2:
        return mask
    keep = stats[:, cv2.CC_STAT_AREA] > _PART_SHARE * mask.size
    keep[np.bincount(parts[face & mask], minlength=count).argmax()] = True
    keep[0] = False
    return keep[parts]


def _below_jaw(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels under the jaw line, continued sideways from a little above the chin's level; rising, because
    a tilted head comes down to the shoulder.
    """
    up = points[FOREHEAD] - points[CHIN]
    length = np.linalg.norm(up)
    up = up / length
    right = np.array([-up[1], up[0]])
    jaw = points[JAW_LINE]
    level = points[CHIN] + 0.25 * length * up
    across, along = (jaw - points[CHIN]) @ right, (jaw - level) @ up
    # The jaw below that level, ordered along `right`; beyond its ends the border runs level.
    curve = jaw[along < 0]
    curve = curve[np.argsort(across[along < 0])]
    far = 4.0 * max(height, width)
    polygon = [
        level - far * right + _SHOULDER_RISE * far * up,
        level + ((curve[0] - level) @ right) * right,
        *curve,
        level + ((curve[-1] - level) @ right) * right,
        level + far * right + _SHOULDER_RISE * far * up,
        level + far * right - far * up,
        level - far * right - far * up,
    ]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(np.array(polygon) - 0.5).astype(np.int32)], 1)
    return mask.astype(bool)


def _neck(rgb: np.ndarray, torso: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Torso pixels under the chin whose colour is that of the cheeks. A rough class: collars and
    scarves end it, a skin-coloured shirt does not.
    """
    up = points[FOREHEAD] - points[CHIN]
    length = float(np.linalg.norm(up))
    half_width = 0.32 * float(np.ptp(points[JAW_LINE] @ np.array([-up[1], up[0]]) / length)) * 2
    x, y = points[CHIN]
    rows = slice(max(0, int(y - 0.3 * length)), max(0, min(rgb.shape[0], int(y + 0.55 * length))))
    columns = slice(max(0, int(x - half_width)), max(0, min(rgb.shape[1], int(x + half_width))))
    neck = np.zeros(torso.shape, bool)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return neck
    face_lab = _cheek_colours(rgb, points)
    if len(face_lab) < 10:
        return neck
    # Shade makes the neck darker than the cheeks: only the hue counts.
    spread = np.cov(face_lab[:, 1:].T) + np.diag([16.0, 16.0])
    neck_lab = cv2.cvtColor(rgb[rows, columns], cv2.COLOR_RGB2LAB).astype(np.float32)
    difference = neck_lab[..., 1:] - face_lab[:, 1:].mean(0)
    distance = ((difference @ np.linalg.inv(spread).astype(np.float32)) * difference).sum(-1)
    skin = (distance < 9.0) & torso[rows, columns]
    patch = cv2.morphologyEx(skin.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    neck[rows, columns] = _largest_part(patch > 0) & torso[rows, columns]
    return neck


def _cheek_colours(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Lab colours [n, 3] of every second row and column of the cheeks."""
    corner = np.maximum(points[FACE_OVAL].min(0).astype(int), 0)
    x_end, y_end = np.maximum(points[FACE_OVAL].max(0).astype(int), corner + 1)
    patch = np.ascontiguousarray(rgb[corner[1] : y_end : 2, corner[0] : x_end : 2])
    mask = np.zeros(patch.shape[:2], np.uint8)
    if mask.size == 0:
        return np.zeros((0, 3), np.float32)
    for cheek in _CHEEKS:
        cv2.fillPoly(mask, [np.rint((points[cheek] - corner) / 2).astype(np.int32)], 1)
    return cv2.cvtColor(patch, cv2.COLOR_RGB2LAB)[mask > 0].astype(np.float32)


def _without_specks(labels: np.ndarray) -> np.ndarray:
    """Head pixels not connected to the main head (an ear of noise on a shoulder) become torso."""
    head = labels == HEAD
    main = _largest_part(head)
    labels[head & ~main] = TORSO
    return labels
