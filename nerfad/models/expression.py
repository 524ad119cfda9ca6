"""Expression codes: what the sound drives and the field is conditioned on.

Symbols: ``n`` frames, ``k`` codes. Code 0 is the lip gap wherever it can be measured; every code has mean 0
and standard deviation 1 over the frames it was fitted on, so that "no information" is the zero vector.

Landmarks are moved into the frame of the rigid head first (similarity Procrustes on vertices that speech
does not move), hence a code does not know the pose; the rest is a principal component analysis of the mouth
and the jaw.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LandmarkSet:
    """Which points of a face are what."""

    upper_lip: int
    lower_lip: int
    outer_eyes: tuple[int, int]
    rigid: tuple[int, ...]  # points that speech does not move
    mouth: tuple[int, ...]  # lips and jaw
    eyes: tuple[tuple[int, int, int, int], ...]  # upper lid, lower lid, outer corner, inner corner


RIGID = (
    *(10, 151, 9, 8, 168, 6, 197, 195, 5),  # forehead and nose bridge
    *(33, 133, 263, 362),  # eye corners
    *(127, 356, 162, 389, 21, 251, 54, 284, 103, 332, 67, 297, 109, 338, 234, 454),  # temples, hair line
)
LIPS = (
    *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409),
    *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415),
)
JAW = (
    *(152, 148, 176, 149, 150, 136, 172, 377, 400, 378, 379, 365, 397, 199, 200, 18, 175, 83, 313),
    *(201, 421, 208, 428, 194, 418, 202, 422, 57, 287, 43, 273, 106, 335, 182, 406, 164, 2, 97, 326),
    *(165, 391, 92, 322, 186, 410, 216, 436, 212, 432, 204, 424, 214, 434, 205, 425, 187, 411),
)
MESH = LandmarkSet(13, 14, (33, 263), RIGID, LIPS + JAW, ((159, 145, 33, 133), (386, 374, 263, 362)))
"""MediaPipe's 478-point face mesh."""

CLASSIC = LandmarkSet(
    upper_lip=62,
    lower_lip=66,
    outer_eyes=(36, 45),
    rigid=(0, 1, 15, 16, *range(27, 36), 36, 39, 42, 45),  # temples, nose, eye corners
    mouth=(*range(48, 68), *range(4, 13)),
    eyes=((37, 41, 36, 39), (44, 46, 45, 42)),
)
"""The 68 points of the .lms files."""


@dataclass(frozen=True)
class ExpressionCodes:
    """A fitted, frozen map from a face's measurements to codes.

    ``kind`` is ``"landmarks"`` (lip gap + principal components), ``"aus"`` (action units, standardised) or
    ``"learnt"`` (nothing could be measured: the codes are whatever training end to end makes of them).
    """

    kind: str
    names: tuple[str, ...]
    offset: np.ndarray  # [k] mean of the raw codes
    scale: np.ndarray  # [k] standard deviation of the raw codes
    reference: np.ndarray | None = None  # [r, 3] rigid vertices of the mean head, eye distance 1
    mean: np.ndarray | None = None  # [d] mean of the mouth's coordinates in the head's frame
    basis: np.ndarray | None = None  # [d, k - 1] orthonormal columns

    @property
    def n_codes(self) -> int:
        return len(self.names)

    @classmethod
    def fit_landmarks(cls, landmarks: np.ndarray, n_components: int = 8) -> ExpressionCodes:
        """Codes of the face in ``landmarks`` (pixels): lip gap, then ``n_components`` modes.

        Args:
            landmarks: [n, 478, 3] of MediaPipe's mesh, or the classic [n, 68, 2].
        """
        reference = _mean_rigid_shape(landmarks)
        shape = _mouth_shape(landmarks, reference)
        mean = shape.mean(0)
        _, _, modes = np.linalg.svd(shape - mean, full_matrices=False)
        basis = modes[:n_components].T
        raw = np.concatenate([lip_gap(landmarks)[:, None], (shape - mean) @ basis], 1)
        names = ("lip_gap", *(f"mouth_{i}" for i in range(basis.shape[1])))
        return cls("landmarks", names, raw.mean(0), _safe_std(raw), reference, mean, basis)

    @classmethod
    def fit_aus(cls, aus: np.ndarray, names: tuple[str, ...]) -> ExpressionCodes:
        """Codes are the action units themselves (``aus`` [n, k], any unit), standardised."""
        return cls("aus", tuple(names), aus.mean(0), _safe_std(aus))

    @classmethod
    def learnt(cls, n_codes: int) -> ExpressionCodes:
        """Codes without a measurement behind them."""
        names = tuple(f"code_{i}" for i in range(n_codes))
        return cls("learnt", names, np.zeros(n_codes), np.ones(n_codes))

    def encode(self, measured: np.ndarray) -> np.ndarray:
        """Codes float32 [n, k] of landmarks like those fitted ("landmarks"), or of units [n, k] ("aus")."""
        if self.kind == "learnt":
            raise ValueError("learnt codes have no measurement to encode")
        raw = measured
        if self.reference is not None:
            shape = _mouth_shape(measured, self.reference)
            raw = np.concatenate([lip_gap(measured)[:, None], (shape - self.mean) @ self.basis], 1)
        return ((raw - self.offset) / self.scale).astype(np.float32)

    def lip_gap(self, codes: np.ndarray) -> np.ndarray:
        """The lip gap [n] (or the first unit's intensity) that ``codes`` [n, k] ask for."""
        return codes[:, 0] * self.scale[0] + self.offset[0]

    def state(self) -> dict[str, Any]:
        """Everything needed by `from_state`; arrays are float64."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ExpressionCodes:
        """The inverse of `state`; lists (from JSON) are accepted for arrays."""
        as_array: dict[str, Any] = {
            name: None if state.get(name) is None else np.asarray(state[name], np.float64)
            for name in ("offset", "scale", "reference", "mean", "basis")
        }
        return cls(str(state["kind"]), tuple(state["names"]), **as_array)


def lip_gap(landmarks: np.ndarray) -> np.ndarray:
    """Distance of the inner lips over the distance of the outer eye corners, [n]."""
    face = _set_of(landmarks)
    return _distance(landmarks, face.upper_lip, face.lower_lip) / _distance(landmarks, *face.outer_eyes)


def eye_openness(landmarks: np.ndarray) -> np.ndarray:
    """Height over width of the eye opening, mean of both eyes, [n]."""
    ratios = [
        _distance(landmarks, top, bottom) / _distance(landmarks, outer, inner)
        for top, bottom, outer, inner in _set_of(landmarks).eyes
    ]
    return np.mean(ratios, 0)


def blink_code(openness: np.ndarray, train: np.ndarray) -> np.ndarray:
    """0 (as open as usual) to 1 (closed), float32 [n, 1]; the scale is taken from the frames ``train``."""
    closed, usual = np.percentile(openness[train], [1, 60])
    closed = min(closed, 0.5 * usual)  # a clip without a blink must not turn noise into blinks
    return np.clip((usual - openness) / max(usual - closed, 1e-6), 0, 1).astype(np.float32)[:, None]


def _set_of(landmarks: np.ndarray) -> LandmarkSet:
    return CLASSIC if landmarks.shape[1] == 68 else MESH


def _points(landmarks: np.ndarray, chosen: tuple[int, ...]) -> np.ndarray:
    """Chosen points float64 [n, p, 3]; the classic ones lie in the picture's plane."""
    points = landmarks[:, chosen].astype(np.float64)
    return np.pad(points, ((0, 0), (0, 0), (0, 3 - points.shape[2])))


def _distance(landmarks: np.ndarray, a: int, b: int) -> np.ndarray:
    return np.linalg.norm(landmarks[:, a, :2] - landmarks[:, b, :2], axis=-1)


def _safe_std(raw: np.ndarray) -> np.ndarray:
    return np.maximum(raw.std(0), 1e-6)


def _similarities(rigid: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [n, 3, 3] and scale [n] that bring centred ``rigid`` [n, r, 3] onto ``reference`` [r, 3]."""
    u, s, vt = np.linalg.svd(np.einsum("nra,rb->nab", rigid, reference))
    sign = np.ones_like(s)
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = np.einsum("nab,nb,nbc->nac", u, sign, vt)
    scale = (s * sign).sum(1) / (rigid**2).sum((1, 2))
    return rotation, scale


def _centred_rigid(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rigid = _points(landmarks, _set_of(landmarks).rigid)
    centre = rigid.mean(1, keepdims=True)
    return rigid - centre, centre


def _mean_rigid_shape(landmarks: np.ndarray, n_rounds: int = 4) -> np.ndarray:
    rigid, _ = _centred_rigid(landmarks)
    face = _set_of(landmarks)
    left, right = (face.rigid.index(eye) for eye in face.outer_eyes)
    reference = rigid[0]
    for _ in range(n_rounds):
        rotation, scale = _similarities(rigid, reference)
        reference = (scale[:, None, None] * (rigid @ rotation)).mean(0)
        reference = reference / np.linalg.norm(reference[left] - reference[right])
    return reference


def _mouth_shape(landmarks: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mouth and jaw vertices in the head's frame, flattened [n, d]; depth is left out, it is mostly noise."""
    rigid, centre = _centred_rigid(landmarks)
    rotation, scale = _similarities(rigid, reference)
    mouth = _points(landmarks, _set_of(landmarks).mouth) - centre
    return (scale[:, None, None] * (mouth @ rotation))[:, :, :2].reshape(len(landmarks), -1)
