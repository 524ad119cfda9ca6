"""What AU-Attention learns from: face crops of the training frames and their action units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nerfad.config import AttentionConfig
from nerfad.data.dataset import Dataset, load_dataset
from nerfad.data.face_crops import FaceCrops
from nerfad.errors import DatasetError
from nerfad.metrics.action_units import dead_units
from nerfad.models.audio_net import AudioConfig
from nerfad.progress import Progress, report

MIN_FRAMES = 16
"""Fewer training frames of a person than this are refused."""


class AttentionBatch(NamedTuple):
    """Crops I_crop [b, 3, s, s] in [-1, 1], their codes f_AU_O and target codes f_AU_t [b, k] in [0, 1]."""

    crops: Tensor
    codes: Tensor
    targets: Tensor


@dataclass(frozen=True)
class AttentionData:
    """Training frames of one or several people.

    Attributes:
        units: names of the k action units that every person shows.
        left_out: why the others are not there.
        pictures: uint8 [n, s, s, 3].
        codes: float32 [n, k] in [0, 1].
        mouths: bool [n, s, s], the box of mouth and jaw: for reports only, never for training.
        people: rows [start, end) of each person.
    """

    units: tuple[str, ...]
    left_out: dict[str, str]
    pictures: Tensor
    codes: Tensor
    mouths: Tensor
    people: tuple[tuple[int, int], ...]

    def batch(self, config: AttentionConfig, generator: torch.Generator) -> AttentionBatch:
        """Random crops, half of them mirrored, each with the code of another frame of the same person as
        its target, plus noise.
        """
        n = config.batch_size
        start, end = torch.tensor(self.people)[
            torch.randint(len(self.people), (n,), generator=generator)
        ].unbind(1)
        rows, others = (start + (torch.rand(n, generator=generator) * (end - start)).long() for _ in range(2))
        noise = config.code_noise * (2 * torch.rand(n, len(self.units), generator=generator) - 1)
        crops = as_input(self.pictures[rows])
        mirrored = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
        crops = torch.where(mirrored, crops.flip(3), crops)
        return AttentionBatch(crops, self.codes[rows], (self.codes[others] + noise).clamp(0, 1))


def as_input(pictures: Tensor) -> Tensor:
    """uint8 [n, s, s, 3] to float32 [n, 3, s, s] in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def training_frames(dataset: Dataset) -> np.ndarray:
    """Positions of the frames that may be learnt from, as every other stage of training has them."""
    audio = AudioConfig()
    return dataset.split(audio.lookback_s, audio.lookahead_s)[0]


def live_units(datasets: list[Dataset], wanted: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The units that every data set has and in which every person moves, and why not the others.

    Raises:
        DatasetError: none is left, or a data set has no action units at all, or too few frames.
    """
    left_out: dict[str, str] = {}
    for dataset in datasets:
        if dataset.aus is None:
            raise DatasetError(
                f"{dataset.root}: has no action units; put OpenFace's au.csv there, or preprocess the video "
                "with `nerfad preprocess`, which writes au_proxy.csv."
            )
        frames = training_frames(dataset)
        check_length(dataset, len(frames))
        there = tuple(name for name in wanted if name in dataset.au_names)
        left_out |= {name: f"{dataset.root} does not have it" for name in wanted if name not in there}
        values = codes_of(dataset, there)[frames]
        left_out |= {name: f"{dataset.root}: {reason}" for name, reason in dead_units(values, there).items()}
    units = tuple(name for name in wanted if name not in left_out)
    if not units:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise DatasetError(f"no action unit is left to learn from ({reasons}); check the tables of units.")
    return units, left_out


def check_length(dataset: Dataset, n_frames: int) -> None:
    """Raise DatasetError where `n_frames` training frames are too few."""
    if n_frames < MIN_FRAMES:
        raise DatasetError(
            f"{dataset.root}: has {n_frames} training frames with a face and action units, at least "
            f"{MIN_FRAMES} are needed; record a longer clip."
        )


def codes_of(dataset: Dataset, units: tuple[str, ...]) -> np.ndarray:
    """Intensities float32 [n, k] of units by name."""
    assert dataset.aus is not None
    return np.asarray(dataset.aus[:, [list(dataset.au_names).index(name) for name in units]], np.float32)


def load_attention_data(config: AttentionConfig, progress: Progress | None = None) -> AttentionData:
    """Cut the crops of all training frames.

    Raises:
        DatasetError: a data set lacks faces, action units or frames; the sentence says which.
    """
    datasets = [load_dataset(path) for path in config.datasets]
    units, left_out = live_units(datasets, config.units)
    pictures, codes, mouths, people, n_rows = [], [], [], [], 0
    shuffle = np.random.default_rng([config.seed, 7])
    for k, dataset in enumerate(datasets):
        crops = FaceCrops(dataset, config.size)
        labels = codes_of(dataset, units)
        frames = [i for i in training_frames(dataset) if crops.has_face(i) and np.isfinite(labels[i]).all()]
        check_length(dataset, len(frames))
        for position, i in enumerate(frames):
            if position % 50 == 0:
                done = (k + position / len(frames)) / len(datasets)
                report(progress, 0.0, f"cutting out faces ({done:.0%})")
            pictures.append(crops.crop(i))
            mouths.append(crops.mouth_mask(i))
        own = labels[frames]
        codes.append(own[shuffle.permutation(len(own))] if config.shuffle_aus else own)
        people.append((n_rows, n_rows + len(frames)))
        n_rows += len(frames)
    return AttentionData(
        units,
        left_out,
        torch.from_numpy(np.stack(pictures)),
        torch.from_numpy(np.concatenate(codes)),
        torch.from_numpy(np.stack(mouths)),
        tuple(people),
    )
