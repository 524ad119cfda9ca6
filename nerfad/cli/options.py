"""Options that several commands share. Their fields stand among a command's own options."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from nerfad.config import (
    FieldConfig,
    IdentityOptions,
    OccupancyConfig,
    OptimConfig,
    PaperFieldConfig,
    TorsoConfig,
)


@dataclass(frozen=True)
class TrainingOptions:
    """Of every training.

    Args:
        minutes: minutes of training; 8 where neither minutes nor steps are given.
        steps: number of steps instead of a time.
        clock: by which minutes are counted: "wall", or "cpu", processor time over threads, which other work
            on the machine does not shorten.
        seed: seed of every random choice.
        threads: CPU threads; 0 leaves the choice to torch.
        device: cpu, cuda or cuda:1.
    """

    minutes: float | None = None
    steps: int | None = None
    clock: Literal["wall", "cpu"] = "wall"
    seed: int = 0
    threads: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class FieldTrainingOptions(TrainingOptions):
    """Of every training of a field.

    Args:
        size: rows of the pictures to train at; those of the data set by default.
        preview_every_s: seconds between preview pictures; 0 for none.
        save_every_s: seconds between checkpoints.
        field: the radiance field; kind mlp is the paper's own.
        paper_field: sizes of the paper's own field.
        identity: identity features f_id; by default with a fusion only.
        torso: the picture of neck and torso under the head.
        occupancy: which part of the box is looked at.
        optim: how the parameters are fitted.
    """

    size: int | None = None
    preview_every_s: float = 60.0
    save_every_s: float = 60.0
    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    paper_field: PaperFieldConfig = dataclasses.field(default_factory=PaperFieldConfig)
    identity: IdentityOptions = dataclasses.field(default_factory=IdentityOptions)
    torso: TorsoConfig = dataclasses.field(default_factory=TorsoConfig)
    occupancy: OccupancyConfig = dataclasses.field(default_factory=OccupancyConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)


Training = Annotated[TrainingOptions, arg(name="")]
FieldTraining = Annotated[FieldTrainingOptions, arg(name="")]
