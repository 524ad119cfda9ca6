"""How a call of a training begins, and what a second one may ask for."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from nerfad.config import TrainConfig, resumed, train_config_of
from nerfad.engine import checkpoint
from nerfad.engine.checkpoint import Checkpoint
from nerfad.engine.devices import checked_device
from nerfad.errors import CheckpointError
from nerfad.io.atomic import check_folder_target

_FIXED = (
    *("seed", "size", "preset", "lookahead_s", "fusion", "codes", "base", "clip_s"),
    *("field", "paper_field", "identity", "torso", "occupancy", "optim"),
)
"""What it may not change; where it says nothing, the first call's settings hold."""
_KEPT = ("dataset", "out", "report_at", "threads", "device", "preview_every_s", "save_every_s")


def begun(config: TrainConfig) -> Checkpoint | None:
    """Set threads and seed for a run; the checkpoint of an earlier call.

    Raises:
        BackendError: `config.device` is not there.
        CheckpointError: the checkpoint is damaged.
        OutputError: nothing can be written to `config.out`.
    """
    checked_device(config.device)
    check_folder_target(config.out)
    if config.threads > 0:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    return checkpoint.load(config.out) if checkpoint.exists(config.out) else None


def resumed_train_config(config: TrainConfig, saved: Checkpoint) -> TrainConfig:
    """The run's own settings, with the new call's budget; contradictions are refused."""
    old = train_config_of(saved.meta["config"])
    usual = TrainConfig(config.dataset, config.out)
    for name in _FIXED:
        asked, known = getattr(config, name), getattr(old, name)
        if asked not in (getattr(usual, name), known):
            name, asked, known = difference(name, asked, known)
            raise CheckpointError(
                f"{config.out}: was trained with {name} {known}, not {asked}; choose another --out."
            )
    return resumed(old, config, *_KEPT)


def difference(name: str, asked: Any, known: Any) -> tuple[str, Any, Any]:
    """The same, or within a group of settings the first two that differ, with the setting's full name."""
    if not dataclasses.is_dataclass(asked):
        return name, asked, known
    names = [item.name for item in dataclasses.fields(asked)]
    own = next(key for key in names if getattr(asked, key) != getattr(known, key))
    return f"{name}.{own}", getattr(asked, own), getattr(known, own)
