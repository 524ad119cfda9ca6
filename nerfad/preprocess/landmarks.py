"""Stage 3: 478 face landmarks and 52 blendshapes of every frame; frames without a face are dropped."""

from __future__ import annotations

import numpy as np

from nerfad.errors import VideoError
from nerfad.features.face_mesh import CLASSIC_68, N_POINTS
from nerfad.features.landmarks import open_landmarker
from nerfad.preprocess import scan
from nerfad.preprocess.workspace import Workspace, thread_local

STAGE = "landmarks"
_MIN_DETECTION_RATE = 0.5


def run(ws: Workspace) -> None:
    """Find the face in every frame, from this frame alone (smoothing would cost lip motion)."""
    plan = ws.load(scan.STAGE)
    frame_ids = plan["frame_ids"]
    landmarker = thread_local(lambda: open_landmarker(ws.job.landmarks, ws.models))

    def detect(frame_id: int) -> dict[str, np.ndarray]:
        face = landmarker().detect(ws.image(frame_id))
        if face is None:
            return {
                "landmarks": np.full((N_POINTS, 3), np.nan, np.float32),
                "blendshapes": np.zeros(52, np.float32),
            }
        ws.writer.write_frame(frame_id, landmarks_68=face.landmarks[CLASSIC_68, :2])
        return {"landmarks": face.landmarks, "blendshapes": face.blendshapes}

    found = ws.per_frame(STAGE, detect, frame_ids)
    has_face = np.isfinite(found["landmarks"][:, 0, 0])
    if has_face.mean() < _MIN_DETECTION_RATE or has_face.sum() < scan.MIN_FRAMES:
        first = int(frame_ids[~has_face][0]) if not has_face.all() else int(frame_ids[0])
        raise VideoError(
            f"{ws.video}: a face was found in only {has_face.sum()} of {len(frame_ids)} frames (the first "
            f"without one is {first}); cut out the part where one person faces the camera."
        )
    ws.save(
        STAGE,
        frame_ids=frame_ids[has_face],
        segments=plan["segments"][has_face],
        without_face=frame_ids[~has_face],
        landmarks=found["landmarks"][has_face],
        blendshapes=found["blendshapes"][has_face],
    )
