"""The layout that `nerfad preprocess` and `nerfad sample` write."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerfad.data.dataset import Dataset
from nerfad.data.formats.action_unit_csv import read_action_units
from nerfad.data.formats.layout import Layout
from nerfad.data.formats.transforms import read_transforms
from nerfad.data.writer import FORMAT_VERSION, read_manifest
from nerfad.errors import DatasetError

LAYOUT = Layout(
    name="nerfad",
    image_pattern="ori_imgs/{}.jpg",
    torso_pattern="torso_imgs/{}.png",
    pixel_offset=0.5,
)


def read(root: Path) -> Dataset:
    """Open a folder of our own, described by its manifest."""
    manifest = read_manifest(root)
    assert manifest is not None
    if manifest["format_version"] > FORMAT_VERSION:
        raise DatasetError(
            f"{root}: was written by a newer nerfad (format {manifest['format_version']}, "
            f"this one reads {FORMAT_VERSION}); update nerfad."
        )
    transforms = read_transforms(root, pixel_offset=manifest["pixel_offset"])
    n_frames = len(transforms.frame_ids)
    starts = np.asarray(manifest["segments"], np.int64)
    mel = _read_array(root, "aud_mel", required=True)
    assert mel is not None
    dataset = Dataset(
        root=root,
        layout=LAYOUT.name,
        camera=transforms.camera,
        fps=float(manifest["fps"]),
        frame_ids=transforms.frame_ids,
        audio_ids=transforms.audio_ids,
        c2w=transforms.c2w,
        aabb=np.asarray(manifest["aabb"], np.float32),
        segments=np.searchsorted(starts, transforms.frame_ids, side="right").astype(np.int64) - 1,
        audio_path=root / "aud.wav",
        audio_kind=manifest["audio_kind"],
        audio_features=mel,
        image_pattern=LAYOUT.image_pattern,
        torso_pattern=LAYOUT.torso_pattern,
        landmarks=_read_array(root, "landmarks", n_frames),
        blendshapes=_read_array(root, "blendshapes", n_frames),
        body=_read_array(root, "body", n_frames),
        reader=manifest["reader"],
        rects=transforms.rects,
    )
    read_action_units(dataset, proxy_source=manifest["au_source"] or "proxy")
    return dataset


def _read_array(
    root: Path, name: str, n_frames: int | None = None, required: bool = False
) -> np.ndarray | None:
    path = root / f"{name}.npy"
    if not path.is_file():
        if required:
            raise DatasetError(f"{path}: this file is missing; preprocess the data set again.")
        return None
    try:
        values = np.load(path, allow_pickle=False).astype(np.float32, copy=False)
    except (ValueError, EOFError, OSError) as error:
        raise DatasetError(f"{path}: this file is damaged; preprocess the data set again.") from error
    if n_frames is not None and len(values) != n_frames:
        raise DatasetError(f"{path}: has {len(values)} rows, but the poses list {n_frames} frames.")
    return values
