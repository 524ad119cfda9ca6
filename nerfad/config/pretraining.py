"""Settings of the two pre-trainings: AU-Attention and the fusion."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerfad.config.values import from_dict, require, require_budget, require_one_of, require_threads


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
            require(getattr(self, name) >= 0, f"weights.{name} must not be negative.")


@dataclass(frozen=True)
class AttentionConfig:
    """Everything that `nerfad pretrain-attention` can be told.

    Args:
        datasets: data set folders, one person each.
        out: the run's folder; a second call with the same folder resumes.
        minutes: minutes of training; 8 where neither minutes nor steps are given.
        steps: number of generator steps instead of a time.
        clock: by which minutes are counted: "wall", or "cpu", processor time over threads, which other work
            on the machine does not shorten.
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
    clock: str = "wall"
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
        require(len(self.datasets) > 0, "give at least one data set.")
        require_budget(self.minutes, self.steps, self.clock, self.device)
        require_threads(self.threads)
        require(self.width >= 1, "--width must be at least 1.")
        require(self.n_blocks >= 0, "--n-blocks must not be negative.")
        require(self.size >= 16 and self.size % 16 == 0, f"--size must be a multiple of 16, not {self.size}.")
        require(
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
        require(min(self.reconstruction, self.au) >= 0, "the weights must not be negative.")


REFERENCES = ("fixed", "random")
TARGET_MASKS = ("own", "pooled", "reference")


@dataclass(frozen=True)
class FusionConfig:
    """Everything that `nerfad pretrain-fusion` can be told.

    Args:
        datasets: data set folders, one person each.
        out: the run's folder; a second call with the same folder resumes.
        attention: run of `nerfad pretrain-attention` that masks the faces; without `use_attention` it may be
            missing.
        minutes: minutes of training; 8 where neither minutes nor steps are given.
        steps: number of steps of E_a, D and the audio net instead of a time.
        clock: by which minutes are counted: "wall", or "cpu", processor time over threads, which other work
            on the machine does not shorten.
        width: channels of E_a's first layer; every other size follows. 16 is the paper's.
        size: side of the face crops in pixels, a multiple of 16; 112 is the paper's.
        seed: seed of every random choice.
        device: "cpu", "cuda" or "cuda:1".
        use_attention: False is the ablation "w/o att-d": the whole face instead of the Audio-face.
        au_loss: False is the ablation "w/o AU": eq. 6 alone.
        reference: "fixed", one frame of each person, or "random", another frame in every step; never the
            target, whose mouth the skips would copy.
        target_mask: which A masks a frame: "own", G_M's by the frame's own code; "pooled", the mean of those
            over the person's training frames; "reference", that of the reference frame.
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
    clock: str = "wall"
    width: int = 16
    size: int = 112
    seed: int = 0
    device: str = "cpu"
    use_attention: bool = True
    au_loss: bool = True
    reference: str = "fixed"
    target_mask: str = "pooled"
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
        require(len(self.datasets) > 0, "give at least one data set.")
        require_budget(self.minutes, self.steps, self.clock, self.device)
        require_threads(self.threads)
        require(
            self.attention is not None or not self.use_attention,
            "--attention RUN is needed (see `nerfad pretrain-attention`), or --no-use-attention.",
        )
        require(self.width >= 1 and self.classifier_width >= 1, "--width must be at least 1.")
        require(
            self.size >= 32 and self.size % 16 == 0,
            f"--size must be a multiple of 16 and at least 32, not {self.size}.",
        )
        require_one_of("--reference", self.reference, REFERENCES)
        require_one_of("--target-mask", self.target_mask, TARGET_MASKS)
        require(
            set(self.features.split("+")) <= {"speech", "phones", "mel"} or self.features == "auto",
            f"--features must be auto, or speech, phones, mel joined by +, not {self.features!r}.",
        )
        require(
            self.batch_size >= 1 and self.classifier_steps >= 1,
            "batch_size and classifier_steps must be at least 1.",
        )


def fusion_config_of(values: dict[str, Any]) -> FusionConfig:
    """The settings in a checkpoint; in older runs every frame was masked by its own code."""
    config: FusionConfig = from_dict(FusionConfig, {"target_mask": "own", **values})
    return config
