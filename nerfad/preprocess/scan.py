"""Stage 1: look through the whole video once, at low resolution.

Finds which stored pictures become frames (constant rate, duplicates dropped), where the takes are cut,
and the square that holds the head over the whole clip. Refuses what cannot become a data set before any
time is spent on it.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from nerfad.errors import VideoError
from nerfad.features.landmarks import FaceBox, FaceLandmarker
from nerfad.io.video import VideoInfo, VideoReader, probe
from nerfad.preprocess.workspace import Workspace

STAGE = "scan"
MIN_FRAMES = 50
_THUMBNAIL = 96
# A picture that differs from the one before by less than this share of what is usual around it, or by
# nothing at all, is a repetition.
_DUPLICATE_SHARE = 0.25
_DUPLICATE_LEVEL = 0.02
# Furthest that a picture may be moved in time, in intervals.
_TICK_REACH = 0.7
_CUT_FACTOR = 2.25
_CUT_LEVEL = 1.0
_MIN_FACE_PIXELS = 48
# A second face counts when its box has this share of the first one's area, in this share of the looks.
_SECOND_FACE_AREA = 0.25
_SECOND_FACE_LOOKS = 0.1
# Side of the square over the side of the face's box.
_CROP_FACTOR = 2.3
_KEEP_WHOLE_FACTOR = 3.4


@dataclass(frozen=True)
class Look:
    """A face search in one picture."""

    index: int
    faces: list[FaceBox]


def check(video: Path) -> VideoInfo:
    """Probe a video and refuse, without decoding it, what cannot become a data set."""
    info = probe(video)
    if not info.has_audio:
        raise VideoError(
            f"{video} has no sound track; a talking face is driven by sound, so name a video with sound."
        )
    if info.n_frames < MIN_FRAMES:
        raise VideoError(
            f"{video} has only {info.n_frames} frames; at least {MIN_FRAMES} are needed, and a minute "
            "or more is wanted."
        )
    return info


def run(ws: Workspace) -> None:
    """Scan the video and keep the plan."""
    info = check(ws.video)
    times, thumbnails, looks = _watch(ws, info)
    differences = _differences(thumbnails)
    duplicates = find_duplicates(differences)
    distinct = np.nonzero(~duplicates)[0]
    if len(distinct) < MIN_FRAMES:
        raise VideoError(
            f"{ws.video} has only {len(distinct)} different frames (the others repeat the one before); at "
            f"least {MIN_FRAMES} are needed."
        )
    cuts = distinct[find_cuts(thumbnails[distinct])]
    source, ticks = assign_ticks(times[distinct], ws.job.fps)
    if len(ticks) < MIN_FRAMES:
        raise VideoError(
            f"{ws.video} gives only {len(ticks)} frames at {ws.job.fps:g} a second; at least {MIN_FRAMES} "
            "are needed, and a minute or more is wanted."
        )
    crop = choose_crop(ws, info, looks)
    ws.save(
        STAGE,
        source_index=distinct[source],
        frame_ids=ticks,
        segments=np.searchsorted(cuts, distinct[source], side="right"),
        cuts=cuts,
        crop=np.array(crop),
        n_source=len(times),
        n_duplicates=int(duplicates.sum()),
        n_ticks=max(int(ticks[-1]), int(np.floor(times[-1] * ws.job.fps + 0.5))) + 1,
        source_fps=info.fps,
        vfr=info.vfr,
        rotation=info.rotation,
        source_size=np.array([info.height, info.width]),
    )


def _watch(ws: Workspace, info: VideoInfo) -> tuple[np.ndarray, np.ndarray, list[Look]]:
    """Times, thumbnails [n, 96, 96] and about sixty face searches."""
    landmarker = FaceLandmarker(ws.models)
    every = max(1, info.n_frames // 60)
    times, thumbnails, looks = [], [], []
    with VideoReader(ws.video) as reader:
        for frame in reader:
            grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
            thumbnails.append(cv2.resize(grey, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA))
            times.append(frame.time)
            if frame.index % every == 0:
                looks.append(Look(frame.index, landmarker.find_faces(frame.image)))
            ws.report(STAGE, len(times), info.n_frames)
    return np.array(times), np.array(thumbnails), looks


def _differences(thumbnails: np.ndarray) -> np.ndarray:
    """Mean absolute grey difference of every picture to the one before; infinite for the first."""
    steps = [
        np.abs(a.astype(np.float32) - b.astype(np.float32)).mean()
        for a, b in zip(thumbnails[1:], thumbnails[:-1], strict=True)
    ]
    return np.array([np.inf, *steps])


def find_duplicates(differences: np.ndarray) -> np.ndarray:
    """Which pictures repeat the one before, bool [n]; `differences` as from thumbnails."""
    duplicates = np.zeros(len(differences), bool)
    for k in range(1, len(differences)):
        usual = np.median(differences[max(1, k - 6) : k + 7])
        duplicates[k] = differences[k] < max(_DUPLICATE_SHARE * usual, _DUPLICATE_LEVEL)
    return duplicates


def find_cuts(thumbnails: np.ndarray) -> np.ndarray:
    """First pictures of new takes, int [n_cuts].

    Motion is smooth, a jump cut is not: the new picture is far from what the two before it lead to, and
    so is the one before from what the two after it lead to. Both, and in every quarter of the picture,
    set a cut apart from a fast gesture.
    """
    n_bands = 4
    n = len(thumbnails)
    if n < 8:
        return np.zeros(0, np.int64)
    bands = np.zeros((n - 2, n_bands))
    smooth = [cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.5) for picture in thumbnails[:2]]
    for k, picture in enumerate(thumbnails[2:]):
        smooth.append(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 1.5))
        bands[k] = np.abs(smooth[2] - 2 * smooth[1] + smooth[0]).reshape(n_bands, -1).mean(1)
        del smooth[0]
    jump = np.zeros((n, n_bands))
    jump[2 : n - 1] = np.minimum(bands[:-1], bands[1:])
    usual = np.maximum(np.percentile(jump[2 : n - 1], 95, axis=0), 0.2)
    score = np.exp(np.log(jump / usual + 1e-3).mean(1))
    is_cut = (score > _CUT_FACTOR) & (jump.mean(1) > _CUT_LEVEL)
    # A cut leaves a trace in the neighbouring scores: only the highest counts.
    for k in np.nonzero(is_cut)[0].tolist():
        is_cut[k] = score[k] >= score[max(0, k - 2) : k + 3].max()
    return np.nonzero(is_cut)[0]


def assign_ticks(times: np.ndarray, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Which picture is shown at which tick of a constant rate.

    Ticks k / fps and pictures are paired in order, each once, so that as many as possible are paired and
    then the pairs lie close in time; none is further apart than 0.7 intervals. A clip of 25 frames that a
    converter stretched to 30 with repeats thereby gets its own frames back. Ticks without a picture of
    their own stay empty.

    Returns:
        positions in `times` and tick numbers, both int64 [n_frames], ascending.
    """
    reach = _TICK_REACH / fps
    # Best chains by their last picture; scores ascend with it. A chain is (picture, tick, earlier chain).
    ends: list[int] = [-1]
    scores: list[float] = [0.0]
    chains: list[tuple | None] = [None]
    for tick in range(int(np.floor(times[-1] * fps + _TICK_REACH)) + 1):
        low, high = np.searchsorted(times, [tick / fps - reach, tick / fps + reach])
        longer = []
        for picture in range(int(low), int(high)):
            at = bisect.bisect_left(ends, picture) - 1
            distance = (times[picture] - tick / fps) / reach
            longer.append((picture, scores[at] + 1.0 - 0.3 * distance**2, (picture, tick, chains[at])))
        for picture, score, chain in longer:
            at = bisect.bisect_right(ends, picture) - 1
            if score <= scores[at]:
                continue
            end = at + 1
            while end < len(ends) and scores[end] <= score:
                end += 1
            start = at if ends[at] == picture else at + 1
            ends[start:end], scores[start:end], chains[start:end] = [picture], [score], [chain]
    pairs = []
    link = chains[-1]
    while link is not None:
        pairs.append(link[:2])
        link = link[2]
    paired = np.array(pairs[::-1], np.int64).reshape(-1, 2)
    return paired[:, 0], paired[:, 1]


def choose_crop(ws: Workspace, info: VideoInfo, looks: list[Look]) -> tuple[int, int, int]:
    """Square (x, y, side) in source pixels that holds the head in the whole clip, and some torso."""
    seen = [look for look in looks if look.faces]
    if not seen:
        raise VideoError(
            f"{ws.video}: no face was found in any of {len(looks)} frames looked at, frame "
            f"{looks[0].index} to {looks[-1].index}; name a video of one person facing the camera."
        )
    _refuse_second_face(ws, looks, seen)
    boxes = np.array([look.faces[0].box for look in seen])
    side_of_face = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
    if side_of_face < _MIN_FACE_PIXELS:
        raise VideoError(
            f"{ws.video}: the face is only {side_of_face:.0f} pixels wide (frame {seen[0].index}); at least "
            f"{_MIN_FACE_PIXELS} are needed, so crop or film closer."
        )
    if info.width == info.height and info.width <= _KEEP_WHOLE_FACTOR * side_of_face:
        return 0, 0, info.width
    low, high = np.percentile(boxes[:, :2], 2, axis=0), np.percentile(boxes[:, 2:], 98, axis=0)
    # Room for hair above and beside, and for neck and shoulders below.
    low = low - np.array([0.35, 0.6]) * side_of_face
    high = high + np.array([0.35, 0.6]) * side_of_face
    side = max(float((high - low).max()), _CROP_FACTOR * side_of_face)
    side = min(side, info.width, info.height)
    x = (low[0] + high[0] - side) / 2
    y = (low[1] + high[1] - side) / 2
    x = min(max(x, 0.0), info.width - side)
    y = min(max(y, 0.0), info.height - side)
    return int(x), int(y), int(side)


def _refuse_second_face(ws: Workspace, looks: list[Look], seen: list[Look]) -> None:
    def area(face: FaceBox) -> float:
        return float((face.box[2:] - face.box[:2]).prod())

    crowded = [
        look
        for look in seen
        if len(look.faces) > 1 and area(look.faces[1]) > _SECOND_FACE_AREA * area(look.faces[0])
    ]
    if len(crowded) > _SECOND_FACE_LOOKS * len(looks):
        raise VideoError(
            f"{ws.video}: frame {crowded[0].index} shows {len(crowded[0].faces)} faces; crop the video so "
            "that one person is left."
        )
