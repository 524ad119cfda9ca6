"""Face landmarks and blendshapes: MediaPipe's three nets run directly on LiteRT.

Detector (128 x 128, six key points) -> landmarks in an upright crop (256 x 256, 478 points) ->
blendshapes. Coordinates are in pixels from the image's top left corner: the centre of the first pixel is
(0.5, 0.5).
"""

from __future__ import annotations

import atexit
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from nerfad.errors import BackendError
from nerfad.features.face_mesh import BLENDSHAPE_POINTS, EYE_OUTER_LEFT, EYE_OUTER_RIGHT
from nerfad.features.litert import Net
from nerfad.models_store import find_model

_DETECTOR_SIZE = 128
_CROP_SIZE = 256
_MIN_SCORE = 0.5
_SAME_FACE_IOU = 0.3
# Crop side over face box side, as the landmark net was trained.
_CROP_MARGIN = 1.5


@dataclass(frozen=True)
class Face:
    """landmarks float32 [478, 3] in pixels (z towards the viewer is negative), blendshapes float32 [52] in
    0..1, confidence in 0..1.
    """

    landmarks: np.ndarray
    blendshapes: np.ndarray
    confidence: float


@dataclass(frozen=True)
class FaceBox:
    """A detected face: box [4] (x0, y0, x1, y1) and the two eyes [2, 2], in pixels."""

    box: np.ndarray
    eyes: np.ndarray
    score: float


class Landmarker(Protocol):
    """What finds a face in a picture."""

    def detect(self, rgb: np.ndarray) -> Face | None:
        """The face in a uint8 RGB picture [H, W, 3], or None."""


@dataclass(frozen=True)
class _Crop:
    """An upright square around a face: centre, side and the angle of the eye line."""

    x: float
    y: float
    side: float
    angle: float

    @classmethod
    def around(cls, box: np.ndarray, eye_a: np.ndarray, eye_b: np.ndarray) -> _Crop:
        side = max(box[2] - box[0], box[3] - box[1]) * _CROP_MARGIN
        angle = math.atan2(eye_b[1] - eye_a[1], eye_b[0] - eye_a[0])
        return cls((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, side, angle)

    def to_image(self) -> np.ndarray:
        """[2, 3] from crop coordinates (0.._CROP_SIZE) to image coordinates, both from the corner."""
        scale = self.side / _CROP_SIZE
        cos, sin = math.cos(self.angle) * scale, math.sin(self.angle) * scale
        half = _CROP_SIZE / 2
        return np.array(
            [
                [cos, -sin, self.x - half * cos + half * sin],
                [sin, cos, self.y - half * sin - half * cos],
            ]
        )


class FaceLandmarker:
    """MediaPipe's Face Landmarker without MediaPipe. One object per thread.

    Args:
        models: folder of the model files; see `nerfad.models_store`.
        passes: how often the landmark net runs on a picture, each time in the crop that its last answer
            gives. 1 is what MediaPipe does (0.6 px from it); with 2 the result hardly depends on where
            the detector put its box, and a rigid face explains it better by a tenth.
    """

    def __init__(self, models: str | Path | None = None, *, passes: int = 2) -> None:
        self._passes = passes
        with zipfile.ZipFile(find_model("face_landmarker", models)) as bundle:
            self._detector = Net(bundle.read("face_detector.tflite"))
            self._landmarks = Net(bundle.read("face_landmarks_detector.tflite"))
            self._blendshapes = Net(bundle.read("face_blendshapes.tflite"))
        self._anchors = _detector_anchors()

    def detect(self, rgb: np.ndarray) -> Face | None:
        """The most certain face in a uint8 RGB picture, from this picture alone; None without one."""
        boxes = self.find_faces(rgb)
        if not boxes:
            return None
        crop = _Crop.around(boxes[0].box, boxes[0].eyes[0], boxes[0].eyes[1])
        for _ in range(self._passes - 1):
            landmarks, _ = self._landmarks_in(rgb, crop)
            crop = _crop_of(landmarks)
        return self._face(rgb, crop)

    def track(self, rgb: np.ndarray, previous: Face | None) -> Face | None:
        """Like `detect`, but look where the face was in the frame before; saves the detector's time."""
        if previous is not None:
            face = self._face(rgb, _crop_of(previous.landmarks))
            if face is not None:
                return face
        return self.detect(rgb)

    def find_faces(self, rgb: np.ndarray) -> list[FaceBox]:
        """All faces, the most certain first."""
        height, width = rgb.shape[:2]
        side = max(height, width)
        scale = _DETECTOR_SIZE / side
        small = cv2.resize(
            rgb,
            (max(1, round(width * scale)), max(1, round(height * scale))),
            interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
        )
        top, left = (_DETECTOR_SIZE - small.shape[0]) // 2, (_DETECTOR_SIZE - small.shape[1]) // 2
        square = np.zeros((_DETECTOR_SIZE, _DETECTOR_SIZE, 3), np.float32)
        square[top : top + small.shape[0], left : left + small.shape[1]] = small
        regressors, logits = self._detector((square / 127.5 - 1.0)[None])
        scores = 1.0 / (1.0 + np.exp(-np.clip(logits[0, :, 0], -50.0, 50.0)))
        found = np.nonzero(scores > _MIN_SCORE)[0]
        centres = self._anchors[found]
        sizes = regressors[0, found, 2:4] / _DETECTOR_SIZE
        middles = regressors[0, found, :2] / _DETECTOR_SIZE + centres
        boxes = np.concatenate([middles - sizes / 2, middles + sizes / 2], 1)
        eyes = regressors[0, found, 4:8].reshape(-1, 2, 2) / _DETECTOR_SIZE + centres[:, None]
        shift = np.array([left, top]) / scale
        return [
            FaceBox(box * side - np.tile(shift, 2), eye * side - shift, score)
            for box, eye, score in _merge(boxes, eyes, scores[found])
        ]

    def _landmarks_in(self, rgb: np.ndarray, crop: _Crop) -> tuple[np.ndarray, float]:
        to_image = crop.to_image()
        # OpenCV counts from pixel centres.
        by_centres = to_image.copy()
        by_centres[:, 2] += to_image[:, :2].sum(1) * 0.5 - 0.5
        patch = cv2.warpAffine(
            rgb,
            by_centres,
            (_CROP_SIZE, _CROP_SIZE),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        points, logit = self._landmarks(patch[None] * np.float32(1 / 255))[:2]
        points = points.reshape(-1, 3)
        in_image = points[:, :2] @ to_image[:, :2].T + to_image[:, 2]
        depth = points[:, 2:] * (crop.side / _CROP_SIZE)
        confidence = 1.0 / (1.0 + math.exp(-float(logit.reshape(-1)[0])))
        return np.concatenate([in_image, depth], 1), confidence

    def _face(self, rgb: np.ndarray, crop: _Crop) -> Face | None:
        """The face in a crop, None if there is none."""
        landmarks, confidence = self._landmarks_in(rgb, crop)
        if confidence < _MIN_SCORE:
            return None
        blendshapes = self._blendshapes(landmarks[None, BLENDSHAPE_POINTS, :2])[0].reshape(-1)
        return Face(landmarks.astype(np.float32), blendshapes.astype(np.float32), confidence)


def _crop_of(landmarks: np.ndarray) -> _Crop:
    """The crop around a face whose landmarks are known."""
    box = np.concatenate([landmarks[:, :2].min(0), landmarks[:, :2].max(0)])
    return _Crop.around(box, landmarks[EYE_OUTER_RIGHT], landmarks[EYE_OUTER_LEFT])


class MediaPipeLandmarker:
    """The same nets through the mediapipe package, in IMAGE mode (its VIDEO mode smooths lips away)."""

    def __init__(self, models: str | Path | None = None) -> None:
        try:
            import mediapipe
        except ImportError as error:
            raise BackendError(
                "the package mediapipe is missing; install it with `pip install nerfad[mediapipe]`, or use "
                "--landmarks litert."
            ) from error
        vision = mediapipe.tasks.vision
        options = vision.FaceLandmarkerOptions(
            base_options=mediapipe.tasks.BaseOptions(
                model_asset_path=str(find_model("face_landmarker", models))
            ),
            running_mode=vision.RunningMode.IMAGE,
            output_face_blendshapes=True,
            num_faces=1,
        )
        self._landmarker = vision.FaceLandmarker.create_from_options(options)
        # Its destructor wants threads that are gone when the interpreter ends, and prints a traceback; the
        # process's end frees all there is to free.
        atexit.register(setattr, self._landmarker, "_handle", None)
        self._image = lambda rgb: mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)

    def detect(self, rgb: np.ndarray) -> Face | None:
        """The face in a uint8 RGB picture, None without one."""
        result = self._landmarker.detect(self._image(np.ascontiguousarray(rgb)))
        if not result.face_landmarks:
            return None
        height, width = rgb.shape[:2]
        points = [(p.x * width, p.y * height, p.z * width) for p in result.face_landmarks[0]]
        shapes = [category.score for category in result.face_blendshapes[0]]
        return Face(np.array(points, np.float32), np.array(shapes, np.float32), 1.0)


def open_landmarker(kind: str = "litert", models: str | Path | None = None) -> Landmarker:
    """The landmarker called "litert" (default) or "mediapipe" (optional package)."""
    if kind == "litert":
        return FaceLandmarker(models)
    if kind == "mediapipe":
        return MediaPipeLandmarker(models)
    raise BackendError(f"there is no landmarker {kind!r}; choose litert or mediapipe.")


def _detector_anchors() -> np.ndarray:
    """Centres [896, 2] of the detector's anchors: 2 per cell at stride 8, 6 at stride 16."""
    centres = []
    for stride, count in ((8, 2), (16, 6)):
        cells = _DETECTOR_SIZE // stride
        rows, columns = np.mgrid[:cells, :cells]
        grid = np.stack([(columns + 0.5) / cells, (rows + 0.5) / cells], -1).reshape(-1, 2)
        centres.append(np.repeat(grid, count, 0))
    return np.concatenate(centres)


def _merge(
    boxes: np.ndarray, eyes: np.ndarray, scores: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Average overlapping detections, weighted by their scores; the most certain group first."""
    groups = []
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1)
    left = np.argsort(-scores)
    while len(left):
        best = left[0]
        low = np.maximum(boxes[left, :2], boxes[best, :2])
        high = np.minimum(boxes[left, 2:], boxes[best, 2:])
        overlap = np.clip(high - low, 0, None).prod(1)
        same = overlap / (areas[left] + areas[best] - overlap + 1e-12) > _SAME_FACE_IOU
        same[0] = True
        members = left[same]
        weights = scores[members] / scores[members].sum()
        groups.append(
            (
                (boxes[members] * weights[:, None]).sum(0),
                (eyes[members] * weights[:, None, None]).sum(0),
                float(scores[best]),
            )
        )
        left = left[~same]
    return groups
