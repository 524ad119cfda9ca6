"""Stage 4: head, neck, torso and background of every frame, into parsing."""

from __future__ import annotations

from nerfad.features.segmentation import PersonSegmenter, portrait_labels
from nerfad.preprocess import landmarks
from nerfad.preprocess.workspace import Workspace, thread_local

STAGE = "masks"


def run(ws: Workspace) -> None:
    """Write the label picture of every frame that has none yet."""
    found = ws.load(landmarks.STAGE)
    segmenter = thread_local(lambda: PersonSegmenter(ws.models))

    def label(position: int) -> None:
        frame_id = int(found["frame_ids"][position])
        image = ws.image(frame_id)
        labels = portrait_labels(image, segmenter().probability(image), found["landmarks"][position])
        ws.writer.write_frame(frame_id, labels=labels)

    missing = [
        position
        for position, frame_id in enumerate(found["frame_ids"])
        if not (ws.out / f"parsing/{frame_id}.png").is_file()
    ]
    for _ in ws.parallel(STAGE, label, missing, total=len(missing)):
        pass
    ws.save(STAGE, n_frames=len(found["frame_ids"]))
