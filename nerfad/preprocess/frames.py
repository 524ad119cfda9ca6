"""Stage 2: the frames themselves, cropped and scaled, into ori_imgs."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from nerfad.errors import InputFileError
from nerfad.io.video import VideoReader
from nerfad.preprocess import scan
from nerfad.preprocess.workspace import Workspace

STAGE = "frames"


def run(ws: Workspace) -> None:
    """Write every frame of the plan that is not there yet."""
    plan = ws.load(scan.STAGE)
    x, y, side = (int(v) for v in plan["crop"])

    def write(task: tuple[int, np.ndarray]) -> None:
        frame_id, picture = task
        square = picture[y : y + side, x : x + side]
        if side != ws.size:
            method = cv2.INTER_AREA if side > ws.size else cv2.INTER_CUBIC
            square = cv2.resize(square, (ws.size, ws.size), interpolation=method)
        ws.writer.write_frame(frame_id, image=square)

    missing = {
        int(source): int(frame_id)
        for source, frame_id in zip(plan["source_index"], plan["frame_ids"], strict=True)
        if not ws.writer.has_frame(int(frame_id))
    }
    if missing:
        for _ in ws.parallel(STAGE, write, _pictures(ws, missing), total=len(missing)):
            pass
    ws.save(STAGE, n_written=len(plan["frame_ids"]))


def _pictures(ws: Workspace, wanted: dict[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """(frame id, picture) of the wanted stored pictures."""
    last = max(wanted)
    with VideoReader(ws.video) as reader:
        for frame in reader:
            if frame.index in wanted:
                yield wanted[frame.index], frame.image
            if frame.index == last:
                return
    raise InputFileError(
        f"{ws.video} changed while it was read: frame {last} is gone; copy the video and run again."
    )
