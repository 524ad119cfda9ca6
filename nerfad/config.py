"""The settings of training runs: frozen, validated, stored in every checkpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerfad.errors import NerfadError


class ConfigError(NerfadError):
    """A setting is out of its range, or two settings contradict each other."""


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ConfigError(sentence)


def _require_budget(minutes: float | None, steps: int | None) -> None:
    _require(minutes is None or minutes > 0, "--minutes must be more than 0.")
    _require(steps is None or steps > 0, "--steps must be more than 0.")
    _require(minutes is None or steps is None, "give --minutes or --steps, not both.")


@dataclass(frozen=True)
class FieldConfig:
    """The conditional radiance field: a hash grid and two small conditioned networks."""

    n_levels: int = 16
    n_features: int = 2
    base_resolution: int = 16
    finest_resolution: int = 512
    log2_table_size: int = 14
    width: int = 64
    n_hidden_density: int = 1
    n_hidden_color: int = 2
    n_geometry: int = 15
    density_bias: float = -1.0

    def __post_init__(self) -> None:
        _require(8 <= self.log2_table_size <= 24, "field.log2_table_size must be between 8 and 24.")
        _require(16 <= self.width <= 128, "field.width must be between 16 and 128.")
        _require(
            self.base_resolution <= self.finest_resolution,
            "field.base_resolution must not exceed field.finest_resolution.",
        )


@dataclass(frozen=True)
class TorsoConfig:
    """The picture of neck and torso, drawn under the head and moved by a learnt 2-D deformation."""

    enabled: bool = True
    n_levels: int = 12
    n_features: int = 2
    base_resolution: int = 8
    finest_resolution: int = 1024
    log2_table_size: int = 16
    width: int = 32
    n_hidden: int = 1
    deformation_octaves: int = 4
    max_deformation: float = 0.1


@dataclass(frozen=True)
class OccupancyConfig:
    """Which part of the box is looked at."""

    resolution: int = 128
    n_steps: int = 128
    max_samples_per_ray: int = 128
    n_conditions: int = 4
    threshold: float = 6.0
    visible_weight: float = 0.03

    def __post_init__(self) -> None:
        _require(
            self.resolution in (16, 32, 64, 128, 256),
            "occupancy.resolution must be a power of two from 16 to 256.",
        )


@dataclass(frozen=True)
class OptimConfig:
    """How the parameters are fitted."""

    n_rays: int = 2048
    n_frames: int = 4
    mouth_share: float = 0.25
    torso_share: float = 0.25
    lr_table: float = 1e-2
    lr_networks: float = 2e-3
    lr_poses: float = 2e-4
    hold_share: float = 0.3
    final_lr: float = 0.03
    weight_decay: float = 1e-4
    condition_noise: float = 0.1
    true_code_share: float = 0.5
    appearance_dims: int = 0
    alpha_weight: float = 5e-3
    opaque_weight: float = 0.01
    triple_share: float = 0.25
    smooth_weight: float = 0.003
    refine_poses: bool = False

    def __post_init__(self) -> None:
        _require(
            self.n_rays >= self.n_frames >= 1, "optim.n_rays must be at least optim.n_frames, and that 1."
        )
        _require(
            0 <= self.mouth_share + self.torso_share <= 1,
            "optim.mouth_share and optim.torso_share must sum to at most 1.",
        )


@dataclass(frozen=True)
class AttentionWeights:
    """Weights of what AU-Attention is trained with; docs/attention.md says how they were chosen.

    Args:
        adversarial: the critic's opinion of I_G (eq. 3).
        code: squared distance of action-unit codes, summed over units (eq. 1).
        cycle: the way back to the crop (eq. 2).
        gradient_penalty: lambda of eq. 3.
        mask_mean: times the mean of A; below 0 rewards a small speech region.
        mask_variation: times the total variation of A.
    """

    adversarial: float = 1.0
    code: float = 16.0
    cycle: float = 10.0
    gradient_penalty: float = 10.0
    mask_mean: float = -0.4
    mask_variation: float = 1.0

    def __post_init__(self) -> None:
        for name in ("adversarial", "code", "cycle", "gradient_penalty", "mask_variation"):
            _require(getattr(self, name) >= 0, f"weights.{name} must not be negative.")


@dataclass(frozen=True)
class AttentionConfig:
    """Everything that `nerfad pretrain-attention` can be told.

    Args:
        datasets: data set folders, one person each.
        out: the run's folder; a second call with the same folder resumes.
        minutes: wall-clock minutes of training; 8 where neither minutes nor steps are given.
        steps: number of generator steps instead of a time.
        width: channels of the generator at full resolution; 64 is the paper's.
        size: side of the face crops in pixels, a multiple of 16.
        seed: seed of every random choice.
        device: "cpu", "cuda" or "cuda:1".
        units: action units to use; those that a data set lacks, or in which they do not move, are left out.
        n_blocks: residual blocks of the generator.
        critic_width: channels of the critic after its first layer.
        shared_critic: one stack for critic and action-unit classifier, or one for each.
        batch_size: crops in a step.
        critic_steps: steps of the critic for each of the generator.
        warm_up_steps: steps of the action-unit classifier alone, before everything else.
        learning_rate: of Adam; falls linearly over the last two thirds.
        code_noise: target codes are those of another frame, plus or minus up to this.
        picture_noise: standard deviation of the noise on what critic and classifier see.
        shift_px: and by how many pixels it is shifted at most.
        bfloat16: run the networks in bfloat16.
        shuffle_aus: give every frame another frame's action units: a control that must learn nothing.
        threads: CPU threads; 0 leaves torch's choice.
        preview_every_s: seconds between preview pictures; 0 for none.
        save_every_s: seconds between checkpoints.
    """

    datasets: tuple[str, ...]
    out: Path
    minutes: float | None = None
    steps: int | None = None
    width: int = 64
    size: int = 112
    seed: int = 0
    device: str = "cpu"
    units: tuple[str, ...] = ("AU10", "AU14", "AU20", "AU25", "AU26")
    n_blocks: int = 6
    critic_width: int = 64
    shared_critic: bool = True
    batch_size: int = 8
    critic_steps: int = 3
    warm_up_steps: int = 800
    learning_rate: float = 5e-4
    code_noise: float = 0.1
    picture_noise: float = 0.05
    shift_px: int = 2
    bfloat16: bool = True
    shuffle_aus: bool = False
    threads: int = 0
    preview_every_s: float = 60.0
    save_every_s: float = 60.0
    weights: AttentionWeights = dataclasses.field(default_factory=AttentionWeights)

    def __post_init__(self) -> None:
        object.__setattr__(self, "datasets", tuple(str(path) for path in self.datasets))
        object.__setattr__(self, "units", tuple(self.units))
        object.__setattr__(self, "out", Path(self.out))
        _require(len(self.datasets) > 0, "give at least one data set.")
        _require_budget(self.minutes, self.steps)
        _require(self.width >= 1, "--width must be at least 1.")
        _require(
            self.size >= 16 and self.size % 16 == 0, f"--size must be a multiple of 16, not {self.size}."
        )
        _require(
            min(self.batch_size, self.critic_steps, self.critic_width) >= 1,
            "batch_size, critic_steps and critic_width must be at least 1.",
        )


@dataclass(frozen=True)
class FusionWeights:
    """Weights of what the fusion is trained with.

    Args:
        reconstruction: mean absolute difference from the target (eq. 6).
        au: the action-unit loss, L_bce + L_dice (eqs. 4 and 5).
    """

    reconstruction: float = 10.0
    au: float = 0.1

    def __post_init__(self) -> None:
        _require(min(self.reconstruction, self.au) >= 0, "the weights must not be negative.")


REFERENCES = ("fixed", "random")


@dataclass(frozen=True)
class FusionConfig:
    """Everything that `nerfad pretrain-fusion` can be told.

    Args:
        datasets: data set folders, one person each.
        out: the run's folder; a second call with the same folder resumes.
        attention: run of `nerfad pretrain-attention` that masks the faces; without `use_attention` it may be
            missing.
        minutes: wall-clock minutes of training; 8 where neither minutes nor steps are given.
        steps: number of steps of E_a, D and the audio net instead of a time.
        width: channels of E_a's first layer; every other size follows. 16 is the paper's.
        size: side of the face crops in pixels, a multiple of 16; 112 is the paper's.
        seed: seed of every random choice.
        device: "cpu", "cuda" or "cuda:1".
        use_attention: False is the ablation "w/o att-d": the whole face instead of the Audio-face.
        au_loss: False is the ablation "w/o AU": eq. 6 alone.
        reference: "fixed", one frame of each person, or "random", another frame in every step; never the
            target, whose mouth the skips would copy.
        features: what the audio net hears: "auto", or speech, phones and mel joined by +.
        classifier_steps: steps of the action-unit classifier on real Audio-faces, before everything else.
        classifier_width: channels of its first layer.
        batch_size: frames in a step.
        learning_rate: of AdamW; falls linearly over the last two thirds.
        weight_decay: of AdamW.
        smooth_from: share of the run from which the filter over neighbouring frames is in use.
        sound_noise: noise on the sound's features, in standard deviations of each.
        picture_noise: standard deviation of the noise on what the classifier sees.
        shift_px: and by how many pixels it is shifted at most.
        bfloat16: run the picture networks in bfloat16.
        threads: CPU threads; 0 leaves torch's choice.
        preview_every_s, save_every_s: seconds between preview pictures (0: none) and between checkpoints.
    """

    datasets: tuple[str, ...]
    out: Path
    attention: Path | None = None
    minutes: float | None = None
    steps: int | None = None
    width: int = 16
    size: int = 112
    seed: int = 0
    device: str = "cpu"
    use_attention: bool = True
    au_loss: bool = True
    reference: str = "fixed"
    features: str = "auto"
    classifier_steps: int = 400
    classifier_width: int = 16
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    smooth_from: float = 0.3
    sound_noise: float = 0.1
    picture_noise: float = 0.05
    shift_px: int = 2
    bfloat16: bool = True
    threads: int = 0
    preview_every_s: float = 60.0
    save_every_s: float = 60.0
    weights: FusionWeights = dataclasses.field(default_factory=FusionWeights)

    def __post_init__(self) -> None:
        object.__setattr__(self, "datasets", tuple(str(path) for path in self.datasets))
        object.__setattr__(self, "out", Path(self.out))
        if self.attention is not None:
            object.__setattr__(self, "attention", Path(self.attention))
        _require(len(self.datasets) > 0, "give at least one data set.")
        _require_budget(self.minutes, self.steps)
        _require(
            self.attention is not None or not self.use_attention,
            "--attention RUN is needed (see `nerfad pretrain-attention`), or --no-use-attention.",
        )
        _require(self.width >= 1 and self.classifier_width >= 1, "--width must be at least 1.")
        _require(
            self.size >= 32 and self.size % 16 == 0,
            f"--size must be a multiple of 16 and at least 32, not {self.size}.",
        )
        _require(
            self.reference in REFERENCES,
            f"--reference must be one of {', '.join(REFERENCES)}, not {self.reference!r}.",
        )
        _require(
            set(self.features.split("+")) <= {"speech", "phones", "mel"} or self.features == "auto",
            f"--features must be auto, or speech, phones, mel joined by +, not {self.features!r}.",
        )
        _require(
            self.batch_size >= 1 and self.classifier_steps >= 1,
            "batch_size and classifier_steps must be at least 1.",
        )


PRESETS = ("default", "streaming")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that `nerfad train` can be told.

    Args:
        dataset: the data set folder.
        out: the run's folder; a second call with the same folder resumes.
        minutes: wall-clock minutes of training; 8 where neither minutes nor steps are given.
        steps: number of optimiser steps instead of a time.
        seed: seed of every random choice.
        size: rows of the pictures to train at; None keeps those of the data set.
        preset: "default", or "streaming" for the shorter look-ahead of a live system (120 ms).
        lookahead_s: seconds of sound after a frame that it may depend on; None: by the preset.
        fusion: run of `nerfad pretrain-fusion` on this data set: the field is then conditioned on the fused
            Audio-face (eq. 7) instead of on expression codes.
        device: "cpu", "cuda" or "cuda:1".
        threads: CPU threads; 0 leaves torch's choice.
        preview_every_s: seconds between preview pictures; 0 for none.
        save_every_s: seconds between checkpoints.
    """

    dataset: Path
    out: Path
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    size: int | None = None
    preset: str = "default"
    lookahead_s: float | None = None
    fusion: Path | None = None
    threads: int = 0
    device: str = "cpu"
    preview_every_s: float = 60.0
    save_every_s: float = 60.0
    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    torso: TorsoConfig = dataclasses.field(default_factory=TorsoConfig)
    occupancy: OccupancyConfig = dataclasses.field(default_factory=OccupancyConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataset", Path(self.dataset))
        if self.fusion is not None:
            object.__setattr__(self, "fusion", Path(self.fusion))
            _require(
                self.lookahead_s is None and self.preset == "default",
                "--fusion brings its own look-ahead; leave --lookahead-s and --preset out.",
            )
        object.__setattr__(self, "out", Path(self.out))
        _require_budget(self.minutes, self.steps)
        _require(
            self.preset in PRESETS, f"--preset must be one of {', '.join(PRESETS)}, not {self.preset!r}."
        )
        _require(
            self.lookahead_s is None or 0 <= self.lookahead_s <= 2, "--lookahead-s must be between 0 and 2."
        )


def to_dict(config: Any) -> dict[str, Any]:
    """A config as JSON values."""
    values = dataclasses.asdict(config)
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def from_dict(kind: type, values: dict[str, Any]) -> Any:
    """The inverse of `to_dict`; entries that this version does not know are left out."""
    arguments = {}
    for item in dataclasses.fields(kind):
        if item.name in values:
            value, nested = values[item.name], item.default_factory
            if isinstance(nested, type) and dataclasses.is_dataclass(nested) and isinstance(value, dict):
                value = from_dict(nested, value)
            arguments[item.name] = value
    return kind(**arguments)


def resumed(old: Any, new: Any, *names: str) -> Any:
    """The settings of an earlier call with the budget of a new one, where it gives one, and its `names`."""
    budget = ("minutes", "steps") if new.minutes is not None or new.steps is not None else ()
    return dataclasses.replace(old, **{name: getattr(new, name) for name in (*budget, *names)})
