"""Reading a face from pixels alone: lip gap, landmarks and action units of one picture.

Scores compare what the same reader sees in a rendered and in a real frame, so a reader is stateless:
its answer depends on the one picture it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nerfad.errors import DatasetError
from nerfad.features.action_units import AU_NAMES, raw_action_units


@dataclass(frozen=True)
class FaceReading:
    """What a reader saw: lip gap (opening over eye distance), landmarks [478, 3] px, units in its scale."""

    lip_gap: float
    landmarks: np.ndarray | None = None
    aus: dict[str, float] | None = None


class FaceReader(Protocol):
    """Reads one uint8 RGB picture; None where there is no face."""

    def read(self, image: np.ndarray) -> FaceReading | None:
        """The face in `image`, from this picture alone."""
        ...


class LandmarkReader:
    """Reads through the face landmarker: the lip gap is |13−14| / |33−263|, units are the raw AU proxy."""

    def __init__(self, models: str | Path | None = None) -> None:
        from nerfad.features.landmarks import FaceLandmarker

        self._landmarker = FaceLandmarker(models)

    def read(self, image: np.ndarray) -> FaceReading | None:
        """The most certain face in `image`."""
        face = self._landmarker.detect(image)
        if face is None:
            return None
        points = face.landmarks[:, :2].astype(np.float64)
        eyes = float(np.linalg.norm(points[33] - points[263]))
        gap = float(np.linalg.norm(points[13] - points[14]))
        units = raw_action_units(face.blendshapes[None], face.landmarks[None])[0]
        aus = dict(zip(AU_NAMES, units.tolist(), strict=True))
        return FaceReading(gap / max(eyes, 1e-6), face.landmarks, aus)


def open_reader(kind: str, models: str | Path | None = None, dataset: Any = None) -> FaceReader:
    """The reader that a data set names: "landmarker" for real people, "sample" for sample heads.

    `dataset` is the `Dataset` whose frames will be read, for readers that are made for one head.
    Raises `ModelNotFoundError` where the landmarker's model file is not installed.
    """
    if kind == "landmarker":
        return LandmarkReader(models)
    if kind == "sample":
        from nerfad.sample.reader import open_sample_reader

        return open_sample_reader(dataset)
    raise DatasetError(
        f"the data set names an unknown face reader {kind!r}; update nerfad, or make it again."
    )
