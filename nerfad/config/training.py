"""Settings of `nerfad train`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerfad.config.fields import FieldConfig, IdentityOptions, OccupancyConfig, PaperFieldConfig, TorsoConfig
from nerfad.config.values import from_dict, require, require_budget, require_one_of, require_threads


@dataclass(frozen=True)
class OptimConfig:
    """How the parameters are fitted. Rates are AdamW's, shares lie in 0 to 1.

    Args:
        n_rays: rays of a step; the first 600 steps, whose rays are dearer, take a quarter and then half.
        n_frames: frames of a step, over which they are spread evenly.
        mouth_share: share of the rays that look at the mouth, which is small and moves most.
        torso_share: share that look anywhere in the frame; what is left looks at the head.
        lr_table: learning rate of the hash tables; high, because each entry is seldom touched.
        lr_networks: of every network that has no rate of its own.
        lr_poses: of the corrections of the head poses (with refine-poses).
        lr_mlp: of the paper's field (with --field.kind mlp); the paper's rate.
        lr_fusion: of audio net, E_a and D of a fusion, which go on learning with the field; 0 freezes them,
            as always with a base.
        hold_share: share of the run before the rates begin to fall.
        final_lr: factor on all rates at the end of the run; they fall towards it exponentially.
        weight_decay: of the networks; tables, poses and the paper's field have none.
        condition_noise: noise on what the field is told, in standard deviations of the codes; half on blinks.
            The field must bear what the sound predicts less well than it was measured.
        true_code_share: share of the draws that show the field measured codes (with a fusion: the frame's own
            face) in the place of those that the sound predicts; it keeps the mouth's whole range.
        appearance_dims: numbers of a learnt code of each training frame, for light that changes; 0 for none.
        alpha_weight: of the term that keeps head and torso to their labels.
        opaque_weight: of the head's transparency, mean of 1 - opacity over its pixels.
        fusion_weight: of the fusion's own losses (eqs. 4 to 6) where it goes on learning.
        triple_share: share of the head's rays drawn in threes along a line, whose depths must be smooth.
        smooth_weight: of the bend of the depth over such a line, in sides of the box.
        refine_poses: correct the head poses while training.
    """

    n_rays: int = 2048
    n_frames: int = 4
    mouth_share: float = 0.25
    torso_share: float = 0.25
    lr_table: float = 1e-2
    lr_networks: float = 2e-3
    lr_poses: float = 2e-4
    lr_mlp: float = 5e-4
    lr_fusion: float = 3e-4
    hold_share: float = 0.3
    final_lr: float = 0.03
    weight_decay: float = 1e-4
    condition_noise: float = 0.1
    true_code_share: float = 0.5
    appearance_dims: int = 0
    alpha_weight: float = 5e-3
    opaque_weight: float = 0.01
    fusion_weight: float = 0.01
    triple_share: float = 0.25
    smooth_weight: float = 0.003
    refine_poses: bool = False

    def __post_init__(self) -> None:
        require(
            self.n_rays >= self.n_frames >= 1, "optim.n_rays must be at least optim.n_frames, and that 1."
        )
        require(
            0 <= self.mouth_share + self.torso_share <= 1,
            "optim.mouth_share and optim.torso_share must sum to at most 1.",
        )
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            require(0 <= value < math.inf, f"optim.{item.name} must be 0 or more, not {value}.")


PRESETS = ("default", "streaming")
CODES = ("auto", "measured", "learnt", "none")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that `nerfad train` can be told.

    Args:
        dataset: the data set folder.
        out: the run's folder; a second call with the same folder resumes.
        minutes: minutes of training; 8 where neither minutes nor steps are given.
        steps: number of optimiser steps instead of a time.
        clock: by which minutes are counted: "wall", or "cpu", processor time over threads, which other work
            on the machine does not shorten.
        seed: seed of every random choice.
        size: rows of the pictures to train at; None keeps those of the data set.
        preset: "default", or "streaming" for the shorter look-ahead of a live system (120 ms).
        lookahead_s: seconds of sound after a frame that it may depend on; None: by the preset.
        fusion: run of `nerfad pretrain-fusion` on this data set: the field is then conditioned on the fused
            Audio-face (eq. 7) instead of on expression codes.
        codes: what else conditions it: "measured" expression codes that the sound predicts; codes "learnt"
            through the field (the plain audio-conditioned field); "none", a field without sound; "auto":
            measured where something can be measured, else learnt.
        base: run of `nerfad train-base` whose field, identity encoder and E_f this run starts from.
        clip_s: seconds of the training split to learn from, its first ones; None: all. The test split stays.
        report_at: steps at which a copy of the checkpoint goes to `out`/at_STEP.
        device: "cpu", "cuda" or "cuda:1".
        threads: CPU threads; 0 leaves torch's choice.
        preview_every_s: seconds between preview pictures; 0 for none.
        save_every_s: seconds between checkpoints.
    """

    dataset: Path
    out: Path
    minutes: float | None = None
    steps: int | None = None
    clock: str = "wall"
    seed: int = 0
    size: int | None = None
    preset: str = "default"
    lookahead_s: float | None = None
    fusion: Path | None = None
    codes: str = "auto"
    base: Path | None = None
    clip_s: float | None = None
    report_at: tuple[int, ...] = ()
    threads: int = 0
    device: str = "cpu"
    preview_every_s: float = 60.0
    save_every_s: float = 60.0
    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    paper_field: PaperFieldConfig = dataclasses.field(default_factory=PaperFieldConfig)
    identity: IdentityOptions = dataclasses.field(default_factory=IdentityOptions)
    torso: TorsoConfig = dataclasses.field(default_factory=TorsoConfig)
    occupancy: OccupancyConfig = dataclasses.field(default_factory=OccupancyConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", Path(self.dataset))
        object.__setattr__(self, "report_at", tuple(self.report_at))
        for name in ("fusion", "base"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
                require(
                    self.lookahead_s is None and self.preset == "default",
                    f"--{name} brings its own look-ahead; leave --lookahead-s and --preset out.",
                )
                require(self.codes == "auto", f"--{name} brings its own condition; leave --codes out.")
        object.__setattr__(self, "out", Path(self.out))
        require_budget(self.minutes, self.steps, self.clock, self.device)
        require_threads(self.threads)
        require_one_of("--preset", self.preset, PRESETS)
        require(
            self.lookahead_s is None or 0 <= self.lookahead_s <= 2, "--lookahead-s must be between 0 and 2."
        )
        require(self.clip_s is None or self.clip_s > 0, "--clip-s must be more than 0.")
        require(all(step > 0 for step in self.report_at), "--report-at takes numbers of steps above 0.")
        require_one_of("--codes", self.codes, CODES)
        require(
            self.codes != "none" or not self.identity.audio_in_offset,
            "identity.audio_in_offset needs sound; leave --codes none out.",
        )

    @property
    def joint(self) -> bool:
        """Whether the fusion goes on learning with the field."""
        return self.fusion is not None and self.base is None and self.optim.lr_fusion > 0

    @property
    def uses_identity(self) -> bool:
        """Whether the field sees identity features."""
        enabled = self.identity.enabled
        return (self.fusion or self.base) is not None if enabled is None else enabled


def train_config_of(values: dict[str, Any]) -> TrainConfig:
    """The settings in a checkpoint; older runs have no identity features, and their fusion stood still."""
    optim = {"lr_fusion": 0.0, **values.get("optim", {})}
    known = {"identity": {"enabled": False}, **values, "optim": optim}
    config: TrainConfig = from_dict(TrainConfig, known)
    return config
