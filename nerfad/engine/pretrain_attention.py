"""`nerfad pretrain-attention`: data sets in, a mask generator out; a second call resumes.

`load_attention` opens the result for whoever needs masks: only the generator of the mask is of use afterwards
(section 2.1).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import nerfad
from nerfad.config import AttentionConfig, ConfigError, from_dict, resumed, to_dict
from nerfad.data.dataset import load_dataset
from nerfad.engine import checkpoint
from nerfad.engine.attention_data import AttentionData, as_input, load_attention_data
from nerfad.engine.attention_trainer import AttentionTrainer
from nerfad.engine.budget import BudgetedRun
from nerfad.engine.checkpoint import Checkpoint
from nerfad.engine.clock import read_clock
from nerfad.engine.devices import checked_device
from nerfad.engine.mask_report import MaskReport, preview_picture, report_mask, spread_rows
from nerfad.engine.progress import RunLog
from nerfad.errors import CheckpointError
from nerfad.io.atomic import atomic_write, check_folder_target
from nerfad.models.au_attention import AUAttention
from nerfad.progress import Progress

__all__ = ["AttentionConfig", "AttentionResult", "load_attention", "pretrain_attention"]

KIND = "attention"
REPORT_CROPS = 32
PREVIEW_CROPS = 6


@dataclass(frozen=True)
class AttentionResult:
    """How a run ended; `mask.faults()` says whether its mask is degenerate."""

    run: Path
    step: int
    elapsed_s: float
    units: tuple[str, ...]
    left_out: dict[str, str]
    mask: MaskReport


def pretrain_attention(config: AttentionConfig, progress: Progress | None = None) -> AttentionResult:
    """Learn which part of a face speech moves, or go on with the run that lies in `config.out`.

    Raises:
        DatasetError: a data set lacks faces, action units or frames, or no unit moves.
        ConfigError: a data set is given twice.
        BackendError: `config.device` is not there.
        CheckpointError: `config.out` holds something else.
        OutputError: nothing can be written to `config.out`; a checkpoint that is there stays whole.
        TrainingInterrupted: Ctrl-C; the state is saved.
    """
    started = time.perf_counter()
    checked_device(config.device)
    check_folder_target(config.out)
    if config.threads > 0:
        torch.set_num_threads(config.threads)
    saved = checkpoint.load(config.out) if checkpoint.exists(config.out) else None
    if saved is not None:
        config = _resumed_config(config, saved)
    return AttentionRun(config, saved, progress, started).go()


def load_attention(run: str | Path) -> tuple[AUAttention, dict[str, Any]]:
    """The generator of a run, in evaluation mode, and what is known about it.

    Returns:
        The generator, and the checkpoint's `meta`: among others `units` (names, in the order of the codes),
        `size` (side of the crops it was trained on) and `mask` (the run's own report).

    Raises:
        CheckpointError: the folder holds no checkpoint, or one of another kind.
    """
    run = Path(run)
    if not checkpoint.exists(run):
        raise CheckpointError(
            f"{run}: holds no attention; make it with `nerfad pretrain-attention DATASET --out {run}`."
        )
    saved = checkpoint.load(run)
    _check_kind(saved)
    config = from_dict(AttentionConfig, saved.meta["config"])
    generator = AUAttention(len(saved.meta["units"]), config.width, config.n_blocks)
    saved.restore(generator, "generator")
    return generator.eval(), saved.meta


class AttentionRun(BudgetedRun):
    """A run from its first second to its last, or from one call to the next."""

    config: AttentionConfig
    trainer: AttentionTrainer
    preview_at_end = True

    def __init__(
        self, config: AttentionConfig, saved: Checkpoint | None, progress: Progress | None, started: float
    ) -> None:
        self.config = config
        meta = saved.meta if saved else {}
        self.datasets = _identities(config)
        if saved is not None and _fingerprints(meta["datasets"]) != _fingerprints(self.datasets):
            raise CheckpointError(
                f"{config.out}: was trained on other data sets; choose another --out or give those it was "
                "trained on."
            )
        self.log = RunLog(config.out, progress, meta.get("log"), unit="crops")
        self.data: AttentionData = load_attention_data(config, progress)
        self.trainer = AttentionTrainer(config, self.data, progress)
        # The clock counts training: cutting crops would otherwise eat a short budget.
        self.prepared_s = time.perf_counter() - started
        self.started = read_clock(config.clock) - float(meta.get("elapsed_s", 0.0))
        if saved is not None:
            self.trainer.load_state(int(meta["step"]), saved.tensors)

    def go(self) -> AttentionResult:
        """Step until the budget is spent."""
        mask = self.step_until_spent()
        return AttentionResult(
            self.config.out,
            self.trainer.n_steps,
            self.elapsed_s,
            self.data.units,
            self.data.left_out,
            mask,
        )

    def n_items(self) -> int:
        """Crops of the last step."""
        return self.config.batch_size

    def preview(self) -> None:
        """Save a picture of what the generators do with a few training crops."""
        crops, _, targets, _ = self._some(PREVIEW_CROPS)
        generator = self.trainer.generator
        picture = preview_picture(generator, crops, targets, self.data.units)
        values = ((picture.cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
        self.log.picture(self.trainer.n_steps, values)

    def report(self) -> MaskReport:
        """What the mask is like now."""
        crops, codes, targets, mouths = self._some(REPORT_CROPS)
        return report_mask(self.trainer.generator, crops, codes, targets, mouths, self.data.units)

    def save(self) -> MaskReport:
        """Write the checkpoint and attention.json."""
        mask = self.report()
        meta: dict[str, Any] = {
            "kind": KIND,
            "step": self.trainer.n_steps,
            "elapsed_s": self.elapsed_s,
            "prepared_s": self.prepared_s,
            "config": to_dict(self.config),
            "units": list(self.data.units),
            "left_out": self.data.left_out,
            "size": self.config.size,
            "datasets": self.datasets,
            "n_train": [end - start for start, end in self.data.people],
            "mask": mask.to_json(),
            "versions": {"nerfad": nerfad.__version__, "torch": torch.__version__},
            "log": self.log.entries,
        }
        checkpoint.save(self.config.out, meta, self.trainer.state())
        with atomic_write(self.config.out / "attention.json", "w") as file:
            json.dump(meta, file, indent=1)
        return mask

    def _some(self, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same few crops at every call, their codes, other codes, and their mouths."""
        rows = spread_rows(self.data.people, n)
        others = np.roll(rows, len(rows) // 2)
        device = self.config.device
        return (
            as_input(self.data.pictures[rows]).to(device),
            self.data.codes[rows].to(device),
            self.data.codes[others].to(device),
            self.data.mouths[rows].to(device),
        )


def _identities(config: AttentionConfig) -> list[dict[str, str]]:
    """What tells the data sets of a run from others; each may be there once."""
    found = [load_dataset(path) for path in config.datasets]
    entries = [{"root": str(d.root.resolve()), "fingerprint": d.fingerprint()} for d in found]
    known = _fingerprints(entries)
    for k, dataset in enumerate(found):
        if known[k] in known[:k]:
            raise ConfigError(f"{dataset.root}: is given twice; name each person's data set once.")
    return entries


def _fingerprints(datasets: list[dict[str, str]]) -> list[str]:
    """What does not change when a folder moves."""
    return [entry["fingerprint"] for entry in datasets]


def _check_kind(saved: Checkpoint) -> None:
    if saved.meta.get("kind") != KIND:
        raise CheckpointError(
            f"{saved.run}: is no run of `nerfad pretrain-attention`; choose the folder of one, or another "
            "--out."
        )


def _resumed_config(config: AttentionConfig, saved: Checkpoint) -> AttentionConfig:
    """The run's own settings, with the new call's budget; contradictions are refused."""
    _check_kind(saved)
    old = from_dict(AttentionConfig, saved.meta["config"])
    for name in ("size", "width", "units", "shuffle_aus"):
        if getattr(config, name) != getattr(old, name):
            raise CheckpointError(
                f"{config.out}: was trained with {name} {getattr(old, name)}, not {getattr(config, name)}; "
                "choose another --out."
            )
    kept = ("datasets", "out", "device", "threads", "preview_every_s", "save_every_s")
    return resumed(old, config, *kept)
