"""The tiny data set with landmarks and action units, so that faces can be cut out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_data import RADIUS, write_tiny_dataset

from nerfad.data.dataset import load_dataset
from nerfad.data.writer import DatasetWriter

# Where a few of the 478 points lie on the ball (x, y); the others do not matter here.
SITES = {
    **{33: (-0.22, 0.12), 133: (-0.10, 0.12), 362: (0.10, 0.12), 263: (0.22, 0.12)},
    **{61: (-0.15, -0.16), 291: (0.15, -0.16), 172: (-0.25, -0.25), 397: (0.25, -0.25)},
    **{2: (0.0, -0.06), 152: (0.0, -0.38)},
}


def write_tiny_faces(
    root: Path, n_frames: int = 80, units: tuple[str, ...] = ("AU25", "AU26"), seed: int = 0
) -> Path:
    """Write it to `root`; every unit follows the mouth but for noise of its own."""
    write_tiny_dataset(root, n_frames=n_frames, seed=seed)
    dataset = load_dataset(root)
    x, y = np.array(list(SITES.values())).T
    points = np.stack([x, y, np.sqrt(RADIUS**2 - x**2 - y**2)], 1)
    landmarks = np.zeros((n_frames, 478, 3), np.float32)
    for k, c2w in enumerate(dataset.c2w):
        landmarks[k, list(SITES), :2] = dataset.camera.project(c2w, points) + 0.5
    mouth = dataset.aus[:, dataset.au_names.index("AU25")]
    noise = np.random.default_rng(seed).normal(0, 0.02, (n_frames, len(units)))
    writer = DatasetWriter(root)
    writer.write_array("landmarks", landmarks)
    values = np.clip(mouth[:, None] + noise, 0, 1).astype(np.float32)
    writer.write_aus(np.arange(n_frames), list(units), values, dataset.fps)
    return root
