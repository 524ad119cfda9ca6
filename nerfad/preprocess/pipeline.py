"""From a video to a data set: all stages in order, each skipped when its result is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2

from nerfad.errors import OutputError, VideoError
from nerfad.models_store import find_model
from nerfad.preprocess import audio, background, crops, frames, landmarks, manifest, masks, poses, scan, torso
from nerfad.preprocess.workspace import STATE, Job, Workspace, file_sha256, is_finished
from nerfad.progress import Progress

STAGES = (scan, frames, landmarks, masks, poses, background, torso, crops, audio)
# Share of the whole time that each stage takes, for the progress bar.
_SHARES = {
    scan.STAGE: 0.06,
    frames.STAGE: 0.06,
    landmarks.STAGE: 0.26,
    masks.STAGE: 0.28,
    poses.STAGE: 0.03,
    background.STAGE: 0.01,
    torso.STAGE: 0.25,
    crops.STAGE: 0.03,
    audio.STAGE: 0.01,
    manifest.STAGE: 0.01,
}
_SMALLEST = 64


def preprocess(
    video: str | Path,
    out: str | Path,
    *,
    size: int = 512,
    models: str | Path | None = None,
    landmarks: str = "litert",
    fps: float = 25,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Path:
    """Turn a video of one person into a data set; called again after an interruption, it continues.

    Args:
        video: any video with one face and with sound.
        out: the data set's folder; new, or left by an earlier call with the same arguments.
        size: rows and columns of the pictures.
        models: folder of the model files; see `nerfad.models_store`.
        landmarks: "litert" (default) or "mediapipe" (optional package).
        fps: frames a second of the data set; the video is re-timed to it.
        progress: told the fraction done and the stage; see `nerfad.progress`.
        workers: threads; all cores, at most 8, where not given.

    Returns:
        The data set's folder.

    Raises:
        NerfadError: in one sentence, what is wrong with the video or the folder. What was finished is
            kept, and a data set that was there before is untouched.
    """
    if size < _SMALLEST or size % 2:
        raise OutputError(f"--size must be even and at least {_SMALLEST}, got {size}.")
    if not 1 <= fps <= 120:
        raise OutputError(f"--fps must lie between 1 and 120, got {fps}.")
    video, out = Path(video), Path(out)
    job = Job(video_sha256=file_sha256(video), size=size, fps=float(fps), landmarks=landmarks)
    if not is_finished(out, job):
        scan.check(video)
        for name in ("face_landmarker", "selfie_segmentation"):
            find_model(name, models)
        _run(Workspace(video, out, job, models=models, progress=progress, workers=workers))
    shutil.rmtree(out / STATE, ignore_errors=True)
    return out


def _run(ws: Workspace) -> None:
    ws.plan(_SHARES)
    cv_threads = cv2.getNumThreads()
    # The pool's threads are the parallelism; OpenCV's own would only compete with them.
    cv2.setNumThreads(1)
    try:
        for stage in STAGES:
            if not ws.has(stage.STAGE):
                stage.run(ws)
        manifest.run(ws)
    except VideoError:
        if not ws.has(scan.STAGE):
            # Refused at first sight: leave no folder behind.
            ws.discard()
        raise
    finally:
        cv2.setNumThreads(cv_threads)
