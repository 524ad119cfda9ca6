"""Reading transforms_train.json and transforms_val.json, the file that all layouts share."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nerfad.cameras import Camera
from nerfad.data.writer import SCENE_SCALE
from nerfad.errors import DatasetError

FILES = ("transforms_train.json", "transforms_val.json")


@dataclass(frozen=True)
class Transforms:
    """Both files together, in time order. Poses are OpenGL in scene units (tracker units · scale / 10)."""

    camera: Camera
    frame_ids: np.ndarray
    audio_ids: np.ndarray
    c2w: np.ndarray
    rects: dict[str, np.ndarray]


def read_transforms(root: Path, pixel_offset: float) -> Transforms:
    """Read both files of a folder; the file holds translations divided by the scene's scale."""
    contents = {name: _read_json(root / name) for name in FILES if (root / name).is_file()}
    if not contents:
        raise DatasetError(f"{root}: there is no transforms_train.json in it; is this a data set folder?")
    frames: list[dict[str, Any]] = []
    for name, content in contents.items():
        for position, frame in enumerate(content.get("frames", [])):
            for key in ("img_id", "transform_matrix"):
                if key not in frame:
                    raise DatasetError(f"{root / name}: frame {position} has no {key!r}.")
            frames.append(frame)
    if not frames:
        raise DatasetError(f"{root}: its transforms files list no frames.")
    frames.sort(key=lambda frame: int(frame["img_id"]))
    c2w = np.array([frame["transform_matrix"] for frame in frames], np.float64)
    if c2w.shape[1:] != (4, 4):
        raise DatasetError(f"{root}: transform_matrix must be 4x4, got {list(c2w.shape[1:])}.")
    c2w[:, :3, 3] *= SCENE_SCALE
    rects = {
        key: np.array([frame[key] for frame in frames], np.int64)
        for key in ("face_rect", "lip_rect")
        if all(key in frame for frame in frames)
    }
    first = next(iter(contents))
    return Transforms(
        camera=_read_camera(contents[first], root / first, pixel_offset),
        frame_ids=np.array([int(frame["img_id"]) for frame in frames], np.int64),
        audio_ids=np.array([int(frame.get("aud_id", frame["img_id"])) for frame in frames], np.int64),
        c2w=c2w.astype(np.float32),
        rects=rects,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: is not valid JSON ({error}); copy or make it again.") from error


def _read_camera(content: dict[str, Any], path: Path, pixel_offset: float) -> Camera:
    """Intrinsics under any of their names; sizes not given follow from the principal point."""
    cx, cy = content.get("cx"), content.get("cy")
    width = content.get("w", 2 * int(cx) if cx is not None else None)
    height = content.get("h", 2 * int(cy) if cy is not None else None)
    if width is None or height is None:
        raise DatasetError(f"{path}: gives neither cx, cy nor w, h; the image size is unknown.")
    fl_x = content.get("fl_x", content.get("focal_len"))
    if fl_x is None and "camera_angle_x" in content:
        fl_x = 0.5 * float(width) / math.tan(0.5 * float(content["camera_angle_x"]))
    if fl_x is None:
        raise DatasetError(f"{path}: has no focal length (focal_len, fl_x or camera_angle_x).")
    return Camera(
        fl_x=float(fl_x),
        fl_y=float(content.get("fl_y", fl_x)),
        cx=float(cx) if cx is not None else float(width) / 2,
        cy=float(cy) if cy is not None else float(height) / 2,
        height=int(height),
        width=int(width),
        pixel_offset=pixel_offset,
    )
