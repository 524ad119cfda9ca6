"""Scores rendered frames one by one against the real ones, and sums up.

True landmarks and true pixels enter here and nowhere else: they say where to look and what to compare
with, after the frame has been rendered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nerfad.data.dataset import Dataset
from nerfad.data.ground_truth import exact_depth
from nerfad.engine.comparison import sound_of
from nerfad.engine.evaluation_sources import SourceFrame
from nerfad.features.face_reader import FaceReader, FaceReading
from nerfad.metrics.depth import DepthError, depth_error
from nerfad.metrics.flip import flip
from nerfad.metrics.landmarks import CLASSIC_MOUTH, LMD_40, LMD_79, landmark_distance
from nerfad.metrics.lpips import Lpips
from nerfad.metrics.psnr import psnr
from nerfad.metrics.regions import MOUTH_SCALE, ellipse_mask, face_mask, mouth_mask
from nerfad.metrics.ssim import MS_SSIM_SMALLEST_SIDE, ms_ssim, ssim
from nerfad.metrics.syncnet import SyncNetScorer, SyncScore, face_crop
from nerfad.metrics.unavailable import Unavailable

HEAD = 1  # label of head and hair
SLOW_FRAMES = 60
"""FLIP and LPIPS take longer than rendering does: they run on at most so many frames, evenly spread."""

LANDMARK_METRICS = ("lmd", "lmd_79", "lmd_20")
LEARNT_TORSO_METRICS = ("psnr_learnt_torso", "psnr_face_learnt_torso")
PICTURE_METRICS = (
    "psnr",
    "psnr_face",
    "psnr_mouth",
    "ssim",
    "ms_ssim",
    "flip",
    "lpips",
    *LANDMARK_METRICS,
    *LEARNT_TORSO_METRICS,
)


@dataclass(frozen=True)
class FrameScore:
    """One frame: its scores by name (NaN where undefined) and what the reader saw on either side."""

    position: int
    scores: dict[str, float]
    rendered: FaceReading | None
    real: FaceReading | None
    depth: DepthError | None = None

    @property
    def rendered_gap(self) -> float:
        """Lip gap read in the rendered frame, NaN where no face was found."""
        return self.rendered.lip_gap if self.rendered else math.nan

    @property
    def real_gap(self) -> float:
        """Lip gap read in the real frame, NaN where no face was found."""
        return self.real.lip_gap if self.real else math.nan


class FrameScorer:
    """Scores frames of one data set; `reasons` says why a metric is missing."""

    def __init__(
        self,
        dataset: Dataset,
        reader: FaceReader | None,
        positions: Sequence[int] | np.ndarray,
        models: str | Path | None = None,
    ) -> None:
        self.dataset = dataset
        self.reader = reader
        self.reasons: dict[str, str] = {}
        every = max(1, math.ceil(len(positions) / SLOW_FRAMES))
        self._slow = {int(p) for p in positions[::every]}
        self.n_slow = len(self._slow)
        self._lpips: Callable[[np.ndarray, np.ndarray], float] | None = None
        try:
            self._lpips = Lpips(models)
        except Unavailable as reason:
            self.reasons["lpips"] = str(reason)
        self._sync: SyncNetScorer | None = None
        self._crops: dict[str, dict[int, np.ndarray]] = {"rendered": {}, "real": {}}
        try:
            self._sync = SyncNetScorer(models)
        except Unavailable as reason:
            self.reasons["syncnet"] = str(reason)
        self._flip: Callable[[np.ndarray, np.ndarray], float] | None = flip
        self._multi_scale = min(dataset.height, dataset.width) >= MS_SSIM_SMALLEST_SIDE
        if not self._multi_scale:
            self.reasons["ms_ssim"] = f"needs pictures of at least {MS_SSIM_SMALLEST_SIDE} pixels a side"

    def score(self, frame: SourceFrame, truth: np.ndarray) -> FrameScore:
        """Compare one rendered frame with the real one, uint8 RGB."""
        position, image = frame.position, frame.image
        rendered = self.reader.read(image) if self.reader else None
        real = self.reader.read(truth) if self.reader else None
        scores = {"psnr": psnr(image, truth), "ssim": ssim(image, truth)}
        if self._multi_scale:
            scores["ms_ssim"] = ms_ssim(image, truth)
        scores |= self._region_scores(position, image, truth, real)
        if frame.learnt is not None:
            over_learnt = self._region_scores(position, frame.learnt, truth, real)
            scores["psnr_learnt_torso"] = psnr(frame.learnt, truth)
            if "psnr_face" in over_learnt:
                scores["psnr_face_learnt_torso"] = over_learnt["psnr_face"]
        if position in self._slow:
            scores |= self._slow_scores(image, truth)
        if rendered and real and rendered.landmarks is not None and real.landmarks is not None:
            scores["lmd"] = landmark_distance(rendered.landmarks, real.landmarks, LMD_40)
            scores["lmd_79"] = landmark_distance(rendered.landmarks, real.landmarks, LMD_79)
            scores["lmd_20"] = landmark_distance(rendered.landmarks, real.landmarks, CLASSIC_MOUTH)
        for side, picture, face in (("rendered", image, rendered), ("real", truth, real)):
            if self._sync is not None and face and face.landmarks is not None:
                self._crops[side][position] = face_crop(picture, face.landmarks)
        return FrameScore(position, scores, rendered, real, self._depth_error(frame, real))

    def sync_score(self, side: str = "rendered") -> SyncScore | None:
        """SyncNet on the longest stretch of consecutive frames of one take in which a face was read.

        Args:
            side: "rendered", or "real" for what the true frames score.
        """
        if self._sync is None:
            return None
        crops = self._crops[side]
        stretch = longest_run(self.dataset, sorted(crops))
        try:
            wave, _ = sound_of(self.dataset, np.array(stretch, np.int64)) if stretch else (np.zeros(0), 0)
            return self._sync([crops[p] for p in stretch], wave)
        except Unavailable as reason:
            self.reasons["syncnet"] = str(reason)
            return None

    def _region_scores(
        self, position: int, image: np.ndarray, truth: np.ndarray, real: FaceReading | None
    ) -> dict[str, float]:
        face, mouth = self._regions(position, real)
        scores = {}
        if face is not None:
            scores["psnr_face"] = psnr(image, truth, face)
        if mouth is not None:
            scores["psnr_mouth"] = psnr(image, truth, mouth)
        return scores

    def _regions(
        self, position: int, real: FaceReading | None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Masks of the real frame's face and mouth, by the best that the data set offers."""
        data = self.dataset
        size = data.height, data.width
        if data.landmarks is not None:
            points = data.landmarks[position]
            return face_mask(points, *size), mouth_mask(points, *size)
        if "face_rect" in data.rects and "lip_rect" in data.rects:
            face, lips = data.rects["face_rect"][position], data.rects["lip_rect"][position]
            return ellipse_mask(face, 1.0, *size), ellipse_mask(lips, MOUTH_SCALE, *size)
        if real is not None and real.landmarks is not None:
            return face_mask(real.landmarks, *size), mouth_mask(real.landmarks, *size)
        return data.labels(position) == HEAD, None

    @property
    def region_source(self) -> str:
        """What the regions of the face and the mouth are drawn from, for the protocol."""
        if self.dataset.landmarks is not None:
            return "the data set's landmarks"
        if "face_rect" in self.dataset.rects and "lip_rect" in self.dataset.rects:
            return "the data set's face_rect and lip_rect"
        return "landmarks read in the real frame, else the head's label"

    def _depth_error(self, frame: SourceFrame, real: FaceReading | None) -> DepthError | None:
        if frame.depth is None or frame.opacity is None:
            return None
        exact = exact_depth(self.dataset, frame.position)
        face, _ = self._regions(frame.position, real)
        if exact is None or face is None:
            return None
        head = self.dataset.labels(frame.position) == HEAD
        rendered = np.where(frame.opacity > 0.5, frame.depth / np.maximum(frame.opacity, 1e-6), np.nan)
        return depth_error(rendered, exact, head, face & head)

    def _slow_scores(self, image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        scores = {}
        if self._flip is not None:
            try:
                scores["flip"] = self._flip(image, truth)
            except Unavailable as reason:
                self._flip, self.reasons["flip"] = None, str(reason)
        if self._lpips is not None:
            scores["lpips"] = self._lpips(image, truth)
        return scores


def longest_run(dataset: Dataset, positions: Sequence[int]) -> list[int]:
    """The longest stretch of positions whose frames follow each other on the clip's clock in one take."""
    best: list[int] = []
    current: list[int] = []
    for p in positions:
        follows = (
            current
            and dataset.segments[p] == dataset.segments[current[-1]]
            and dataset.audio_ids[p] == dataset.audio_ids[current[-1]] + 1
        )
        current = [*current, p] if follows else [p]
        best = current if len(current) > len(best) else best
    return best


def means(frames: Sequence[FrameScore]) -> dict[str, float | None]:
    """Mean of each picture metric over the frames where it is defined; None where it is nowhere."""
    summary: dict[str, float | None] = {}
    for name in PICTURE_METRICS:
        values = [f.scores[name] for f in frames if math.isfinite(f.scores.get(name, math.nan))]
        summary[name] = float(np.mean(values)) if values else None
    return summary
