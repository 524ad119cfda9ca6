"""Stage 8: the face alone, 112 x 112, into face_imgs: what networks that look at faces are fed with."""

from __future__ import annotations

import numpy as np

from nerfad.data.face_crops import sample_square
from nerfad.features.face_mesh import FACE_OVAL
from nerfad.preprocess import landmarks
from nerfad.preprocess.workspace import Workspace

STAGE = "crops"
_MARGIN = 1.25


def run(ws: Workspace) -> None:
    """Write every face crop that is not there yet, and keep where they were taken."""
    found = ws.load(landmarks.STAGE)
    squares = face_squares(found["landmarks"])

    def cut(position: int) -> None:
        frame_id = int(found["frame_ids"][position])
        ws.writer.write_frame(frame_id, face=face_crop(ws.image(frame_id), squares[position]))

    missing = [
        position
        for position, frame_id in enumerate(found["frame_ids"])
        if not (ws.out / f"face_imgs/{frame_id}.jpg").is_file()
    ]
    for _ in ws.parallel(STAGE, cut, missing, total=len(missing)):
        pass
    ws.save(STAGE, squares=squares)


def face_squares(points: np.ndarray) -> np.ndarray:
    """Squares float32 [n, 3] (left, top, side) in pixels around the face's outline; one side for the whole
    clip, so that a face in a crop changes its size only when it moves.
    """
    outline = points[:, FACE_OVAL, :2]
    low, high = outline.min(1), outline.max(1)
    side = _MARGIN * float(np.percentile((high - low).max(1), 90))
    return np.concatenate([(low + high) / 2 - side / 2, np.full((len(points), 1), side)], 1).astype(
        np.float32
    )


def face_crop(image: np.ndarray, square: np.ndarray, size: int = 112) -> np.ndarray:
    """uint8 RGB [size, size, 3] of a square (left, top, side); outside the picture its border goes on."""
    left, top, side = (float(v) for v in square)
    scale = side / size
    return sample_square(image, np.array([[scale, 0, left], [0, scale, top]]), size)
