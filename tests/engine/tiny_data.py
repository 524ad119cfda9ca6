"""A data set of a few dozen frames, made in a second: a turning ball with eyes and a mouth that opens with
the sound, over a striped torso that sways on its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nerfad.engine.train as train_module
from nerfad.cameras import Camera
from nerfad.config import FieldConfig, OccupancyConfig, OptimConfig, TorsoConfig, TrainConfig
from nerfad.data.writer import DatasetWriter
from nerfad.engine.train import train
from nerfad.models.audio_net import AudioConfig

FPS = 25.0
RADIUS = 0.45
DISTANCE = 4.0


def write_tiny_dataset(root: Path, n_frames: int = 60, size: int = 32, seed: int = 0) -> Path:
    """Write it to `root`, in the layout that `nerfad preprocess` writes."""
    rng = np.random.default_rng(seed)
    writer = DatasetWriter(root)
    camera = Camera(3.0 * size, 3.0 * size, size / 2, size / 2, size, size)
    loudness = np.abs(np.sin(np.arange(n_frames) * 0.45)) * (rng.random(n_frames) * 0.4 + 0.6)
    samples_per_frame = round(16000 / FPS)
    wave = np.repeat(loudness, samples_per_frame) * rng.standard_normal(n_frames * samples_per_frame) * 0.2
    poses, bodies = [], []
    for k in range(n_frames):
        yaw, sway = 0.25 * np.sin(k * 0.2), 1.5 * np.sin(k * 0.13)
        c2w = turned(yaw)
        image, labels = draw(camera, c2w, float(loudness[k]), sway)
        alpha = np.where(labels >= 2, 255, 0).astype(np.uint8)
        writer.write_frame(k, image=image, gt_image=image, labels=labels, torso=np.dstack([image, alpha]))
        poses.append(c2w)
        bodies.append([sway, 0, 0, 0])
    writer.write_background(np.full((size, size, 3), (40, 90, 200), np.uint8))
    writer.write_audio(wave.astype(np.float32))
    writer.write_array("body", np.array(bodies, np.float32))
    ids = np.arange(n_frames)
    blink = (ids % 20 < 2).astype(np.float32)
    writer.write_aus(ids, ["AU25", "AU45"], np.stack([loudness, blink], 1), FPS)
    writer.finish(
        camera=camera,
        c2w=np.array(poses),
        frame_ids=ids,
        segments=np.zeros(n_frames, np.int64),
        aabb=np.array([-0.6, -0.6, -0.6, 0.6, 0.6, 0.6]),
        fps=FPS,
        reader="sample",
        au_source="exact",
    )
    return root


def turned(yaw: float) -> np.ndarray:
    """A camera on a circle about the ball, OpenGL."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    c2w = np.eye(4)
    c2w[:3, 0], c2w[:3, 2] = (cos, 0, -sin), (sin, 0, cos)
    c2w[:3, 3] = DISTANCE * c2w[:3, 2]
    return c2w


def draw(camera: Camera, c2w: np.ndarray, mouth: float, sway: float) -> tuple[np.ndarray, np.ndarray]:
    """One frame uint8 [H, W, 3] and its labels."""
    rows, columns = np.mgrid[: camera.height, : camera.width]
    rays_o, rays_d = camera.rays(c2w, np.stack([columns.ravel(), rows.ravel()], 1))
    along = -(rays_o * rays_d).sum(1)
    discriminant = RADIUS**2 - ((rays_o + along[:, None] * rays_d) ** 2).sum(1)
    hit = discriminant > 0
    point = rays_o + (along - np.sqrt(np.maximum(discriminant, 0)))[:, None] * rays_d
    x, y = point[:, 0], point[:, 1]
    skin = np.stack([200 + 40 * x, 150 + 60 * y, 120 + 0 * x], 1)
    eyes = (np.abs(np.abs(x) - 0.16) < 0.06) & (np.abs(y - 0.12) < 0.05)
    open_mouth = (np.abs(x) < 0.15) & (np.abs(y + 0.16) < 0.02 + 0.1 * mouth)
    skin[eyes], skin[open_mouth] = (20, 20, 30), (90, 10, 20)
    image = np.full((camera.height * camera.width, 3), (40, 90, 200), np.float64)
    torso = (rows.ravel() > 0.8 * camera.height) & (np.abs(columns.ravel() - camera.width / 2 - sway) < 11)
    image[torso] = np.where(((columns.ravel() - sway) % 6 < 3)[torso, None], 60.0, 140.0)
    image[hit] = skin[hit]
    labels = np.where(hit, 1, np.where(torso, 3, 0)).astype(np.uint8)
    shape = (camera.height, camera.width)
    return image.clip(0, 255).astype(np.uint8).reshape(*shape, 3), labels.reshape(shape)


def train_tiny(data: Path, out: Path, steps: int = 70, codes: str = "auto") -> Path:
    """Train a small avatar for a few seconds; returns its run folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            train_module, "AudioConfig", lambda: AudioConfig(lookback_s=0.2, features="mel", n_folds=2)
        )
        train(
            TrainConfig(
                dataset=data,
                out=out,
                steps=steps,
                codes=codes,
                preview_every_s=0.0,
                field=FieldConfig(n_levels=4, log2_table_size=10, finest_resolution=32, width=16),
                torso=TorsoConfig(n_levels=4, log2_table_size=10, finest_resolution=32, width=16),
                occupancy=OccupancyConfig(resolution=32, n_steps=32),
                optim=OptimConfig(n_rays=512, n_frames=2),
            )
        )
    return out
