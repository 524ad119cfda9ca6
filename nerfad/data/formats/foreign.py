"""Reading folders that other projects' scripts prepared, unchanged.

`track_params.pt` is never opened: it is a pickle, and nothing in it is needed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerfad.data.dataset import Dataset
from nerfad.data.formats import adnerf, radnerf
from nerfad.data.formats.action_unit_csv import read_action_units
from nerfad.data.formats.audio_features import read_audio_features
from nerfad.data.formats.layout import Layout
from nerfad.data.formats.transforms import read_transforms
from nerfad.errors import DatasetError

FPS = 25.0
_LIPS_68 = slice(48, 60)


def read(root: Path, layout: Layout) -> Dataset:
    """Open a folder of AD-NeRF, DFRF, RAD-NeRF or ER-NeRF."""
    transforms = read_transforms(root, layout.pixel_offset)
    kind, features = read_audio_features(root)
    points = _classic_landmarks(root, transforms.frame_ids)
    by_depth = layout.name in ("adnerf", "dfrf")
    near, far = adnerf.near_far(transforms.c2w) if by_depth else (radnerf.NEAR, 1e10)
    dataset = Dataset(
        root=root,
        layout=layout.name,
        camera=transforms.camera,
        fps=FPS,
        frame_ids=transforms.frame_ids,
        audio_ids=transforms.audio_ids,
        c2w=transforms.c2w,
        aabb=radnerf.AABB.copy(),
        near=near,
        far=far,
        segments=np.zeros(len(transforms.frame_ids), np.int64),
        audio_path=root / "aud.wav",
        audio_kind=kind,
        audio_features=features,
        image_pattern=layout.image_pattern,
        label_pattern=layout.label_pattern,
        torso_pattern=layout.torso_pattern,
        background_name=layout.background_name,
        classic_landmarks=points,
        rects=transforms.rects or ({} if points is None else _rects_of_landmarks(points)),
    )
    read_action_units(dataset)
    return dataset


def _classic_landmarks(root: Path, frame_ids: np.ndarray) -> np.ndarray | None:
    """The 68 points of every frame float32 [n, 68, 2] from ori_imgs/%d.lms; None where one is missing."""
    paths = [root / f"ori_imgs/{frame_id}.lms" for frame_id in frame_ids]
    if not all(path.is_file() for path in paths):
        return None
    frames = []
    for path in paths:
        try:
            points = np.loadtxt(path, dtype=np.float32).reshape(68, 2)
        except ValueError:
            raise DatasetError(
                f"{path}: does not hold 68 rows of two numbers; detect landmarks again."
            ) from None
        frames.append(points)
    return np.stack(frames)


def _rects_of_landmarks(points: np.ndarray) -> dict[str, np.ndarray]:
    """Face and lip rectangles (x, y, w, h) about the 68 points of every frame."""
    rects = {}
    for name, part in (("face_rect", points), ("lip_rect", points[:, _LIPS_68])):
        low, high = np.floor(part.min(1)), np.ceil(part.max(1))
        rects[name] = np.concatenate([low, high - low], 1).astype(np.int64)
    return rects
