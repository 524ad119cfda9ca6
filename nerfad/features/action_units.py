"""Facial action units read off blendshapes and landmarks: a proxy, no detector.

Nothing measured with it may be compared with scores from OpenFace; wherever it is used it is labelled
`au_source: proxy`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nerfad.features.face_mesh import lip_gap

# fmt: off
# The landmarker's 52 blendshapes in its order.
BLENDSHAPES = [
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft",
    "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight",
    "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight",
    "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
]
# fmt: on
# Which blendshapes make a unit: the mean of all whose name starts so. AU25 comes from the lips' gap.
_UNIT_OF = {
    "AU01": ("browInnerUp",),
    "AU02": ("browOuterUp",),
    "AU04": ("browDown",),
    "AU05": ("eyeWide",),
    "AU06": ("cheekSquint",),
    "AU07": ("eyeSquint",),
    "AU09": ("noseSneer",),
    "AU10": ("mouthUpperUp",),
    "AU12": ("mouthSmile",),
    "AU14": ("mouthDimple",),
    "AU15": ("mouthFrown",),
    "AU16": ("mouthLowerDown",),
    "AU17": ("mouthShrugLower",),
    "AU18": ("mouthPucker",),
    "AU20": ("mouthStretch",),
    "AU22": ("mouthFunnel",),
    "AU23": ("mouthPress",),
    "AU25": (),
    "AU26": ("jawOpen",),
    "AU28": ("mouthRoll",),
    "AU45": ("eyeBlink",),
}
AU_NAMES = list(_UNIT_OF)
# Presence of a unit on its per-person scale.
PRESENCE = 0.4
# Raw range (95th - 10th percentile) under which a unit is taken to carry no signal.
_NO_SIGNAL = 0.005


def raw_action_units(blendshapes: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Unscaled units float32 [n, 21] in the order of AU_NAMES, from [n, 52] and [n, 478, >= 2]."""
    columns = []
    for name, prefixes in _UNIT_OF.items():
        if name == "AU25":
            columns.append(lip_gap(landmarks))
            continue
        members = [k for k, shape in enumerate(BLENDSHAPES) if shape.startswith(prefixes)]
        columns.append(np.asarray(blendshapes)[..., members].mean(-1))
    return np.stack(columns, -1).astype(np.float32)


@dataclass(frozen=True)
class PersonScale:
    """What is usual for one person: 10th and 95th percentile of every raw unit."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def fit(cls, raw: np.ndarray) -> PersonScale:
        """From raw units [n, k] of a clip."""
        low, high = np.percentile(raw, [10, 95], axis=0)
        return cls(low.astype(np.float32), high.astype(np.float32))

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """Intensities float32 in 0..1; a unit is present from PRESENCE on."""
        scaled = (raw - self.low) / np.maximum(self.high - self.low, 1e-6)
        return np.clip(scaled, 0.0, 1.0).astype(np.float32)

    def without_signal(self) -> list[str]:
        """Units whose raw value hardly moves in this clip."""
        return [
            name
            for name, low, high in zip(AU_NAMES, self.low, self.high, strict=True)
            if high - low < _NO_SIGNAL
        ]

    def to_json(self) -> dict[str, list[float]]:
        """{unit: [low, high]}"""
        return {
            name: [float(low), float(high)]
            for name, low, high in zip(AU_NAMES, self.low, self.high, strict=True)
        }
