"""Stage 6: the background plate, the median of what is seen behind the person under a still camera."""

from __future__ import annotations

import cv2
import numpy as np

from nerfad.features.regions import BACKGROUND, labels_of
from nerfad.io.images import load_image
from nerfad.preprocess import landmarks
from nerfad.preprocess.workspace import Workspace

STAGE = "background"
_FRAMES = 60
# The mask's edge carries hair and blur of the person: keep this share of the size away from it.
_EDGE_SHARE = 0.02
# Looks at a pixel that make its median trustworthy: a mask errs in single frames.
_MIN_LOOKS = 4


def run(ws: Workspace) -> None:
    """Write bc.jpg."""
    frame_ids = ws.load(landmarks.STAGE)["frame_ids"]
    chosen = frame_ids[np.unique(np.linspace(0, len(frame_ids) - 1, _FRAMES).round().astype(int))]
    width = 2 * round(_EDGE_SHARE * ws.size) + 1
    kernel = np.ones((width, width), np.uint8)

    def observe(frame_id: int) -> tuple[np.ndarray, np.ndarray]:
        person = labels_of(load_image(ws.out / f"parsing/{frame_id}.png")) != BACKGROUND
        return ws.image(frame_id), cv2.dilate(person.astype(np.uint8), kernel) == 0

    seen = list(ws.parallel(STAGE, observe, chosen.tolist(), total=len(chosen)))
    images, free = np.stack([image for image, _ in seen]), np.stack([mask for _, mask in seen])
    plate, count = masked_median(images, free)
    spread = np.abs(images.astype(np.int16) - plate).mean(-1)
    known = count >= min(_MIN_LOOKS, len(chosen))
    ws.writer.write_background(fill_holes(plate, known))
    ws.save(
        STAGE,
        unseen_share=float((~known).mean()),
        residual=float(spread[free].mean()) if free.any() else 0.0,
    )


def masked_median(images: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower median over frames of uint8 [n, H, W, 3] where `free` [n, H, W]; and how often it is free."""
    count = free.sum(0)
    plate = np.zeros(images.shape[1:], np.uint8)
    for row in range(images.shape[1]):
        # Covered values are sorted to the end, where the median's index does not reach.
        values = np.where(free[:, row, :, None], images[:, row], np.uint8(255))
        values.sort(axis=0)
        index = np.maximum((count[row] - 1) // 2, 0)
        plate[row] = np.take_along_axis(values, index[None, :, None], 0)[0]
    return plate, count


def fill_holes(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Continue a uint8 picture smoothly into unknown pixels, from coarse to fine."""
    levels: list[tuple[np.ndarray, np.ndarray]] = [
        (image.astype(np.float32) * known[..., None], known.astype(np.float32))
    ]
    while min(levels[-1][1].shape) > 2 and levels[-1][1].min() < 1e-3:
        colour, weight = levels[-1]
        half = (max(1, colour.shape[1] // 2), max(1, colour.shape[0] // 2))
        smaller = [cv2.resize(v, half, interpolation=cv2.INTER_AREA) for v in (colour, weight)]
        levels.append((np.asarray(smaller[0]), np.asarray(smaller[1])))
    colour, weight = levels[-1]
    filled = colour / np.maximum(weight, 1e-6)[..., None]
    for colour, weight in reversed(levels[:-1]):
        size = (colour.shape[1], colour.shape[0])
        coarse = cv2.resize(filled, size, interpolation=cv2.INTER_LINEAR)
        own = colour / np.maximum(weight, 1e-6)[..., None]
        trust = np.minimum(weight, 1.0)[..., None]
        filled = trust * own + (1.0 - trust) * coarse
    return np.clip(filled + 0.5, 0, 255).astype(np.uint8)
