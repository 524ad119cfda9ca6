"""Stage 7: the torso alone, frames over the clean background, and how the body moves."""

from __future__ import annotations

import cv2
import numpy as np

from nerfad.features.regions import BACKGROUND, HEAD, NECK, TORSO, labels_of
from nerfad.io.images import load_image
from nerfad.preprocess import landmarks
from nerfad.preprocess.body_motion import BodyTracker
from nerfad.preprocess.workspace import Workspace, thread_local

STAGE = "torso"
# Neck and collar are continued upwards, behind the head, by this share of the size.
_CONTINUE_SHARE = 0.1
_CONTINUE_FADE = 0.99


def run(ws: Workspace) -> None:
    """Write torso_imgs and gt_imgs, and measure the body's motion on torso pixels."""
    frame_ids = ws.load(landmarks.STAGE)["frame_ids"]
    plate = load_image(ws.out / "bc.jpg")
    reference = int(frame_ids[len(frame_ids) // 2])

    def labels_at(frame_id: int) -> np.ndarray:
        return labels_of(load_image(ws.out / f"parsing/{frame_id}.png"))

    tracker = thread_local(lambda: BodyTracker(ws.image(reference), labels_at(reference)))

    def cut_out(frame_id: int) -> dict[str, np.ndarray]:
        image, labels = ws.image(frame_id), labels_at(frame_id)
        ws.writer.write_frame(
            frame_id,
            torso=torso_image(image, labels),
            gt_image=cv2.copyTo(plate, (labels == BACKGROUND).astype(np.uint8), image.copy()),
        )
        motion, error = tracker().measure(image, labels)
        return {"body": motion, "error": np.array(error, np.float32)}

    found = ws.per_frame(STAGE, cut_out, frame_ids)
    ws.save(STAGE, reference=reference, **found)


def torso_image(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """RGBA of neck and torso, continued upwards behind the head so that no gap opens when it moves."""
    height = image.shape[0]
    opaque = (labels == NECK) | (labels == TORSO)
    alpha = opaque.astype(np.uint8) * np.uint8(255)
    rgba = cv2.merge([*cv2.split(cv2.bitwise_and(image, image, mask=alpha)), alpha])
    reach = round(_CONTINUE_SHARE * height)
    # Topmost torso row of every column, where the head (not the background) is right above it.
    top = np.where(opaque.any(0), opaque.argmax(0), 0)
    columns = np.nonzero((top > 0) & (labels[np.maximum(top - 1, 0), np.arange(len(top))] == HEAD))[0]
    if len(columns) == 0:
        return rgba
    # A few pixels below the border the colour is the torso's own.
    source = np.minimum(top[columns] + 2, height - 1)
    source = np.where(opaque[source, columns], source, top[columns])
    colours = cv2.blur(image[source, columns][None].astype(np.float32), (5, 1))[0]
    for step in range(1, reach + 1):
        rows = top[columns] - step
        use = (rows >= 0) & (labels[np.maximum(rows, 0), columns] == HEAD)
        rgba[rows[use], columns[use], :3] = colours[use] * _CONTINUE_FADE**step
        rgba[rows[use], columns[use], 3] = 255
    return rgba
