"""What the fusion learns from: Audio-faces of the training frames, their action units, and their sound."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nerfad.config import FusionConfig
from nerfad.data.dataset import Dataset, load_dataset
from nerfad.data.face_crops import FaceCrops
from nerfad.engine.attention_data import MIN_FRAMES, as_input, check_length, codes_of, live_units
from nerfad.engine.hearing import dataset_windows, set_level
from nerfad.engine.pretrain_attention import load_attention
from nerfad.engine.train_audio import feature_sets, prepare_encoder
from nerfad.errors import DatasetError
from nerfad.metrics.action_units import SPEECH_UNITS, presence_thresholds
from nerfad.models.au_attention import AUAttention, audio_face, masks_at
from nerfad.models.audio_net import AudioConfig, AudioNet
from nerfad.models.face_fusion import AUDIO_SIZE, NEIGHBOURS_AFTER, NEIGHBOURS_BEFORE
from nerfad.progress import Progress, report

_MASK_BATCH = 32


@dataclass(frozen=True)
class Masker:
    """Makes Audio-faces of crops.

    Attributes:
        units: names of the k action units, in the order of the codes.
        generator: G_M; None leaves the whole face ("w/o att-d").
        size: side of the crops that G_M was trained on.
        target_mask: which A a frame is masked with, as in `FusionConfig`.
    """

    units: tuple[str, ...]
    generator: AUAttention | None = None
    size: int = 0
    target_mask: str = "own"

    @torch.no_grad()
    def person_mask(self, pictures: Tensor, codes: Tensor) -> Tensor | None:
        """The one A [1, 1, s, s] of all frames of a person, from the training frames; None where there is
        no such thing: every frame has its own, or none has any.

        Args:
            pictures, codes: of the training frames, as in `__call__`.
        """
        if self.generator is None or self.target_mask == "own":
            return None
        if self.target_mask == "reference":
            usual = usual_frame(codes)
            pictures, codes = pictures[usual : usual + 1], codes[usual : usual + 1]
        total = torch.zeros(1, 1, *pictures.shape[1:3])
        for part, own in _batches(pictures, codes):
            total += masks_at(self.generator, as_input(part), own, self.size).sum(0)
        return total / len(pictures)

    @torch.no_grad()
    def __call__(self, pictures: Tensor, codes: Tensor, mask: Tensor | None = None) -> Tensor:
        """(1 - A) * I_crop: uint8 [n, s, s, 3], 127 or 128 where A is 1.

        Args:
            pictures: uint8 [n, s, s, 3].
            codes: float32 [n, k] in [0, 1].
            mask: A of all of them, as `person_mask` gives it; None: each by its own code.
        """
        if self.generator is None:
            return pictures
        parts = []
        for part, own in _batches(pictures, codes):
            crops = as_input(part)
            used = masks_at(self.generator, crops, own, self.size) if mask is None else mask
            masked = audio_face(used, crops)
            parts.append(((masked + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1))
        return torch.cat(parts).contiguous()


def _batches(pictures: Tensor, codes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(pictures.split(_MASK_BATCH), codes.split(_MASK_BATCH), strict=True)


class FusionBatch(NamedTuple):
    """One step's frames.

    references: I_aud-face [n or 1, 3, s, s] in [-1, 1].
    targets: I_fus-af [n, 3, s, s] in [-1, 1].
    windows: of sound, [n, f, w], or [n, 8, f, w] of neighbouring frames.
    labels: x [n, k], 0 or 1.
    """

    references: Tensor
    targets: Tensor
    windows: Tensor
    labels: Tensor


@dataclass(frozen=True)
class FusionData:
    """Training frames of one or several people.

    Attributes:
        units: names of the k action units.
        faces: I_fus-af of every frame, uint8 [n, s, s, 3].
        codes: intensities float32 [n, k] in [0, 1].
        labels: presence float32 [n, k], 0 or 1.
        windows: the audio net's inputs float32 [m, f, w], of these frames and their neighbours.
        neighbours: rows of `windows`, int64 [n, 8], of each frame's neighbours in time order.
        people: rows [start, end) of each person.
        masks: the one A of each person's frames, [p, 1, s, s]; None where each frame has its own.
        references: each person's reference frame, a row.
        reference_ids: the same as frame ids of the data sets.
    """

    units: tuple[str, ...]
    faces: Tensor
    codes: Tensor
    labels: Tensor
    windows: Tensor
    neighbours: Tensor
    people: tuple[tuple[int, int], ...]
    masks: Tensor | None
    references: tuple[int, ...]
    reference_ids: tuple[int, ...]

    @property
    def rates(self) -> Tensor:
        """r_i, the occurrence rate of every unit over the training frames, float32 [k]."""
        return self.labels.mean(0)

    def batch(self, config: FusionConfig, smooth: bool, random: torch.Generator) -> FusionBatch:
        """Random frames with reference frames that are never the frames themselves.

        Args:
            smooth: give the windows of all eight neighbours.
        """
        n = config.batch_size
        chosen = torch.randint(len(self.people), (n,), generator=random)
        start, end = torch.tensor(self.people)[chosen].unbind(1)
        share = torch.rand(n, generator=random)
        if config.reference == "fixed":
            references = torch.tensor(self.references)[chosen]
            rows = _others(references, start, end, 1, share)
            if len(self.references) == 1:
                references = references[:1]
        else:
            rows = start + (torch.rand(n, generator=random) * (end - start)).long()
            # Frames next to each other look alike: a copy of such a reference would do.
            gap = int(min(MIN_FRAMES // 2, *(b - a for a, b in self.people)))
            references = _others(rows, start, end, gap, share)
        near = self.neighbours[rows]
        windows = self.windows[near if smooth else near[:, NEIGHBOURS_BEFORE]]
        return FusionBatch(
            as_input(self.faces[references]), as_input(self.faces[rows]), windows, self.labels[rows]
        )


def _others(rows: Tensor, start: Tensor, end: Tensor, gap: int, share: Tensor) -> Tensor:
    """For every row another of the same person, at least `gap` away, the person's rows being a ring."""
    n = end - start
    offsets = gap + (share * (n - 2 * gap + 1)).long().clamp_max(n - 2 * gap)
    return start + (rows - start + offsets) % n


def sound_config(features: str) -> AudioConfig:
    """What the audio net hears, and its sizes."""
    return AudioConfig(encoder="conv", n_members=1, features=features)


def fusion_split(dataset: Dataset, audio: AudioConfig) -> tuple[np.ndarray, np.ndarray]:
    """Training and test positions: also through its neighbours, no training frame hears what a test frame
    hears.
    """
    before, after = NEIGHBOURS_BEFORE / dataset.fps, NEIGHBOURS_AFTER / dataset.fps
    return dataset.split(audio.lookback_s + before, audio.lookahead_s + after)


def neighbours_of(segments: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Positions int64 [n, 8] of the frames before and after each; at the ends of a take, its last frame.

    Args:
        segments: index of the take of every frame of a clip, in time order.
        frames: [n] positions in the clip.
    """
    cuts = np.nonzero(np.diff(segments))[0] + 1
    start, end = np.array([0, *cuts]), np.array([*cuts, len(segments)])
    take = np.searchsorted(start, frames, side="right") - 1
    near = frames[:, None] + np.arange(-NEIGHBOURS_BEFORE, NEIGHBOURS_AFTER + 1)
    return np.clip(near, start[take][:, None], end[take][:, None] - 1)


def person_windows(net: AudioNet, dataset: Dataset) -> Tensor:
    """The audio net's inputs float32 [n, f, w] of every frame, heard at this recording's own level."""
    set_level(net, dataset, fusion_split(dataset, net.config)[0])
    return dataset_windows(dataset, net)


def load_masker(config: FusionConfig, datasets: list[Dataset]) -> tuple[Masker, dict[str, Any]]:
    """The masks of `config.attention`, and what a checkpoint says of them.

    Raises:
        CheckpointError: the run holds no attention.
        DatasetError: a data set lacks a unit that it was trained with.
    """
    if config.attention is None:
        units, left_out = live_units(datasets, SPEECH_UNITS)
        return Masker(units), {"units": list(units), "left_out": left_out}
    generator, meta = load_attention(config.attention)
    units = tuple(meta["units"])
    for dataset in datasets:
        check_units(dataset, units, config.attention)
    known = {"units": list(units), "left_out": meta["left_out"], "size": meta["size"]}
    known |= {key: meta["config"][key] for key in ("width", "n_blocks")}
    used = generator if config.use_attention else None
    return Masker(units, used, int(meta["size"]), config.target_mask), known


def check_units(dataset: Dataset, units: tuple[str, ...], run: Path) -> None:
    """Raise DatasetError unless the data set has all action units that `run` was trained with."""
    missing = [name for name in units if dataset.aus is None or name not in dataset.au_names]
    if missing:
        raise DatasetError(
            f"{dataset.root}: lacks {', '.join(missing)}, which {run} was trained with; write its table of "
            "action units again, or train the attention on this data set."
        )


def cut_crops(
    dataset: Dataset,
    units: tuple[str, ...],
    wanted: np.ndarray,
    size: int,
    progress: Progress | None = None,
) -> tuple[np.ndarray, Tensor, Tensor]:
    """Those of the positions `wanted` that have a face and action units, their crops uint8 [n, s, s, 3] and
    codes [n, k].
    """
    crops, codes = FaceCrops(dataset, size), codes_of(dataset, units)
    frames = np.array([i for i in wanted if crops.has_face(i) and np.isfinite(codes[i]).all()], np.int64)
    pictures = np.zeros((len(frames), size, size, 3), np.uint8)
    for k, i in enumerate(frames):
        if k % 50 == 0:
            report(progress, 0.0, f"cutting out faces ({k / len(frames):.0%})")
        pictures[k] = crops.crop(i)
    return frames, torch.from_numpy(pictures), torch.from_numpy(codes[frames])


def presence(codes: Tensor) -> Tensor:
    """Labels of eqs. 4 and 5 of one person's training codes [n, k]: float32 [n, k], 0 or 1."""
    return (codes > torch.from_numpy(presence_thresholds(codes.numpy())[0])).float()


def usual_face(
    dataset: Dataset, masker: Masker, size: int, audio: AudioConfig
) -> tuple[Tensor, Tensor | None]:
    """I_aud-face of the training frame whose code is the most usual, uint8 [1, s, s, 3], and the one A of
    all training frames as `Masker.person_mask` gives it.

    Raises:
        DatasetError: the data set lacks faces, frames or action units.
    """
    frames, crops, codes = cut_crops(dataset, masker.units, fusion_split(dataset, audio)[0], size)
    check_length(dataset, len(frames))
    usual = usual_frame(codes)
    at = slice(usual, usual + 1)
    mask = masker.person_mask(crops, codes)
    return masker(crops[at], codes[at], mask), mask


def load_fusion_data(
    config: FusionConfig, masker: Masker, net: AudioNet | None = None, progress: Progress | None = None
) -> tuple[FusionData, AudioNet]:
    """Cut the training faces of all people and compute what their sound gives.

    Args:
        net: an earlier call's audio net, whose inputs are to be computed; None makes one.

    Raises:
        DatasetError: a data set lacks faces or frames, or the sound of one is of another kind.
    """
    datasets = [load_dataset(path) for path in config.datasets]
    fresh = net is None
    audio = sound_config(config.features) if net is None else net.config
    if fresh:
        audio = replace(audio, features=feature_sets(datasets[0], audio)[0])
    faces, codes, labels, windows, neighbours = [], [], [], [], []
    people, masks, references, reference_ids = [], [], [], []
    n_rows = n_windows = 0
    for dataset in datasets:
        train, _ = fusion_split(dataset, audio)
        frames, crops, own_codes = cut_crops(dataset, masker.units, train, config.size, progress)
        check_length(dataset, len(frames))
        report(progress, 0.0, "masking faces")
        mask = masker.person_mask(crops, own_codes)
        report(progress, 0.0, "listening")
        if net is None:
            with seeded(config.seed):
                net, heard = prepare_encoder(dataset, frames, AUDIO_SIZE, audio)
        else:
            check_sound(net, dataset)
            heard = person_windows(net, dataset)
        near = neighbours_of(dataset.segments, frames)
        faces.append(masker(crops, own_codes, mask))
        masks += [] if mask is None else [mask]
        codes.append(own_codes)
        labels.append(presence(own_codes))
        windows.append(heard[: near.max() + 1])
        neighbours.append(torch.from_numpy(near) + n_windows)
        people.append((n_rows, n_rows + len(frames)))
        usual = usual_frame(own_codes)
        references.append(n_rows + usual)
        reference_ids.append(int(dataset.frame_ids[frames[usual]]))
        n_rows, n_windows = n_rows + len(frames), n_windows + len(windows[-1])
    assert net is not None
    if fresh:
        heard = torch.cat(windows)
        net.feature_mean.copy_(heard.mean((0, 2))[:, None])
        net.feature_std.copy_(heard.std((0, 2)).clamp_min(1e-3)[:, None])
    data = FusionData(
        masker.units,
        torch.cat(faces),
        torch.cat(codes),
        torch.cat(labels),
        torch.cat(windows),
        torch.cat(neighbours),
        tuple(people),
        torch.cat(masks) if masks else None,
        tuple(references),
        tuple(reference_ids),
    )
    return data, net


@contextlib.contextmanager
def seeded(seed: int, number: int = 0) -> Iterator[None]:
    """Within, torch's chance depends on the two numbers alone; outside it goes on as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 1_000_003 + number)
        yield


def usual_frame(codes: Tensor) -> int:
    """The row whose code is nearest to the median: a mouth neither shut nor wide open."""
    return int((codes - codes.median(0).values).square().sum(1).argmin())


def check_sound(net: AudioNet, dataset: Dataset) -> None:
    """Raise DatasetError unless `net` can hear the data set's sound."""
    given = dataset.audio_kind != "mel"
    same = (net.config.features == "windows") == given
    if same and given:
        same = dataset.audio_features.shape[1:] == (net.shape[1], net.shape[0])
    if not same:
        raise DatasetError(
            f"{dataset.root}: its sound features ({dataset.audio_kind}) are of another kind than those the "
            "audio net hears; use data sets whose features come from the same extractor."
        )
