"""Last stage: action units, poses, pictures to look at, and the manifest with its quality report."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

import cv2
import numpy as np

import nerfad
from nerfad.features.action_units import AU_NAMES, PersonScale, raw_action_units
from nerfad.features.face_mesh import FACE_OVAL, LIPS_OUTER
from nerfad.features.regions import LABEL_COLOURS, labels_of
from nerfad.io.images import load_image, save_image
from nerfad.models_store import MODELS
from nerfad.preprocess import audio, background, crops, landmarks, poses, scan, torso
from nerfad.preprocess.workspace import Workspace

STAGE = "manifest"
_PREVIEW_FRAMES = 12
_PREVIEW_SIZE = 256
_PREVIEW_COLUMNS = 4
# Reprojection error at 512 pixels above which poses are doubtful, and grey levels by which a still
# background may change.
_REPROJECTION_WARN = 1.5
_BACKGROUND_WARN = 6.0


def run(ws: Workspace) -> None:
    """Finish the data set."""
    ws.report(STAGE, 0, 1)
    found, fitted, cut_out = ws.load(landmarks.STAGE), ws.load(poses.STAGE), ws.load(torso.STAGE)
    frame_ids = found["frame_ids"]
    raw = raw_action_units(found["blendshapes"], found["landmarks"])
    scale = PersonScale.fit(raw)
    ws.writer.write_array("landmarks", found["landmarks"])
    ws.writer.write_array("blendshapes", found["blendshapes"])
    ws.writer.write_array("body", cut_out["body"])
    ws.writer.write_array("face_squares", ws.load(crops.STAGE)["squares"])
    ws.writer.write_aus(frame_ids, AU_NAMES, scale.apply(raw), ws.job.fps)
    save_image(ws.out / "preview.png", _contact_sheet(ws, found))
    ws.writer.finish(
        camera=poses.camera_of(ws.size),
        c2w=fitted["c2w"],
        frame_ids=frame_ids,
        segments=found["segments"],
        aabb=fitted["aabb"],
        fps=ws.job.fps,
        reader="landmarker",
        au_source="proxy",
        rects={
            "face_rect": _rects(found["landmarks"][:, FACE_OVAL], ws.size, 0.0),
            "lip_rect": _rects(found["landmarks"][:, LIPS_OUTER], ws.size, 0.2),
        },
        job=asdict(ws.job),
        source=_source(ws),
        au_scale=scale.to_json(),
        body_reference=int(cut_out["reference"]),
        quality=_quality(ws, scale),
        versions=_versions(),
    )
    ws.report(STAGE, 1, 1)


def _source(ws: Workspace) -> dict[str, Any]:
    plan = ws.load(scan.STAGE)
    return {
        "file": ws.video.name,
        "sha256": ws.job.video_sha256,
        "height": int(plan["source_size"][0]),
        "width": int(plan["source_size"][1]),
        "fps": round(float(plan["source_fps"]), 4),
        "variable_frame_rate": bool(plan["vfr"]),
        "rotation": int(plan["rotation"]),
        "n_frames": int(plan["n_source"]),
        "crop": [int(v) for v in plan["crop"]],
    }


def _quality(ws: Workspace, scale: PersonScale) -> dict[str, Any]:
    """What came out, in numbers, and what to be wary of, in words."""
    plan, found, fitted = ws.load(scan.STAGE), ws.load(landmarks.STAGE), ws.load(poses.STAGE)
    plate, sound, cut_out = ws.load(background.STAGE), ws.load(audio.STAGE), ws.load(torso.STAGE)
    errors = fitted["reprojection_px"] * 512 / ws.size
    n_found, n_lost = len(found["frame_ids"]), len(found["without_face"])
    side = int(plan["crop"][2])
    warnings = []
    if errors.mean() > _REPROJECTION_WARN:
        warnings.append(f"poses are uncertain: {errors.mean():.2f} px mean reprojection error at 512 px")
    if float(plate["residual"]) > _BACKGROUND_WARN:
        warnings.append("the background changes: the camera or something behind the person moves")
    if side < ws.size:
        warnings.append(f"pictures were enlarged from {side} to {ws.size} px")
    if float(sound["missing_s"]) > 0.1:
        warnings.append(f"the sound ends {float(sound['missing_s']):.1f} s before the pictures")
    if n_found / ws.job.fps < 30:
        warnings.append(f"only {n_found / ws.job.fps:.0f} s of usable video; a minute or more is wanted")
    if silent := scale.without_signal():
        warnings.append(f"action units without signal in this clip: {', '.join(silent)}")
    return {
        "frames": n_found,
        "detection_rate": round(n_found / (n_found + n_lost), 5),
        "reprojection_px_at_512": {
            "mean": round(float(errors.mean()), 4),
            "p95": round(float(np.percentile(errors, 95)), 4),
            "worst_frame": int(found["frame_ids"][errors.argmax()]),
            "points": int(fitted["n_rigid"]),
        },
        "dropped": {
            "duplicates": int(plan["n_duplicates"]),
            "no_picture_at_tick": int(plan["n_ticks"]) - len(plan["frame_ids"]),
            "no_face": [int(k) for k in found["without_face"]],
        },
        "cuts_at_source_frames": [int(k) for k in plan["cuts"]],
        "background": {
            "never_seen_share": round(float(plate["unseen_share"]), 4),
            "mean_grey_change": round(float(plate["residual"]), 3),
        },
        "body_mean_grey_error": round(float(np.median(cut_out["error"])), 3),
        "warnings": warnings,
    }


def _versions() -> dict[str, str]:
    found = {"nerfad": nerfad.__version__, "python": platform.python_version()}
    for package in ("numpy", "opencv-python-headless", "av", "scipy", "ai-edge-litert", "mediapipe"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found | {f"model:{model.file}": model.sha256 for model in MODELS.values()}


def _rects(points: np.ndarray, size: int, margin: float) -> np.ndarray:
    """[n, 4] (x, y, w, h) around points [n, k, 3], widened by a share of the larger side."""
    low, high = points[..., :2].min(1), points[..., :2].max(1)
    extra = margin * (high - low).max(1, keepdims=True)
    low = np.clip(np.floor(low - extra), 0, size - 1)
    high = np.clip(np.ceil(high + extra), 1, size)
    return np.concatenate([low, high - low], 1).astype(np.int64)


def _contact_sheet(ws: Workspace, found: dict[str, np.ndarray]) -> np.ndarray:
    """Frames with tinted regions and landmarks, then torso pictures, then the plate."""
    ids = found["frame_ids"]
    chosen = np.unique(np.linspace(0, len(ids) - 1, _PREVIEW_FRAMES).round().astype(int))
    tiles = []
    for k in chosen:
        image, labels = ws.image(ids[k]), labels_of(load_image(ws.out / f"parsing/{ids[k]}.png"))
        tint = (0.6 * image + 0.4 * LABEL_COLOURS[labels]).astype(np.uint8)
        tile = np.where((labels > 0)[..., None], tint, image)
        for x, y in found["landmarks"][k, :, :2]:
            cv2.circle(tile, (int(x), int(y)), max(1, ws.size // 400), (255, 255, 0), -1)
        tiles.append(_small(tile))
    for k in chosen[:: max(1, len(chosen) // (_PREVIEW_COLUMNS - 1))][: _PREVIEW_COLUMNS - 1]:
        rgba = load_image(ws.out / f"torso_imgs/{ids[k]}.png", channels=4)
        alpha = rgba[..., 3:] / 255.0
        tiles.append(_small((alpha * rgba[..., :3] + (1 - alpha) * (255, 0, 255)).astype(np.uint8)))
    tiles.append(_small(load_image(ws.out / "bc.jpg")))
    while len(tiles) % _PREVIEW_COLUMNS:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[k : k + _PREVIEW_COLUMNS]) for k in range(0, len(tiles), _PREVIEW_COLUMNS)]
    return np.vstack(rows)


def _small(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (_PREVIEW_SIZE, _PREVIEW_SIZE), interpolation=cv2.INTER_AREA)
