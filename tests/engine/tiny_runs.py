"""Tiny runs of training: settings, pre-trained stages, and an interruption at a chosen step."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from nerfad.config import (
    AttentionConfig,
    FieldConfig,
    FusionConfig,
    IdentityOptions,
    OccupancyConfig,
    OptimConfig,
    PaperFieldConfig,
    TorsoConfig,
    TrainConfig,
)
from nerfad.engine.pretrain_attention import pretrain_attention
from nerfad.engine.pretrain_fusion import pretrain_fusion
from nerfad.engine.trainer import Trainer

HASH = FieldConfig(n_levels=4, log2_table_size=10, finest_resolution=32, width=16)
SMALL = {
    "field": HASH,
    "paper_field": PaperFieldConfig(position_octaves=4, width=16, color_width=16, n_coarse=8, n_fine=8),
    "identity": IdentityOptions(channels=16, slot_width=8, lattice_resolution=8, rebake_every=2, size=16),
    "torso": TorsoConfig(n_levels=4, log2_table_size=10, finest_resolution=32, width=16),
    "occupancy": OccupancyConfig(resolution=32, n_steps=32),
    "optim": OptimConfig(n_rays=256, n_frames=2),
    "preview_every_s": 0.0,
}


def config(data: Path, out: Path, **changes) -> TrainConfig:
    return TrainConfig(dataset=data, out=out, **{"steps": 6, **SMALL, **changes})


def tiny_attention(datasets: tuple[Path, ...], run: Path) -> Path:
    settings = {"width": 4, "critic_width": 4, "n_blocks": 1, "size": 32, "batch_size": 4, "steps": 1}
    pretrain_attention(AttentionConfig(datasets=datasets, out=run, preview_every_s=0.0, **settings))
    return run


def tiny_fusion(datasets: tuple[Path, ...], run: Path, attention: Path | None = None, width: int = 2) -> Path:
    settings = {"width": width, "size": 32, "features": "mel", "classifier_steps": 2, "classifier_width": 2}
    settings |= {"steps": 2, "batch_size": 4, "preview_every_s": 0.0}
    attended = attention is not None
    pretrain_fusion(
        FusionConfig(datasets=datasets, out=run, attention=attention, use_attention=attended, **settings)
    )
    return run


def press_ctrl_c_after(patch: pytest.MonkeyPatch, n_steps: int) -> None:
    """The next runs are interrupted once this many steps are done."""
    step = Trainer.step

    def stepped(self: Trainer, share: float) -> dict[str, float]:
        figures = step(self, share)
        if self.n_steps == n_steps:
            os.kill(os.getpid(), signal.SIGINT)
        return figures

    patch.setattr(Trainer, "step", stepped)
