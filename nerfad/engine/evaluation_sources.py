"""Where the frames to be scored come from: a trained avatar, or a video that anyone made.

`AvatarSource` is the place where an evaluation could cheat, so it is small: what it takes from the
held-out frames is the head pose and the body's motion, and `protocol` names them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from nerfad.data.dataset import Dataset, load_dataset
from nerfad.data.ground_truth import knows_depth
from nerfad.engine import checkpoint
from nerfad.engine.drawing import RenderedFrame, torso_over
from nerfad.errors import NerfadError, VideoError
from nerfad.features.audio import load_wave
from nerfad.io.video import VideoReader

if TYPE_CHECKING:
    from nerfad.engine.render import Avatar

SPLIT = "the last fifth of the clip in time order; no training frame shares a stretch of sound with it"
DEFAULT_WINDOW_S = (0.3, 0.2)
"""Sound that a frame may listen to, before and after its middle, where no run says otherwise."""
SPARE_FRAMES = 2
"""A video may be so many frames shorter or longer than the stretch it shows: encoders round."""

Window = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels, right and bottom exclusive."""


@dataclass(frozen=True)
class SourceFrame:
    """One picture to be scored, with the depth and opacity of the head where they are known."""

    position: int
    image: np.ndarray
    depth: np.ndarray | None = None
    opacity: np.ndarray | None = None
    learnt: np.ndarray | None = None  # over the learnt torso, where `image` is over the frame's own


class Source(Protocol):
    """Frames of held-out positions of a data set."""

    dataset: Dataset
    label: str
    train: np.ndarray
    positions: np.ndarray

    def frames(self, positions: np.ndarray) -> Iterator[SourceFrame]:
        """The pictures of the given positions, in their order."""
        ...

    def protocol(self) -> dict[str, Any]:
        """What was known when the frames were made, for the results."""
        ...


def _open_dataset(run: str | Path | None, dataset: str | Path | None, size: int | None) -> Dataset:
    root = dataset if dataset is not None else checkpoint.load_meta(Path(run or "."))["dataset"]["root"]
    if not Path(root).is_dir():
        raise NerfadError(f"the data set {root} of the run {run} is gone; say where it is with --dataset.")
    return load_dataset(root, size)


def dataset_sound(dataset: Dataset) -> np.ndarray:
    """The data set's sound as an avatar takes it: the wave, or one window of features a frame."""
    if dataset.audio_kind == "mel":
        return load_wave(dataset.audio_path)
    features = dataset.audio_features
    return features[np.minimum(dataset.audio_ids, len(features) - 1)]


class AvatarSource:
    """Renders the head of held-out frames from the clip's sound and each frame's head pose.

    Args:
        torso: what the head is composited over: "frame", the frame's own torso picture, which shows
            nothing of the face (the protocol of AD-NeRF, RAD-NeRF and their successors), or "learnt",
            the model's own torso, moved by the frame's body motion.
    """

    label = "rendered"

    def __init__(
        self,
        avatar: Avatar,
        dataset: Dataset,
        steps: int | None = None,
        torso: str = "frame",
        clip_s: float | None = None,
    ) -> None:
        self.torso = torso
        self.avatar = avatar
        self.dataset = dataset
        self.steps, self.clip_s = steps, clip_s
        voice = avatar.voice
        self.train, self.positions = dataset.split(voice.lookback_s, voice.lookahead_s)
        self.render_seconds: list[float] = []
        self._background = dataset.background()
        self._depth_is_known = knows_depth(dataset.root)
        self._conditions = avatar.conditions(
            dataset_sound(dataset), frame_times=dataset.frame_times, segments=dataset.segments
        )

    @classmethod
    def open(
        cls, run: str | Path, dataset: str | Path | None, torso: str = "frame", device: str = "cpu"
    ) -> AvatarSource:
        """Load a run folder and the data set it was trained on."""
        from nerfad.engine.render import Avatar

        saved = checkpoint.load(Path(run))
        saved.require_kind(None)
        data = _open_dataset(run, dataset, int(saved.meta["camera"]["height"]))
        saved.check_dataset(data)
        clip_s = saved.meta["config"].get("clip_s")
        return cls(Avatar.load(Path(run), device), data, saved.meta.get("step"), torso, clip_s)

    def _render(
        self,
        position: int,
        condition: np.ndarray,
        torso: np.ndarray | None,
        window: Window | None = None,
        surface_depth: bool = True,
    ) -> RenderedFrame:
        data = self.dataset
        return self.avatar.render(
            data.c2w[position],
            condition,
            body=None if data.body is None else data.body[position],
            background=self._background,
            window=window,
            torso=torso,
            surface_depth=surface_depth,
        )

    def frames(self, positions: np.ndarray) -> Iterator[SourceFrame]:
        """Render the given positions, each with its own sound."""
        for position in positions:
            started = time.perf_counter()
            # Depth takes a second pass, and only exact depth can judge it.
            frame = self._render(
                int(position), self._conditions[position], None, surface_depth=self._depth_is_known
            )
            self.render_seconds.append(time.perf_counter() - started)
            if self.torso == "learnt":
                yield SourceFrame(position, frame.image, frame.depth, frame.opacity)
                continue
            # The head is the same over either torso.
            behind = torso_over(self.dataset.torso(position), self._background)
            image = frame.over(behind)
            yield SourceFrame(position, image, frame.depth, frame.opacity, learnt=frame.image)

    def with_sound_of(self, position: int, other: int, window: Window | None = None) -> np.ndarray:
        """The frame's pose and body with the sound of another moment: the picture, or a window of it."""
        torso = self.dataset.torso(position) if self.torso == "frame" else None
        return self._render(position, self._conditions[other], torso, window, surface_depth=False).image

    def protocol(self) -> dict[str, Any]:
        """What was known of the held-out frames."""
        known = ["head pose", "background plate of the clip"]
        if self.torso == "frame":
            known.insert(1, "torso and neck picture (torso_imgs), behind the head")
        elif self.dataset.body is not None:
            known.insert(1, "torso and neck motion (2-D similarity)")
        return {
            "split": SPLIT,
            "driven_by": "the clip's own sound",
            "torso": self.torso,
            "known_from_held_out_frames": known,
            "blinks": "not taken from the held-out frames",
            "trained_steps": self.steps,
            "trained_on_first_seconds": self.clip_s,
        }


class VideoSource:
    """Frames of a video file that shows the held-out stretch, or the whole clip."""

    label = "video"

    def __init__(self, path: str | Path, dataset: Dataset, split: tuple[np.ndarray, np.ndarray]) -> None:
        self.path = Path(path)
        self.dataset = dataset
        self.train, positions = split
        with VideoReader(path) as reader:
            n_frames = sum(1 for _ in reader.resampled(dataset.fps))
        self._first, self.positions = self._placed(n_frames, positions)

    @classmethod
    def open(
        cls,
        path: str | Path,
        run: str | Path | None,
        dataset: str | Path | None,
    ) -> VideoSource:
        """Open a video and the data set that it claims to show."""
        lookback_s, lookahead_s, size = DEFAULT_WINDOW_S[0], DEFAULT_WINDOW_S[1], None
        if run is not None:
            from nerfad.engine.render import Avatar

            avatar = Avatar.load(Path(run))
            size = avatar.camera.height
            lookback_s, lookahead_s = avatar.voice.lookback_s, avatar.voice.lookahead_s
        data = _open_dataset(run, dataset, size)
        return cls(path, data, data.split(lookback_s, lookahead_s))

    def _placed(self, n_frames: int, test: np.ndarray) -> tuple[dict[int, int], np.ndarray]:
        """Frame of the video for each held-out position, and the positions that it covers."""
        whole = int(self.dataset.frame_ids[-1]) + 1
        if abs(n_frames - len(test)) <= SPARE_FRAMES:
            place = {int(p): k for k, p in enumerate(test)}
        elif abs(n_frames - whole) <= SPARE_FRAMES:
            place = {int(p): int(self.dataset.frame_ids[p]) for p in test}
        elif abs(n_frames - len(self.dataset)) <= SPARE_FRAMES:
            place = {int(p): int(p) for p in test}
        else:
            raise VideoError(
                f"{self.path} has {n_frames} frames at {self.dataset.fps:g} fps; it must show the held-out "
                f"stretch ({len(test)} frames) or the whole clip ({whole} frames)."
            )
        place = {p: k for p, k in place.items() if k < n_frames}
        return place, np.array(sorted(place), np.int64)

    def frames(self, positions: np.ndarray) -> Iterator[SourceFrame]:
        """The video's frames at the given positions, at the data set's size."""
        wanted = {self._first[int(p)]: int(p) for p in positions}
        height, width = self.dataset.height, self.dataset.width
        with VideoReader(self.path) as reader:
            numbered = enumerate(reader.resampled(self.dataset.fps))
            for k, frame in itertools.takewhile(lambda item: item[0] <= max(wanted), numbered):
                if k in wanted:
                    image = frame.image
                    if image.shape[:2] != (height, width):
                        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
                    yield SourceFrame(wanted[k], image)

    def protocol(self) -> dict[str, Any]:
        """What is known of the video: nothing but the file."""
        return {
            "split": SPLIT,
            "driven_by": "unknown: the frames were read from a video",
            "known_from_held_out_frames": "unknown: the frames were read from a video",
            "video": str(self.path),
        }
