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

FPS = 25.0
_LIPS_68 = slice(48, 60)


def read(root: Path, layout: Layout) -> Dataset:
    """Open a folder of AD-NeRF, DFRF, RAD-NeRF or ER-NeRF."""
    transforms = read_transforms(root, layout.pixel_offset)
    kind, features = read_audio_features(root)
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
        rects=transforms.rects or _rects_of_landmarks(root, transforms.frame_ids),
    )
    read_action_units(dataset)
    return dataset


def _rects_of_landmarks(root: Path, frame_ids: np.ndarray) -> dict[str, np.ndarray]:
    """Face and lip rectangles (x, y, w, h) from ori_imgs/%d.lms, nothing where one is missing."""
    paths = [root / f"ori_imgs/{frame_id}.lms" for frame_id in frame_ids]
    if not all(path.is_file() for path in paths):
        return {}
    points = np.stack([np.loadtxt(path, dtype=np.float64).reshape(68, 2) for path in paths])
    rects = {}
    for name, part in (("face_rect", points), ("lip_rect", points[:, _LIPS_68])):
        low, high = np.floor(part.min(1)), np.ceil(part.max(1))
        rects[name] = np.concatenate([low, high - low], 1).astype(np.int64)
    return rects
