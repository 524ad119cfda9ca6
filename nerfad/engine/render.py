"""`nerfad render`: a trained avatar speaks. `Avatar` is a run that can be asked for frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nerfad.cameras import Camera
from nerfad.config import TrainConfig, train_config_of
from nerfad.data.dataset import MAX_SIZE, MIN_SIZE, load_dataset
from nerfad.engine import checkpoint
from nerfad.engine.au_control import UnitEdit, edited_codes, unit_directions
from nerfad.engine.build import restored_model
from nerfad.engine.devices import checked_device
from nerfad.engine.drawing import RenderedFrame, draw_frame, torso_over
from nerfad.engine.still import MaskReport, StillAvatar
from nerfad.engine.voice import restored_voice
from nerfad.errors import InputFileError, NerfadError
from nerfad.features.audio import SAMPLE_RATE, load_wave
from nerfad.io.atomic import check_file_target
from nerfad.io.audio import read_audio
from nerfad.io.video import SYNTHETIC_COMMENT, write_video
from nerfad.models.avatar import body_in_heights
from nerfad.progress import Progress, report

__all__ = ["Avatar", "RenderedFrame", "blinks", "render_video", "smooth_loop"]

POSE_BLUR_FRAMES = 1.5
BLINK_EVERY_S = (2.0, 5.5)
BLINK_SHAPE = (0.35, 0.9, 1.0, 0.75, 0.4, 0.15)


class Avatar:
    """A trained run, ready to be drawn.

    Example:
        >>> avatar = Avatar.load("runs/me")  # doctest: +SKIP
        >>> cond = avatar.conditions(wave, n_frames=100)  # doctest: +SKIP
        >>> avatar.render(avatar.c2w[0], cond[0]).image.shape  # doctest: +SKIP
        (256, 256, 3)
    """

    def __init__(self, saved: checkpoint.Checkpoint, device: str = "cpu") -> None:
        saved.require_kind(None)
        self.device = checked_device(device)
        self.run = saved.run
        self.meta: dict[str, Any] = saved.meta
        self.config: TrainConfig = train_config_of(saved.meta["config"])
        self.camera = Camera(**saved.meta["camera"])
        self.fps = float(saved.meta["fps"])
        self.usual_blink = float(saved.meta["usual_blink"])
        self.blinks_seen = bool(saved.tensors["conditions.blink"].max() > 0.5)
        self.plate = saved.tensors["scene.plate"].numpy()
        self.c2w = saved.tensors["scene.c2w"].numpy()
        self.segments = saved.tensors["scene.segments"].numpy()
        pixels = np.array([self.camera.height, self.camera.height, 1, 1], np.float32)
        self.body = saved.tensors["scene.body"].numpy() * pixels
        self.voice = restored_voice(saved)
        self.model = restored_model(saved)
        self.model.eval().to(self.device)

    @classmethod
    def load(cls, run: str | Path, device: str = "cpu") -> Avatar:
        """Open a run folder, to be drawn on `device` (hearing stays on the CPU).

        Raises:
            BackendError: the device is not there.
            CheckpointError: there is no usable checkpoint in it.
        """
        return cls(checkpoint.load(run), device)

    @property
    def audio_kind(self) -> str:
        """What `conditions` listens to: "mel" for waves, else the kind of the features given."""
        return str(self.meta["dataset"]["audio_kind"])

    def conditions(
        self,
        sound: np.ndarray,
        n_frames: int | None = None,
        frame_times: np.ndarray | None = None,
        segments: np.ndarray | None = None,
        blink: np.ndarray | None = None,
        own_level: bool = False,
    ) -> np.ndarray:
        """What the field is told about each frame, from sound alone.

        Args:
            sound: a wave float32 [n] at 16 kHz, mono; or features: log-mel rows [n, 80] at 100 Hz, or one
                window [n_frames, w, f] per frame of the kind that the data set came with.
            n_frames: number of frames; by default the sound's length.
            frame_times: [n_frames] seconds of the frames' middles; by default (k + 0.5) / fps.
            segments: [n_frames] index of the uncut take of each frame; sound is not heard across cuts.
            blink: [n_frames] 0 open to 1 closed; by default open eyes.
            own_level: measure level and microphone in `sound` itself instead of taking the training clip's:
                for other recordings; it looks at the whole of `sound`.

        Returns:
            float32 [n_frames, c].
        """
        if frame_times is None:
            if n_frames is None:
                rows_per_s = {1: SAMPLE_RATE, 2: 100}.get(sound.ndim, self.fps)
                n_frames = round(len(sound) / rows_per_s * self.fps)
            frame_times = (np.arange(n_frames) + 0.5) / self.fps
        codes = self.voice.codes(sound, frame_times, segments, own_level)
        n = len(codes)
        eyes = np.full(n, self.usual_blink, np.float32) if blink is None else np.asarray(blink, np.float32)
        appearance: np.ndarray | list[float] = []
        if self.model.n_appearance:
            appearance = self.model.appearance.detach().mean(0).cpu().numpy()
        columns = [
            codes,
            eyes[:, None],
            np.broadcast_to(np.asarray(appearance, np.float32), (n, len(appearance))),
        ]
        return np.concatenate(columns, 1).astype(np.float32)

    def render(
        self,
        c2w: np.ndarray,
        cond: np.ndarray,
        body: np.ndarray | None = None,
        background: np.ndarray | None = None,
        size: int | None = None,
        window: tuple[int, int, int, int] | None = None,
        torso: np.ndarray | None = None,
        surface_depth: bool = True,
    ) -> RenderedFrame:
        """Draw one frame, or a window of it.

        Args:
            c2w: [4, 4] head pose, scene units.
            cond: [c] a row of `conditions`.
            body: [4] body motion in pixels of the training size, as in the data set; by default at rest.
            background: uint8 [H, W, 3]; by default the data set's plate.
            size: rows of the picture; by default those of the training pictures.
            window: (left, top, right, bottom) of the pixels to draw; by default all.
            torso: uint8 RGBA [H, W, 4], neck and torso to draw the head over, in the place of the learnt
                one (`body` then says nothing).
            surface_depth: measure `depth` in a second pass; without it drawing takes half the time.
        """
        camera, motion, plate = self._scene(body, background, size, torso)
        return draw_frame(
            self.model,
            camera,
            self.model.head.box.to_box(c2w),
            motion,
            torch.from_numpy(np.asarray(cond, np.float32)).to(self.device),
            plate,
            window,
            surface_depth,
        )

    def still(
        self,
        c2w: np.ndarray,
        body: np.ndarray | None = None,
        background: np.ndarray | None = None,
        size: int | None = None,
    ) -> StillAvatar:
        """The avatar at one pose, for any number of frames; arguments as those of `render`.

        Example:
            >>> still = avatar.still(avatar.c2w[0])  # doctest: +SKIP
            >>> still.render(cond[0]).image.shape  # doctest: +SKIP
            (256, 256, 3)
            >>> masked = still.masked(cond)  # doctest: +SKIP
            >>> masked.report.share  # doctest: +SKIP
            0.17
        """
        camera, motion, plate = self._scene(body, background, size, None)
        return StillAvatar.at(self.model, camera, self.model.head.box.to_box(c2w), motion, plate)

    def _scene(
        self,
        body: np.ndarray | None,
        background: np.ndarray | None,
        size: int | None,
        torso: np.ndarray | None,
    ) -> tuple[Camera, Tensor | None, Tensor]:
        """Camera, body motion in picture heights (None: the torso is given) and plate; see `render`."""
        camera = self.camera
        if size is not None and size != camera.height:
            camera = camera.resized(size, round(camera.width * size / camera.height))
        below = self.plate if background is None else background
        layer = below.astype(np.float32) / 255 if torso is None else torso_over(torso, below)
        plate = torch.from_numpy(layer)
        if plate.shape[:2] != (camera.height, camera.width):
            plate = _resized(plate, camera.height, camera.width)
        motion = None
        if torso is None:
            rest = self.body.mean(0) if body is None else body
            motion = body_in_heights(rest[None], 1, self.camera.height)[0].to(self.device)
        return camera, motion, plate.to(self.device)


@dataclass(frozen=True)
class RenderedVideo:
    """What `render_video` has written."""

    n_frames: int
    mask: MaskReport | None  # what the sensitivity mask saves and costs, if there is one


def render_video(
    run: str | Path,
    audio: str | Path,
    out: str | Path,
    *,
    size: int | None = None,
    poses: str = "loop",
    dataset: str | Path | None = None,
    synthetic: bool = True,
    seed: int = 0,
    device: str = "cpu",
    edits: Sequence[UnitEdit] = (),
    sensitivity_mask: float | None = None,
    progress: Progress | None = None,
) -> RenderedVideo:
    """Render `audio` as a talking video with sound.

    Args:
        run: a training run's folder.
        audio: any sound or video file.
        out: the MP4 to write.
        size: rows of the video; by default those of the training pictures.
        poses: "loop" (a smooth loop through the longest uncut take), "dataset" (its poses in order) or
            "still" (the pose in the middle of that loop, where march and grid are computed once).
        dataset: the data set whose poses to take; by default those that the run has learnt from.
        synthetic: mark the video as synthetic in its metadata.
        seed: of the blinks.
        device: "cpu", "cuda" or "cuda:1".
        edits: action units that are edited on top of speech.
        sensitivity_mask: with "still", draw only pixels that the conditions change by more than this, on
            colours from 0 to 1; an approximation, see `StillAvatar.masked`.

    Raises:
        CheckpointError, DatasetError, InputFileError, OutputError: with the remedy.
    """
    if size is not None and not MIN_SIZE <= size <= MAX_SIZE:
        raise NerfadError(f"--size must be between {MIN_SIZE} and {MAX_SIZE} pixels, got {size}.")
    check_file_target(out)
    if sensitivity_mask is not None and poses != "still":
        raise NerfadError(
            f"--sensitivity-mask needs a head that holds still, and --poses {poses} moves it; "
            "add --poses still or leave the mask out."
        )
    avatar = Avatar.load(run, device)
    if avatar.audio_kind != "mel":
        raise InputFileError(
            f"{run}: was trained on {avatar.audio_kind} features and cannot listen to a sound file; "
            "preprocess the video with `nerfad preprocess` and train again."
        )
    wave = load_wave(audio)
    n_frames = round(len(wave) / SAMPLE_RATE * avatar.fps)
    if n_frames == 0:
        raise InputFileError(f"{audio}: is shorter than one video frame; give a longer sound.")
    for edit in edits:
        edit.check_within(len(wave) / SAMPLE_RATE)
    c2w, body = _head_poses(avatar, poses, dataset)
    order = there_and_back(len(c2w), n_frames)
    eyes = blinks(n_frames, avatar.fps, seed) if avatar.blinks_seen else None
    cond = avatar.conditions(wave, n_frames, blink=eyes, own_level=True)
    if edits:
        report(progress, 0.0, "learning what moves the action units")
        n_codes, times = avatar.voice.n_codes, (np.arange(n_frames) + 0.5) / avatar.fps
        directions = unit_directions(avatar, edits, dataset)
        cond[:, :n_codes] = edited_codes(directions, cond[:, :n_codes], times, edits)

    still: StillAvatar | None = None
    if poses == "still":
        still = avatar.still(c2w[0], body[0], size=size)
        if sensitivity_mask is not None:
            report(progress, 0.0, "measuring the sensitivity mask")
            still = still.masked(cond, sensitivity_mask)

    def frames() -> Iterator[np.ndarray]:
        for k, pose in enumerate(order):
            report(progress, k / n_frames, f"frame {k + 1} of {n_frames}")
            if still is not None:
                yield still.render(cond[k]).image
            else:
                yield avatar.render(c2w[pose], cond[k], body[pose], size=size, surface_depth=False).image

    comment = SYNTHETIC_COMMENT if synthetic else None
    written = write_video(out, frames(), avatar.fps, read_audio(audio, None), comment=comment)
    return RenderedVideo(written, None if still is None else still.report)


def _head_poses(avatar: Avatar, poses: str, dataset: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Head poses [n, 4, 4] and body motion [n, 4] to go through; see `render_video`."""
    c2w, body, segments = avatar.c2w, avatar.body, avatar.segments
    if dataset is not None:
        data = load_dataset(dataset, avatar.camera.height)
        body = np.zeros((len(data), 4), np.float32) if data.body is None else data.body
        c2w, segments = data.c2w, data.segments
    if poses == "dataset":
        return c2w, body
    c2w, body = smooth_loop(c2w, body, segments)
    if poses == "still":
        middle = [np.square(c2w - c2w.mean(0)).sum((1, 2)).argmin()]
        return c2w[middle], body[middle]
    return c2w, body


def there_and_back(n_poses: int, n_frames: int) -> np.ndarray:
    """Indices int64 [n_frames] that run through the poses forwards, then backwards, and so on.

    >>> there_and_back(3, 6).tolist()
    [0, 1, 2, 1, 0, 1]
    """
    cycle = np.concatenate([np.arange(n_poses), np.arange(n_poses - 2, 0, -1)])
    return np.resize(cycle, n_frames)


def smooth_loop(c2w: np.ndarray, body: np.ndarray, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses and body motion of the longest uncut take, lightly smoothed over time."""
    take = segments == np.bincount(segments - segments.min()).argmax() + segments.min()
    c2w, body = c2w[take], body[take]
    radius = int(np.ceil(3 * POSE_BLUR_FRAMES))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / POSE_BLUR_FRAMES) ** 2)
    kernel /= kernel.sum()

    def blurred(values: np.ndarray) -> np.ndarray:
        flat = np.pad(values.reshape(len(values), -1), ((radius, radius), (0, 0)), mode="edge")
        rows = np.stack([np.convolve(column, kernel, "valid") for column in flat.T], 1)
        return rows.reshape(values.shape)

    smooth = blurred(c2w)
    u, _, vt = np.linalg.svd(smooth[:, :3, :3])
    smooth[:, :3, :3] = u @ vt
    return smooth.astype(np.float32), blurred(body).astype(np.float32)


def blinks(n_frames: int, fps: float, seed: int) -> np.ndarray:
    """A blink code with a blink every few seconds, float32 [n_frames]."""
    generator = np.random.default_rng(seed)
    code = np.zeros(n_frames, np.float32)
    at = generator.uniform(*BLINK_EVERY_S) * fps
    while at < n_frames:
        start = int(at)
        shape = BLINK_SHAPE[: n_frames - start]
        code[start : start + len(shape)] = shape
        at += generator.uniform(*BLINK_EVERY_S) * fps
    return code


def _resized(plate: Tensor, height: int, width: int) -> Tensor:
    """A float picture [h, w, 3] at another size."""
    planes = plate.permute(2, 0, 1)[None]
    method = {"mode": "area"} if height < plate.shape[0] else {"mode": "bilinear", "align_corners": False}
    return torch.nn.functional.interpolate(planes, (height, width), **method)[0].permute(1, 2, 0)
