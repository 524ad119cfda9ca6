"""Real and rendered frames next to each other, as a picture and as a video with sound."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from nerfad.data.dataset import Dataset
from nerfad.io.audio import read_audio

CAPTION_ROWS = 22
ERROR_GAIN = 3


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """The picture below a dark bar with a line of text."""
    bar = np.full((CAPTION_ROWS, image.shape[1], 3), (24, 26, 32), np.uint8)
    cv2.putText(bar, text, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (225, 228, 235), 1, cv2.LINE_AA)
    return np.concatenate([bar, image])


def side_by_side(truth: np.ndarray, image: np.ndarray, rendered: str = "rendered") -> np.ndarray:
    """Real frame left, rendered frame right."""
    return np.concatenate([captioned(truth, "real"), captioned(image, rendered)], axis=1)


def strip(pairs: Sequence[tuple[np.ndarray, np.ndarray]], rendered: str = "rendered") -> np.ndarray:
    """Three rows: real frames, rendered frames, and their absolute difference, brightened."""
    rows = [[], [], []]  # type: list[list[np.ndarray]]
    for k, (truth, image) in enumerate(pairs):
        difference = np.abs(truth.astype(np.int16) - image) * ERROR_GAIN
        names = ("real", rendered, f"difference x{ERROR_GAIN}") if k == 0 else ("", "", "")
        pictures = (truth, image, np.clip(difference, 0, 255).astype(np.uint8))
        for row, picture, name in zip(rows, pictures, names, strict=True):
            row.append(captioned(picture, name))
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def sound_of(dataset: Dataset, positions: np.ndarray) -> tuple[np.ndarray, int]:
    """The sound of the given frames, in their order, one frame's stretch after the other."""
    wave, rate = read_audio(dataset.audio_path)
    edges = np.round(np.stack([dataset.audio_ids, dataset.audio_ids + 1]) / dataset.fps * rate).astype(int)
    wave = np.pad(wave, (0, max(0, int(edges.max()) - len(wave))))
    return np.concatenate([wave[edges[0, p] : edges[1, p]] for p in positions]), rate
