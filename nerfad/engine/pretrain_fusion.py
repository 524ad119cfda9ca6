"""`nerfad pretrain-fusion`: data sets and an attention in, networks that draw a mouth from sound out; a
second call resumes.

`load_fusion` opens the result for whoever decodes faces or trains E_f and the field with them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import nerfad
from nerfad.config import FusionConfig, fusion_config_of, resumed, to_dict
from nerfad.data.dataset import Dataset, load_dataset
from nerfad.engine import checkpoint
from nerfad.engine.attention_data import as_input
from nerfad.engine.budget import BudgetedRun
from nerfad.engine.checkpoint import Checkpoint
from nerfad.engine.clock import read_clock
from nerfad.engine.devices import checked_device
from nerfad.engine.fusion_data import (
    Masker,
    cut_crops,
    load_fusion_data,
    load_masker,
    neighbours_of,
    person_windows,
)
from nerfad.engine.fusion_trainer import FusionTrainer, sound_vectors
from nerfad.engine.mask_report import spread_rows
from nerfad.engine.progress import RunLog
from nerfad.errors import CheckpointError
from nerfad.io.atomic import atomic_write
from nerfad.models.au_attention import AUAttention
from nerfad.models.audio_net import AudioConfig, AudioNet
from nerfad.models.face_fusion import AUClassifier, FaceFusion
from nerfad.progress import Progress

__all__ = ["Fusion", "FusionConfig", "FusionResult", "load_fusion", "pretrain_fusion"]

KIND = "fusion"
PREVIEW_FACES = 6
_FIXED = (
    "attention",
    "width",
    "size",
    "seed",
    "use_attention",
    "au_loss",
    "reference",
    "target_mask",
    "features",
)


@dataclass(frozen=True)
class FusionResult:
    """How a run ended; `figures` are the losses of its last seconds."""

    run: Path
    step: int
    elapsed_s: float
    units: tuple[str, ...]
    features: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Fusion:
    """A finished run, in evaluation mode.

    Attributes:
        net: the audio net; `nerfad.engine.hearing` computes its inputs from sound.
        networks: E_a, D and the smoothing filter.
        classifier: of action units in Audio-faces.
        masker: makes Audio-faces of crops, as in training.
        references: each person's I_aud-face, uint8 [p, s, s, 3].
        masks: the one A of each person's frames, [p, 1, s, s]; None where each frame has its own.
        meta: the checkpoint's JSON: among others `units`, `size`, `datasets`, `references` (frame ids).
    """

    net: AudioNet
    networks: FaceFusion
    classifier: AUClassifier
    masker: Masker
    references: Tensor
    masks: Tensor | None
    meta: dict[str, Any]

    def knows(self, dataset: Dataset) -> bool:
        """Whether the data set is one that the run was trained on."""
        return dataset.fingerprint() in [entry["fingerprint"] for entry in self.meta["datasets"]]

    def person(self, dataset: Dataset) -> int:
        """Which of the run's people the data set shows.

        Raises:
            CheckpointError: none of them.
        """
        known = [entry["fingerprint"] for entry in self.meta["datasets"]]
        if dataset.fingerprint() not in known:
            raise CheckpointError(
                f"the fusion was not trained on {dataset.root}; train it on this data set, or name one of "
                + ", ".join(entry["root"] for entry in self.meta["datasets"])
                + "."
            )
        return known.index(dataset.fingerprint())

    def reference(self, person: int) -> Tensor:
        """I_aud-face of a person, float32 [1, 3, s, s] in [-1, 1]."""
        return as_input(self.references[person : person + 1])

    def audio_faces(
        self, dataset: Dataset, wanted: np.ndarray, progress: Progress | None = None
    ) -> tuple[np.ndarray, Tensor, Tensor]:
        """Those of the positions `wanted` that have a face and action units, their I_fus-af as in training
        uint8 [n, s, s, 3] and codes [n, k].
        """
        person, size = self.person(dataset), int(self.meta["size"])
        frames, crops, codes = cut_crops(dataset, self.masker.units, wanted, size, progress)
        mask = None if self.masks is None else self.masks[person : person + 1]
        return frames, self.masker(crops, codes, mask), codes

    @torch.no_grad()
    def decode(self, reference: Tensor, windows: Tensor, neighbours: Tensor, batch_size: int = 64) -> Tensor:
        """I^_fus-af of frames, float32 [n, 3, s, s] in (-1, 1).

        Args:
            reference: I_aud-face [1, 3, s, s].
            windows: the audio net's inputs [m, f, w].
            neighbours: rows of `windows` [n, 8] about each frame, in time order.
        """
        return decode_faces(self.net, self.networks, reference, windows, neighbours, batch_size)

    def decode_dataset(self, dataset: Dataset, frames: np.ndarray) -> Tensor:
        """The same for positions of a data set that the run was trained on, from its own sound."""
        windows = person_windows(self.net, dataset)
        near = torch.from_numpy(neighbours_of(dataset.segments, frames))
        return self.decode(self.reference(self.person(dataset)), windows, near)


@torch.no_grad()
def decode_faces(
    net: AudioNet,
    networks: FaceFusion,
    reference: Tensor,
    windows: Tensor,
    neighbours: Tensor,
    batch_size: int = 64,
) -> Tensor:
    """I^_fus-af of frames; see `Fusion.decode`."""
    sounds = torch.cat([sound_vectors(net, part) for part in windows.split(256)])
    return torch.cat([networks(reference, sounds[near]) for near in neighbours.split(batch_size)])


def pretrain_fusion(config: FusionConfig, progress: Progress | None = None) -> FusionResult:
    """Learn to fuse a face with sound, or go on with the run that lies in `config.out`.

    Raises:
        DatasetError: a data set lacks faces, frames or the attention's action units, or their sounds differ
            in kind.
        CheckpointError: `config.out` holds something else, or `config.attention` is no attention.
        BackendError: `config.device` is not there.
        OutputError: a checkpoint cannot be written; the previous one is whole.
        TrainingInterrupted: Ctrl-C; the state is saved.
    """
    if config.threads > 0:
        torch.set_num_threads(config.threads)
    checked_device(config.device)
    saved = checkpoint.load(config.out) if checkpoint.exists(config.out) else None
    if saved is not None:
        config = _resumed_config(config, saved)
    return FusionRun(config, saved, progress).go()


def load_fusion(run: str | Path) -> Fusion:
    """Open a run.

    Raises:
        CheckpointError: the folder holds no checkpoint, or one of another kind.
    """
    run = Path(run)
    if not checkpoint.exists(run):
        raise CheckpointError(
            f"{run}: holds no fusion; make it with `nerfad pretrain-fusion DATASET --attention RUN "
            f"--out {run}`."
        )
    saved = checkpoint.load(run)
    _check_kind(saved)
    config, meta = fusion_config_of(saved.meta["config"]), saved.meta
    networks = FaceFusion(config.size, config.width)
    classifier = AUClassifier(len(meta["units"]), config.size, config.classifier_width)
    saved.restore(networks, "fusion")
    saved.restore(classifier, "classifier")
    return Fusion(
        restored_net(saved),
        networks.eval(),
        classifier.eval(),
        _restored_masker(saved, config),
        saved.tensors["references"],
        saved.tensors.get("masks"),
        meta,
    )


class FusionRun(BudgetedRun):
    """A run from its first second to its last, or from one call to the next."""

    config: FusionConfig
    trainer: FusionTrainer
    preview_at_end = True

    def __init__(self, config: FusionConfig, saved: Checkpoint | None, progress: Progress | None) -> None:
        self.config = config
        meta = saved.meta if saved else {}
        self.log = RunLog(config.out, progress, meta.get("log"), unit="faces")
        datasets = [load_dataset(path) for path in config.datasets]
        self.identities = [{"root": str(d.root.resolve()), "fingerprint": d.fingerprint()} for d in datasets]
        if saved is None:
            self.masker, self.attention = load_masker(config, datasets)
            net = None
        else:
            # A folder may have moved; its fingerprint has not.
            known = [entry["fingerprint"] for entry in meta["datasets"]]
            if known != [d.fingerprint() for d in datasets]:
                raise CheckpointError(
                    f"{config.out}: was trained on other data sets; choose another --out or give those it "
                    "was trained on."
                )
            self.masker, self.attention = _restored_masker(saved, config), meta["attention"]
            net = restored_net(saved)
        self.data, net = load_fusion_data(config, self.masker, net, progress)
        # The clock counts training, the classifier's included, but not cutting faces and listening.
        self.started = read_clock(config.clock) - float(meta.get("elapsed_s", 0.0))
        self.trainer = FusionTrainer(config, self.data, net)
        if saved is None:
            self.trainer.train_classifier(progress)
        else:
            saved.restore(self.trainer.fusion, "fusion")
            saved.restore(self.trainer.classifier, "classifier")
            self.trainer.load_state(int(meta["step"]), saved.tensors)

    def go(self) -> FusionResult:
        """Step until the budget is spent."""
        self.step_until_spent()
        last = self.log.entries[-1] if self.log.entries else {}
        return FusionResult(
            self.config.out,
            self.trainer.n_steps,
            self.elapsed_s,
            self.data.units,
            self.trainer.net.config.features,
            {name: last[name] for name in ("reconstruction", "bce", "dice") if name in last},
        )

    def n_items(self) -> int:
        """Faces of the last step."""
        return self.config.batch_size

    def preview(self) -> None:
        """Save a picture: reference, decoded face and target of a few training frames, a row for each."""
        rows = self.trainer.preview(torch.from_numpy(spread_rows(self.data.people, PREVIEW_FACES)))
        picture = torch.cat(list(rows), 1).permute(1, 2, 0)
        values = ((picture + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
        self.log.picture(self.trainer.n_steps, values)

    def save(self) -> None:
        """Write the checkpoint and fusion.json."""
        net = self.trainer.net
        meta: dict[str, Any] = {
            "kind": KIND,
            "step": self.trainer.n_steps,
            "elapsed_s": self.elapsed_s,
            "config": to_dict(self.config),
            "units": list(self.data.units),
            "unit_rates": [round(rate, 4) for rate in self.data.rates.tolist()],
            "size": self.config.size,
            "attention": self.attention,
            "audio": {"config": dataclasses.asdict(net.config), "shape": list(net.shape)},
            "datasets": self.identities,
            "references": list(self.data.reference_ids),
            "n_train": [end - start for start, end in self.data.people],
            "versions": {"nerfad": nerfad.__version__, "torch": torch.__version__},
            "log": self.log.entries,
        }
        tensors = self.trainer.state()
        tensors["references"] = self.data.faces[list(self.data.references)]
        if self.data.masks is not None:
            tensors["masks"] = self.data.masks
        if self.masker.generator is not None:
            generator = self.masker.generator.state_dict()
            tensors |= {f"attention.{key}": value for key, value in generator.items()}
        checkpoint.save(self.config.out, meta, tensors)
        with atomic_write(self.config.out / "fusion.json", "w") as file:
            json.dump(meta, file, indent=1)


def restored_net(saved: Checkpoint) -> AudioNet:
    """The audio net of a checkpoint of any kind, in evaluation mode."""
    audio = saved.meta["audio"]
    n_features, n_rows, n_codes = audio["shape"]
    net = AudioNet(n_features, n_rows, n_codes, AudioConfig(**audio["config"]))
    saved.restore(net, "audio")
    return net.eval()


def _restored_masker(saved: Checkpoint, config: FusionConfig) -> Masker:
    known, units = saved.meta["attention"], tuple(saved.meta["units"])
    if not config.use_attention:
        return Masker(units)
    generator = AUAttention(len(units), known["width"], known["n_blocks"])
    saved.restore(generator, "attention")
    return Masker(units, generator.eval(), known["size"], config.target_mask)


def _check_kind(saved: Checkpoint) -> None:
    if saved.meta.get("kind") != KIND:
        raise CheckpointError(
            f"{saved.run}: is no run of `nerfad pretrain-fusion`; choose the folder of one, or another --out."
        )


def _resumed_config(config: FusionConfig, saved: Checkpoint) -> FusionConfig:
    """The run's own settings, with the new call's budget; contradictions are refused."""
    _check_kind(saved)
    old = fusion_config_of(saved.meta["config"])
    for name in _FIXED:
        if getattr(config, name) != getattr(old, name):
            raise CheckpointError(
                f"{config.out}: was trained with {name} {getattr(old, name)}, not {getattr(config, name)}; "
                "choose another --out."
            )
    return resumed(old, config, "datasets", "out", "device", "threads", "preview_every_s", "save_every_s")
