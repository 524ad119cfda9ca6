"""Writes a data set folder, file by file, so that an interruption never leaves half of a file.

`nerfad preprocess` and `nerfad sample` both write through this class. The manifest is written last: a
folder without one is unfinished, and a second run continues it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from nerfad.cameras import Camera
from nerfad.features.audio import SAMPLE_RATE, log_mel
from nerfad.features.regions import colours_of
from nerfad.io.atomic import atomic_write, output_error
from nerfad.io.audio import write_wav
from nerfad.io.images import save_image

FORMAT = "nerfad-dataset"
FORMAT_VERSION = 1
# Scene units per unit of translation in transforms_*.json, as RAD-NeRF and its descendants scale poses.
SCENE_SCALE = 4.0
TEST_SHARE = 0.2


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all."""
    with atomic_write(path, "w") as file:
        file.write(json.dumps(value, indent=1) + "\n")


class DatasetWriter:
    """Writes one data set folder. Every write is atomic; `finish` comes last.

    Example:
        >>> import tempfile
        >>> writer = DatasetWriter(tempfile.mkdtemp())
        >>> writer.write_frame(0, image=np.zeros((8, 8, 3), np.uint8))
        >>> writer.has_frame(0)
        True
    """

    FOLDERS = ("ori_imgs", "gt_imgs", "torso_imgs", "parsing", "face_imgs")

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        try:
            for folder in self.FOLDERS:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(self.root, error) from error

    def has_frame(self, index: int) -> bool:
        """Whether the frame's picture is there (and then it is whole)."""
        return (self.root / f"ori_imgs/{index}.jpg").is_file()

    def write_frame(
        self,
        index: int,
        *,
        image: np.ndarray | None = None,
        gt_image: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        torso: np.ndarray | None = None,
        face: np.ndarray | None = None,
        landmarks_68: np.ndarray | None = None,
    ) -> None:
        """Write what is given of one frame.

        Args:
            index: the frame's number, `img_id`.
            image: uint8 RGB [H, W, 3], the frame itself.
            gt_image: uint8 RGB [H, W, 3], the frame with its background replaced by the plate.
            labels: uint8 [H, W], 0 background, 1 head, 2 neck, 3 torso.
            torso: uint8 RGBA [H, W, 4], neck and torso alone.
            face: uint8 RGB, the face alone.
            landmarks_68: [68, 2] the classic face points, (column, row) in pixels.
        """
        if landmarks_68 is not None:
            with atomic_write(self.root / f"ori_imgs/{index}.lms", "w") as file:
                np.savetxt(file, landmarks_68, fmt="%.4f")
        if gt_image is not None:
            save_image(self.root / f"gt_imgs/{index}.jpg", gt_image)
        if labels is not None:
            save_image(self.root / f"parsing/{index}.png", colours_of(labels))
        if torso is not None:
            save_image(self.root / f"torso_imgs/{index}.png", torso)
        if face is not None:
            save_image(self.root / f"face_imgs/{index}.jpg", face)
        if image is not None:
            save_image(self.root / f"ori_imgs/{index}.jpg", image)

    def write_background(self, image: np.ndarray) -> None:
        """Write the background plate, uint8 RGB [H, W, 3]."""
        save_image(self.root / "bc.jpg", image)

    def write_audio(self, wave: np.ndarray) -> None:
        """Write aud.wav (16 kHz mono, 16 bit) and aud_mel.npy from float32 [n_samples] in -1..1."""
        write_wav(self.root / "aud.wav", wave, SAMPLE_RATE)
        self.write_array("aud_mel", log_mel(wave))

    def write_array(self, name: str, values: np.ndarray) -> None:
        """Write `<name>.npy`, e.g. landmarks, blendshapes, body."""
        with atomic_write(self.root / f"{name}.npy") as file:
            np.save(file, values)

    def write_aus(self, frame_ids: np.ndarray, names: list[str], intensities: np.ndarray, fps: float) -> None:
        """Write au_proxy.csv with OpenFace's column names: row k is `img_id` k, `_r` runs from 0 to 5.

        Args:
            frame_ids: int [n], ascending; ids without a frame become rows with `success` 0.
            names: e.g. ["AU01", "AU25"].
            intensities: [n, k] in 0..1.
            fps: frames a second, for the timestamps.
        """
        columns = [f"{name}_r" for name in names]
        lines = [", ".join(["frame", "face_id", "timestamp", "confidence", "success", *columns])]
        rows = dict(zip(frame_ids.tolist(), 5.0 * intensities, strict=True))
        for index in range(int(frame_ids[-1]) + 1):
            row = rows.get(index)
            values = [0.0] * len(names) if row is None else row
            head = f"{index + 1}, 0, {index / fps:.3f}, {int(row is not None)}, {int(row is not None)}"
            lines.append(", ".join([head, *(f"{value:.4f}" for value in values)]))
        with atomic_write(self.root / "au_proxy.csv", "w") as file:
            file.write("\n".join(lines) + "\n")

    def finish(
        self,
        *,
        camera: Camera,
        c2w: np.ndarray,
        frame_ids: np.ndarray,
        segments: np.ndarray,
        aabb: np.ndarray,
        fps: float,
        reader: str,
        au_source: str | None,
        audio_ids: np.ndarray | None = None,
        rects: dict[str, np.ndarray] | None = None,
        **manifest: Any,
    ) -> None:
        """Write the poses and, last of all, the manifest.

        Args:
            camera: square pixels and `pixel_offset` 0.5.
            c2w: [n, 4, 4] OpenGL, in scene units (the head fits `aabb`).
            frame_ids: int [n], ascending.
            segments: int [n], index of the uncut take.
            aabb: [6] (xmin, ymin, zmin, xmax, ymax, zmax) in scene units.
            fps: frames a second.
            reader: what reads faces in rendered frames, "landmarker" or "sample".
            au_source: "proxy", "exact", or None where there are no action units.
            audio_ids: int [n]; frame_ids where not given.
            rects: optional "face_rect", "lip_rect", each [n, 4] (x, y, w, h) in pixels.
            manifest: further entries (source, quality, versions ...), JSON values.
        """
        audio_ids = frame_ids if audio_ids is None else audio_ids
        n_train = len(frame_ids) - round(TEST_SHARE * len(frame_ids))
        for name, rows in (("train", range(n_train)), ("val", range(n_train, len(frame_ids)))):
            frames = []
            for k in rows:
                matrix = np.asarray(c2w[k], np.float64).copy()
                matrix[:3, 3] /= SCENE_SCALE
                frame: dict[str, Any] = {"img_id": int(frame_ids[k]), "aud_id": int(audio_ids[k])}
                frame |= {key: [int(v) for v in values[k]] for key, values in (rects or {}).items()}
                frames.append(frame | {"transform_matrix": matrix.tolist()})
            head = {"focal_len": camera.fl_x, "cx": camera.cx, "cy": camera.cy}
            head |= {"h": camera.height, "w": camera.width}
            write_json(self.root / f"transforms_{name}.json", head | {"frames": frames})
        write_json(
            self.root / "manifest.json",
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "fps": fps,
                "height": camera.height,
                "width": camera.width,
                "pixel_offset": camera.pixel_offset,
                "scene_scale": SCENE_SCALE,
                "aabb": [float(v) for v in aabb],
                "audio_kind": "mel",
                "reader": reader,
                "au_source": au_source,
                "segments": _segment_starts(frame_ids, segments),
                **manifest,
            },
        )


def _segment_starts(frame_ids: np.ndarray, segments: np.ndarray) -> list[int]:
    """First frame id of every uncut take."""
    first = np.concatenate([[True], np.diff(segments) != 0]) if len(segments) else np.zeros(0, bool)
    return [int(index) for index in np.asarray(frame_ids)[first]]


def read_manifest(root: str | Path) -> dict[str, Any] | None:
    """The manifest of a finished data set of ours, None where there is none."""
    path = Path(root) / "manifest.json"
    if not path.is_file():
        return None
    manifest = json.loads(path.read_text())
    return manifest if manifest.get("format") == FORMAT else None
