"""`nerfad train-base`: one field for several people, to be fine-tuned on somebody new (section 3).

Steps go round the people. Field, identity encoder and E_f are shared; occupancy grid, torso, reference frames
and lattice are each person's own. The lattices of all are baked together, whenever the encoder has moved.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import nerfad
from nerfad.config import ConfigError, TrainConfig, to_dict
from nerfad.data.dataset import Dataset, load_dataset
from nerfad.engine import checkpoint
from nerfad.engine.base import KIND, known_people, own_tensors, share, shared_modules
from nerfad.engine.budget import BudgetedRun
from nerfad.engine.build import carve, fresh_model, scene_of
from nerfad.engine.checkpoint import Checkpoint
from nerfad.engine.clock import read_clock
from nerfad.engine.conditions import FusedConditions, fused_conditions
from nerfad.engine.lattices import Lattices
from nerfad.engine.optim import Optimiser
from nerfad.engine.pretrain_fusion import load_fusion
from nerfad.engine.progress import RunLog, peak_memory_mb
from nerfad.engine.sampling import FrameStore
from nerfad.engine.settings import begun, resumed_train_config
from nerfad.engine.train import TrainResult, preview_of
from nerfad.engine.trainer import Scene, Trainer
from nerfad.engine.voice import FusedVoice
from nerfad.errors import CheckpointError
from nerfad.io.atomic import atomic_write
from nerfad.models.avatar import AvatarModel
from nerfad.progress import Progress


def train_base(
    datasets: Sequence[str | Path], config: TrainConfig, progress: Progress | None = None
) -> TrainResult:
    """Train a base over several people, or go on with the one that lies in `config.out`.

    Args:
        datasets: one person each, all of them known to `config.fusion`.
        config: as for `nerfad.engine.train.train`; `dataset` is the first of them.

    Raises:
        ConfigError: fewer than two people, or no fusion.
        DatasetError: a data set lacks something.
        CheckpointError: `config.out` holds something else, or the fusion does not know somebody.
        BackendError: `config.device` is not there.
        OutputError: a checkpoint cannot be written; the previous one is whole.
        TrainingInterrupted: Ctrl-C; the state is saved.
    """
    started = read_clock(config.clock)
    saved = begun(config)
    if saved is not None:
        saved.require_kind(KIND)
        config = resumed_train_config(config, saved)
    people = [load_dataset(path, config.size) for path in datasets]
    _check_people(people, config, saved)
    return BaseRun(people, config, saved, progress, started).go()


Part = tuple[AvatarModel, Scene, FrameStore, FusedConditions]
"""What a trainer of one person is made of."""


class PeopleTrainer:
    """Steps of several people in turn.

    Args:
        people: each with the same optimiser and lattices.
    """

    def __init__(self, people: list[Trainer]) -> None:
        self.people = people
        self.n_steps = 0

    @property
    def current(self) -> int:
        """Whose step is next."""
        return self.n_steps % len(self.people)

    def step(self, share: float) -> dict[str, float]:
        """One step of the next person."""
        figures = self.people[self.current].step(share)
        self.n_steps += 1
        return figures


class BaseRun(BudgetedRun):
    """A run from its first second to its last, or from one call to the next."""

    config: TrainConfig
    trainer: PeopleTrainer
    preview_at_once = True

    def __init__(
        self,
        datasets: list[Dataset],
        config: TrainConfig,
        saved: Checkpoint | None,
        progress: Progress | None,
        started: float,
    ) -> None:
        self.config, self.datasets = config, datasets
        meta = saved.meta if saved else {}
        self.started = started - float(meta.get("elapsed_s", 0.0))
        self.log = RunLog(config.out, progress, meta.get("log"))
        assert config.fusion is not None
        fusion = load_fusion(config.fusion)
        self.encoder = FusedVoice.of(fusion, 0, datasets[0].fps).encoder
        self.references: list[Any] = []
        self.models: list[AvatarModel] = []
        parts: list[Part] = []
        for dataset in datasets:
            self.log.stage(0.0, f"{dataset.name}: listening and reading the pictures")
            voice = FusedVoice.of(fusion, fusion.person(dataset), dataset.fps)
            voice = dataclasses.replace(voice, encoder=self.encoder)
            frames, _ = dataset.split(voice.lookback_s, voice.lookahead_s)
            conditions = fused_conditions(voice, dataset, frames, config.device)
            store = FrameStore(dataset, frames, device=config.device)
            model, known = fresh_model(config, dataset, frames, conditions.n_codes, fusion.masker, voice.mask)
            if self.models:
                share(model, self.models[0])
            self.models.append(model)
            self.references.append(known)
            scene = scene_of(model, dataset, frames)
            if saved is None:
                carve(model.head, store, scene)
            parts.append((model, scene, store, conditions))
        self.trainer = self._make_trainer(parts, saved)

    def _make_trainer(self, parts: list[Part], saved: Checkpoint | None) -> PeopleTrainer:
        config = self.config
        if saved is not None:
            self._restore(saved)
        optimiser = Optimiser(self._parameters(), config.optim)
        lattices = Lattices([model.head for model in self.models], config.identity.rebake_every)
        people = [
            Trainer(config, *part, config.seed + k, (optimiser, lattices)) for k, part in enumerate(parts)
        ]
        self.optimiser, self.lattices = optimiser, lattices
        trainer = PeopleTrainer(people)
        if saved is None:
            lattices.bake()
            return trainer
        trainer.n_steps = int(saved.meta["step"])
        optimiser.load_state(saved.part("optim"))
        lattices.load_state(trainer.n_steps, saved.part("lattices"))
        for k, person in enumerate(people):
            rounds, rest = divmod(trainer.n_steps, len(people))
            person.load_own_state(rounds + (k < rest), saved.part(f"person{k}.loop"))
        return trainer

    def _restore(self, saved: Checkpoint) -> None:
        for name, module in shared_modules(self.models[0]).items():
            saved.restore(module, f"shared.{name}")
        saved.restore(self.encoder, "face_encoder")
        for k, model in enumerate(self.models):
            state = saved.part(f"person{k}.model")
            if state.keys() != own_tensors(model).keys():
                raise CheckpointError(
                    f"{saved.run}: was laid out by another version of nerfad; train again into another --out."
                )
            model.load_state_dict(state, strict=False)

    def _parameters(self) -> dict[str, Tensor]:
        """Everything that is learnt, each parameter once."""
        found: dict[str, Tensor] = {}
        for name, module in shared_modules(self.models[0]).items():
            found |= {f"shared.{name}.{key}": value for key, value in module.named_parameters()}
        shared = {id(value) for value in found.values()}
        for k, model in enumerate(self.models):
            own = {key: value for key, value in model.named_parameters() if id(value) not in shared}
            found |= {f"person{k}.{key}": value for key, value in own.items()}
        return {**found, **{f"face_encoder.{key}": value for key, value in self.encoder.named_parameters()}}

    def go(self) -> TrainResult:
        """Step until the budget is spent."""
        self.step_until_spent()
        last = self.log.entries[-1] if self.log.entries else {}
        return TrainResult(
            self.config.out,
            self.trainer.n_steps,
            self.elapsed_s,
            last.get("psnr", float("nan")),
            self.log.median("rays_per_second"),
            peak_memory_mb(),
        )

    def n_items(self) -> int:
        """Rays of the last step."""
        return self.trainer.people[(self.trainer.n_steps - 1) % len(self.models)].last_n_rays

    def preview(self) -> None:
        """Draw a training frame of the next person, beside the truth."""
        truth, image = preview_of(self.trainer.people[self.trainer.current])
        self.log.preview(self.trainer.n_steps, truth, image)

    def save(self) -> None:
        """Write the checkpoint and train.json."""
        people = [
            {
                "root": str(dataset.root.resolve()),
                "fingerprint": dataset.fingerprint(),
                "n_train": len(person.store),
                "identity": known,
            }
            for dataset, person, known in zip(
                self.datasets, self.trainer.people, self.references, strict=True
            )
        ]
        meta: dict[str, Any] = {
            "kind": KIND,
            "step": self.trainer.n_steps,
            "elapsed_s": self.elapsed_s,
            "config": to_dict(self.config),
            "n_codes": self.models[0].n_codes,
            "datasets": people,
            "versions": {"nerfad": nerfad.__version__, "torch": torch.__version__},
            "log": self.log.entries,
        }
        checkpoint.save(self.config.out, meta, self._tensors())
        summary = {**meta, "peak_memory_mb": round(peak_memory_mb(), 1)}
        with atomic_write(self.config.out / "train.json", "w") as file:
            json.dump(summary, file, indent=1)

    def _tensors(self) -> dict[str, Tensor]:
        groups = {f"shared.{name}": m.state_dict() for name, m in shared_modules(self.models[0]).items()}
        groups["face_encoder"] = self.encoder.state_dict()
        groups["optim"], groups["lattices"] = self.optimiser.state(), self.lattices.state()
        for k, person in enumerate(self.trainer.people):
            groups[f"person{k}.model"] = own_tensors(person.model)
            groups[f"person{k}.loop"] = person.own_state()
        return {f"{group}.{key}": value for group, part in groups.items() for key, value in part.items()}


def _check_people(people: list[Dataset], config: TrainConfig, saved: Checkpoint | None) -> None:
    if config.fusion is None or not config.uses_identity:
        raise ConfigError("a base is trained with --fusion RUN and with identity features.")
    known = [dataset.fingerprint() for dataset in people]
    if saved is not None and known != known_people(saved.meta):
        raise CheckpointError(
            f"{config.out}: was trained on other data sets; choose another --out or give those it was "
            "trained on, in their order."
        )
    repeated = [str(p.root) for k, p in enumerate(people) if known[k] in known[:k]]
    if repeated:
        raise ConfigError(f"{repeated[0]}: is given twice; a base is trained on different people.")
    if len(people) < 2:
        raise ConfigError(
            f"{people[0].root}: one person alone is no base, from which nothing about others can be learnt; "
            "give at least two data sets, or train this one with `nerfad train`."
        )
