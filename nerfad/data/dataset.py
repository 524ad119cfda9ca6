"""A talking-face data set, whatever folder layout it lies in: one camera, one person, one clip."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from nerfad.cameras import Camera
from nerfad.data.audio_windows import window_rows
from nerfad.data.writer import TEST_SHARE
from nerfad.errors import DatasetError, InputFileError
from nerfad.features.regions import NECK, TORSO, labels_of
from nerfad.io.images import load_image

MIN_SIZE, MAX_SIZE = 16, 4096
"""Rows of the pictures that can be trained at and rendered."""


@dataclass
class Dataset:
    """What training, rendering and evaluation know of a data set.

    Arrays are parallel to `frame_ids`; `image(i)` and its like take that position, not the frame id.
    The head lies in `aabb` and, along every ray, between depths `near` and `far`, in scene units.
    Pixel values (camera, landmarks, body) are in pixels of height x width, the size asked for.
    """

    root: Path
    layout: str
    camera: Camera
    fps: float
    frame_ids: np.ndarray
    audio_ids: np.ndarray
    c2w: np.ndarray
    aabb: np.ndarray
    segments: np.ndarray
    audio_path: Path
    audio_kind: str
    audio_features: np.ndarray
    image_pattern: str
    label_pattern: str = "parsing/{}.png"
    torso_pattern: str | None = None
    background_name: str = "bc.jpg"
    au_names: list[str] = field(default_factory=list)
    aus: np.ndarray | None = None
    au_source: str | None = None
    landmarks: np.ndarray | None = None  # [n, 478, 3]
    classic_landmarks: np.ndarray | None = None  # [n, 68, 2], where a folder has no others
    blendshapes: np.ndarray | None = None
    body: np.ndarray | None = None
    reader: str = "landmarker"
    near: float = 0.05
    far: float = 1e10
    rects: dict[str, np.ndarray] = field(default_factory=dict)
    clip_s: float | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.root.name

    @property
    def height(self) -> int:
        """Rows of `image(i)`."""
        return self.camera.height

    @property
    def width(self) -> int:
        """Columns of `image(i)`."""
        return self.camera.width

    @property
    def frame_times(self) -> np.ndarray:
        """Seconds into the sound at the middle of every frame, float64 [n]."""
        return (self.audio_ids + 0.5) / self.fps

    def __len__(self) -> int:
        return len(self.frame_ids)

    def split(self, lookback_s: float, lookahead_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Training and test positions, int64, in time order.

        The last fifth is the test set; training frames whose audio window would touch that of any test
        frame are left out. With `clip_s`, so are those later than so many seconds after the first frame.
        """
        n_train = len(self) - round(TEST_SHARE * len(self))
        first, width = window_rows(self.frame_times, lookback_s, lookahead_s)
        train = np.arange(n_train, dtype=np.int64)
        if n_train < len(self):
            train = train[first[:n_train] + width <= first[n_train:].min()]
        if self.clip_s is not None:
            train = train[self.frame_times[train] - self.frame_times[0] < self.clip_s]
        return train, np.arange(n_train, len(self), dtype=np.int64)

    def image(self, i: int) -> np.ndarray:
        """Frame i, uint8 RGB [H, W, 3]."""
        return _resized(self._read(self.image_pattern, i), self.height, self.width)

    def labels(self, i: int) -> np.ndarray:
        """Frame i's regions, uint8 [H, W]: 0 background, 1 head with hair, 2 neck, 3 torso."""
        colours = self._read(self.label_pattern, i)
        if colours.shape[:2] != (self.height, self.width):
            size = (self.width, self.height)
            colours = cv2.resize(colours, size, interpolation=cv2.INTER_NEAREST_EXACT)
        return labels_of(colours)

    def torso(self, i: int) -> np.ndarray:
        """Frame i's neck and torso alone, uint8 RGBA [H, W, 4]."""
        if self.torso_pattern is not None and self.torso_pattern.endswith(".png"):
            return _resized(self._read(self.torso_pattern, i, channels=4), self.height, self.width)
        pattern = self.image_pattern if self.torso_pattern is None else self.torso_pattern
        image, labels = self._read(pattern, i), labels_of(self._read(self.label_pattern, i))
        opaque = (labels == NECK) | (labels == TORSO)
        rgba = np.dstack([image * opaque[..., None], np.where(opaque, 255, 0)]).astype(np.uint8)
        return _resized(rgba, self.height, self.width)

    def background(self) -> np.ndarray:
        """The background plate, uint8 RGB [H, W, 3]."""
        return _resized(read_picture(self.root / self.background_name), self.height, self.width)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of poses, manifest, sound and first picture: tells whose data a checkpoint is of."""
        digest = hashlib.sha256()
        names = ["transforms_train.json", "transforms_val.json", "manifest.json", self.audio_path.name]
        names.append(self.image_pattern.format(self.frame_ids[0]))
        for name in names:
            path = self.root / name
            digest.update(name.encode() + (path.read_bytes() if path.is_file() else b"-"))
        return digest.hexdigest()

    def _read(self, pattern: str, i: int, channels: int = 3) -> np.ndarray:
        return read_picture(self.root / pattern.format(self.frame_ids[i]), channels)


def read_picture(path: Path, channels: int = 3) -> np.ndarray:
    """A picture of a data set, as RGB or RGBA."""
    try:
        return load_image(path, channels=channels)
    except InputFileError as error:
        raise DatasetError(str(error)) from error


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    if image.ndim == 3 and image.shape[2] == 4:
        # Averaging colours under zero alpha would draw a dark seam round the torso.
        alpha = image[..., 3:].astype(np.float32) / 255.0
        premultiplied = np.dstack([image[..., :3] * alpha, alpha]).astype(np.float32)
        small = np.asarray(cv2.resize(premultiplied, (width, height), interpolation=method), np.float32)
        colours = small[..., :3] / np.maximum(small[..., 3:], 1e-4)
        rgba = np.dstack([colours, 255.0 * small[..., 3]])
        return np.clip(rgba + 0.5, 0, 255).astype(np.uint8)
    return cv2.resize(image, (width, height), interpolation=method)


def load_dataset(root: str | Path, size: int | None = None) -> Dataset:
    """Open a data set of any supported layout.

    Args:
        root: the folder, written by `nerfad preprocess`, `nerfad sample`, or the preparation scripts of
            AD-NeRF, DFRF, RAD-NeRF or ER-NeRF.
        size: rows of the images to work at; width, intrinsics and landmarks follow. None keeps the
            stored size.

    Raises:
        DatasetError: the folder is not a data set, or lacks something; the sentence says what.
    """
    from nerfad.data.formats import read

    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: there is no such folder; make it with `nerfad preprocess VIDEO {root}`.")
    dataset = read(root)
    return dataset if size is None or size == dataset.height else _at_size(dataset, size)


def _at_size(dataset: Dataset, size: int) -> Dataset:
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise DatasetError(f"size must be between {MIN_SIZE} and {MAX_SIZE} pixels, got {size}.")
    camera = dataset.camera
    scale = size / camera.height
    dataset.camera = camera.resized(size, round(camera.width * scale))
    if dataset.landmarks is not None:
        dataset.landmarks = dataset.landmarks * np.float32(scale)
    if dataset.classic_landmarks is not None:
        dataset.classic_landmarks = dataset.classic_landmarks * np.float32(scale)
    if dataset.body is not None:
        dataset.body = dataset.body * np.array([scale, scale, 1, 1], np.float32)
    dataset.rects = {key: np.rint(value * scale).astype(np.int64) for key, value in dataset.rects.items()}
    return dataset
