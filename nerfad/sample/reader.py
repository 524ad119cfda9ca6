"""Reads the sample head's mouth and lids from the pixels of one picture.

The demo runs anywhere, so it cannot rely on the face landmarker's model. This reader needs none: it is
calibrated in seconds on the training frames of a sample data set, whose truth is known. It first finds where
the face lies (a similarity: place, size, tilt), by regression from the whole picture and then from the face
itself; it cuts out mouth and eyes in that frame and regresses lip gap, action units and landmarks from their
colours. Calibration sees every frame sharp, blurred and noisy, because renderings are.

Nothing of the held-out part of the clip is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from nerfad.errors import DatasetError
from nerfad.features.face_reader import FaceReading

if TYPE_CHECKING:
    from nerfad.data.dataset import Dataset

WORK_SIZE = 128  # pictures are read at most this large
MAX_FRAMES = 320  # of calibration
N_LOOKS = 3  # versions of every calibration frame: as it is, and degraded
# landmarks that expressions hardly move: they define the face's frame
RIGID = np.array([33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 10, 151, 9, 8, 127, 356])
OUTER_CORNERS = (33, 263)
# patches in the face's frame, in eye distances from between the eyes: left, top, right, bottom, columns, rows
_WHOLE = (-0.95, -0.65, 0.95, 1.35, 24, 25)
_MOUTH = (-0.42, 0.48, 0.42, 1.22, 26, 23)
_EYES = (-0.62, -0.20, 0.62, 0.20, 28, 10)
_JITTER = np.array([0.06, 0.06, 0.05, 0.05])  # of place (eye distances), log size, tilt
_N_SHAPES = 12


@dataclass(frozen=True)
class _Ridge:
    """An affine map fitted with a penalty on its slope, in the dual where features outnumber rows."""

    mean: np.ndarray
    slope: np.ndarray
    offset: np.ndarray

    @staticmethod
    def fit(x: np.ndarray, y: np.ndarray, penalty: float) -> _Ridge:
        mean, offset = x.mean(0), y.mean(0)
        centred = x - mean
        gram = centred @ centred.T
        strength = penalty * np.trace(gram) / len(x)
        dual = np.linalg.solve(gram + strength * np.eye(len(x), dtype=x.dtype), y - offset)
        return _Ridge(mean, centred.T @ dual, offset)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) @ self.slope + self.offset


@dataclass(frozen=True)
class _KernelRidge:
    """Ridge regression with a Gaussian kernel on the principal components of the features."""

    mean: np.ndarray
    basis: np.ndarray
    rows: np.ndarray
    width: float
    dual: np.ndarray
    linear: _Ridge

    @staticmethod
    def fit(x: np.ndarray, y: np.ndarray, n_components: int, penalty: float) -> _KernelRidge:
        """The linear part first, the kernel on what it leaves."""
        mean = x.mean(0)
        basis = np.linalg.svd(x - mean, full_matrices=False)[2][:n_components].T
        rows = (x - mean) @ basis
        linear = _Ridge.fit(rows, y, 1e-4)
        distances = _squared_distances(rows, rows)
        width = 2.0 * float(np.median(distances))
        gram = np.exp(-distances / width)
        dual = np.linalg.solve(gram + penalty * np.eye(len(rows), dtype=gram.dtype), y - linear(rows))
        return _KernelRidge(mean, basis, rows, width, dual, linear)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        z = (x - self.mean) @ self.basis
        return self.linear(z) + np.exp(-_squared_distances(z, self.rows) / self.width) @ self.dual


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0.0)


def _frame_of(landmarks: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """The similarity (x, y, log size, tilt) that carries the rigid `shape` [k,2] onto landmarks [478,>=2]."""
    points = landmarks[RIGID, :2].astype(np.float64)
    middle = points.mean(0)
    target, power = points - middle, (shape**2).sum()
    a = (shape * target).sum() / power
    b = (shape[:, 0] * target[:, 1] - shape[:, 1] * target[:, 0]).sum() / power
    return np.array([*middle, np.log(np.hypot(a, b)), np.arctan2(b, a)])


def _matrix(frame: np.ndarray) -> np.ndarray:
    """The frame as [2,3]: face coordinates (eye distances) to pixels."""
    size = np.exp(frame[2])
    cosine, sine = size * np.cos(frame[3]), size * np.sin(frame[3])
    return np.array([[cosine, -sine, frame[0]], [sine, cosine, frame[1]]])


def _shifted(frame: np.ndarray, by: np.ndarray) -> np.ndarray:
    """The frame moved by (x, y, log size, tilt) in its own units."""
    place = _matrix(frame)[:, :2] @ by[:2]
    return np.array([frame[0] + place[0], frame[1] + place[1], frame[2] + by[2], frame[3] + by[3]])


def _difference(frame: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The shift that turns `frame` into `target`."""
    place = np.linalg.solve(_matrix(frame)[:, :2], target[:2] - frame[:2])
    return np.array([*place, target[2] - frame[2], target[3] - frame[3]])


def _patch(image: np.ndarray, frame: np.ndarray, box: tuple[float, ...]) -> np.ndarray:
    """The colours in a box of the face's frame, one flat row."""
    left, top, right, bottom, columns, rows = box
    to_face = np.array(
        [[(right - left) / columns, 0.0, left], [0.0, (bottom - top) / rows, top], [0.0, 0.0, 1.0]]
    )
    to_pixel = _matrix(frame) @ to_face @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    to_pixel[:, 2] -= 0.5  # OpenCV counts from the first pixel's centre, landmarks from its corner
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(
        image, to_pixel, (int(columns), int(rows)), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return patch.reshape(-1)


def _thumbnail(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA).reshape(-1)


def _inner(image: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """What lip gap, units and landmarks are read from: the mouth and the eyes."""
    return np.concatenate([_patch(image, frame, _MOUTH), _patch(image, frame, _EYES)])


class SampleReader:
    """Reads pictures of one sample person. Build it with `SampleReader.calibrate` or `open_sample_reader`."""

    def __init__(
        self,
        size: int,
        unit_names: list[str],
        place: _Ridge,
        refine: list[_Ridge],
        details: _KernelRidge,
        mean_points: np.ndarray,
        point_basis: np.ndarray,
    ) -> None:
        self._size, self._unit_names = size, unit_names
        self._place, self._refine, self._details = place, refine, details
        self._mean_points, self._point_basis = mean_points, point_basis

    @staticmethod
    def calibrate(dataset: Dataset, frames: np.ndarray | None = None, seed: int = 0) -> SampleReader:
        """Learn to read from `frames` (positions; the training part where not given) of a sample data set."""
        if dataset.landmarks is None or dataset.aus is None:
            raise DatasetError(
                f"{dataset.root}: landmarks or action units are missing; make it again with `nerfad sample`."
            )
        if frames is None:
            frames = dataset.split(0.2, 0.2)[0]
        frames = frames[np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().astype(int)]
        gaps = _true_gaps(dataset)[frames]
        size = min(dataset.height, WORK_SIZE)
        landmarks = dataset.landmarks[frames] * (size / dataset.height)
        shape = _mean_shape(landmarks)
        truth = np.stack([_frame_of(points, shape) for points in landmarks])
        rng = np.random.default_rng(seed)
        pictures = [_prepare(dataset.image(int(k)), size) for k in frames]
        looks = [look for picture in pictures for look in _looks(picture, rng)]
        owner = np.repeat(np.arange(len(frames)), N_LOOKS)

        thumbnails = np.stack([_thumbnail(look) for look in looks])
        place = _Ridge.fit(thumbnails, truth[owner], 1e-3)
        refine, guesses = _fit_refinement(looks, truth[owner], rng)
        local = np.stack([_in_frame(points, frame) for points, frame in zip(landmarks, truth, strict=True)])
        mean_points = local.mean(0)
        flat = (local - mean_points).reshape(len(frames), -1)
        basis = np.linalg.svd(flat, full_matrices=False)[2][:_N_SHAPES].T
        spread = (flat @ basis).std(0) + 1e-9
        targets = np.concatenate([10 * gaps[:, None], dataset.aus[frames], flat @ basis / spread], 1)
        inner = np.stack([_inner(look, g) for look, g in zip(looks, guesses, strict=True)])
        details = _KernelRidge.fit(inner, targets[owner], 60, 3e-3)
        return SampleReader(size, list(dataset.au_names), place, refine, details, mean_points, basis * spread)

    def read(self, image: np.ndarray) -> FaceReading:
        """Lip gap, landmarks and units of a uint8 RGB picture of this person."""
        picture = _prepare(image, self._size)
        frame = self._place(_thumbnail(picture)[None])[0]
        for step in self._refine:
            frame = _shifted(frame, step(_patch(picture, frame, _WHOLE)[None])[0])
        seen = self._details(_inner(picture, frame)[None])[0]
        n_units = len(self._unit_names)
        units = np.clip(seen[1 : 1 + n_units], 0.0, 1.0)
        local = self._mean_points + (self._point_basis @ seen[1 + n_units :]).reshape(-1, 3)
        points = _to_picture(local, frame)
        return FaceReading(
            float(max(seen[0] / 10, 0.0)),
            (points * (image.shape[0] / self._size)).astype(np.float32),
            dict(zip(self._unit_names, units.tolist(), strict=True)),
        )


def _fit_refinement(
    looks: list[np.ndarray], truth: np.ndarray, rng: np.random.Generator
) -> tuple[list[_Ridge], np.ndarray]:
    """Steps that pull a rough guess of the face's frame to the truth [n,4], and where they end."""
    guesses = np.stack([_shifted(frame, _JITTER * rng.standard_normal(4)) for frame in truth])
    steps = []
    for _ in range(3):
        patches = np.stack([_patch(look, g, _WHOLE) for look, g in zip(looks, guesses, strict=True)])
        wanted = np.stack([_difference(g, t) for g, t in zip(guesses, truth, strict=True)])
        steps.append(_Ridge.fit(patches, wanted, 1e-3))
        moves = steps[-1](patches)
        guesses = np.stack([_shifted(g, by) for g, by in zip(guesses, moves, strict=True)])
    return steps, guesses


def open_sample_reader(dataset: Dataset | None) -> SampleReader:
    """The reader of a sample data set, calibrated on its training part."""
    if dataset is None:
        raise DatasetError("reading a sample head needs its data set; name the folder of `nerfad sample`.")
    return SampleReader.calibrate(dataset)


def _true_gaps(dataset: Dataset) -> np.ndarray:
    path = dataset.root / "ground_truth/lip_gap.npy"
    if not path.is_file():
        raise DatasetError(f"{path}: this file is missing; make the data set again with `nerfad sample`.")
    return np.load(path, allow_pickle=False)[dataset.frame_ids]


def _prepare(image: np.ndarray, size: int) -> np.ndarray:
    """Float picture in 0..1 at the working size."""
    picture = image.astype(np.float32) / 255
    if image.shape[0] == size:
        return picture
    width = round(image.shape[1] * size / image.shape[0])
    method = cv2.INTER_AREA if size < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(picture, (width, size), interpolation=method)


def _looks(picture: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The picture as it is, then as a rendering may show it: softer, noisier, a little off in colour."""
    yield picture
    for _ in range(N_LOOKS - 1):
        soft = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.1)) * len(picture) / 128)
        grain = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(0.0, 0.025))
        tint = (1 + 0.02 * rng.standard_normal(3)).astype(np.float32)
        yield soft * tint + grain


def _mean_shape(landmarks: np.ndarray) -> np.ndarray:
    """The rigid points [k,2] about their middle, in eye distances, averaged over frames."""
    points = landmarks[:, RIGID, :2].astype(np.float64)
    first, second = landmarks[:, OUTER_CORNERS[0], :2], landmarks[:, OUTER_CORNERS[1], :2]
    size = np.linalg.norm(first - second, axis=1).mean()
    return (points - points.mean(1, keepdims=True)).mean(0) / size


def _in_frame(points: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Landmarks [478,3] in the face's frame."""
    matrix = _matrix(frame)
    flat = np.linalg.solve(matrix[:, :2], (points[:, :2] - matrix[:, 2]).T).T
    return np.concatenate([flat, points[:, 2:] / np.exp(frame[2])], 1)


def _to_picture(local: np.ndarray, frame: np.ndarray) -> np.ndarray:
    matrix = _matrix(frame)
    return np.concatenate([local[:, :2] @ matrix[:, :2].T + matrix[:, 2], local[:, 2:] * np.exp(frame[2])], 1)
