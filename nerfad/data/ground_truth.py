"""Exact ground truth, which only sample data sets have: depth of the head, and what speech moves."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from nerfad.data.dataset import Dataset
from nerfad.errors import DatasetError


def exact_depth(dataset: Dataset, i: int) -> np.ndarray | None:
    """Distance along each pixel's ray to the head in scene units, float32 [H, W]; NaN where there is none.

    None for data sets without ground truth. The file format is described in sample/generate.py.
    """
    folder = dataset.root / "ground_truth"
    path = folder / f"depth/{dataset.frame_ids[i]}.png"
    if not path.is_file():
        return None
    values = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise DatasetError(f"{path}: is damaged; make the sample data set again.")
    truth = json.loads((folder / "truth.json").read_text())
    near, far = truth["depth_near"], truth["depth_far"]
    depth = np.where(values > 0, near + (values.astype(np.float32) - 1) / 65534 * (far - near), np.nan)
    if depth.shape != (dataset.height, dataset.width):
        # Averaging across the outline would invent depths between head and nothing.
        size = (dataset.width, dataset.height)
        depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return depth.astype(np.float32)


def knows_depth(root: Path) -> bool:
    """Whether the data set in folder `root` has the exact depth of its head."""
    return (root / "ground_truth/depth").is_dir()


def knows_speech_region(root: Path) -> bool:
    """Whether the data set in folder `root` has exact masks of what speech moves."""
    return (root / "ground_truth/speech_mask").is_dir()


def speech_mask(dataset: Dataset, i: int) -> np.ndarray | None:
    """Pixels that change when only the speech units move, bool [H, W]; None where it was not kept.

    The sample head keeps it for every tenth frame.
    """
    path = dataset.root / f"ground_truth/speech_mask/{dataset.frame_ids[i]}.png"
    if not path.is_file():
        return None
    values = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if values is None:
        raise DatasetError(f"{path}: is damaged; make the sample data set again.")
    if values.shape != (dataset.height, dataset.width):
        values = cv2.resize(values, (dataset.width, dataset.height), interpolation=cv2.INTER_AREA)
    return np.asarray(values) > 127
