"""The command `nerfad train-base`."""

from pathlib import Path

from tyro.conf import Positional

from nerfad.cli.console import progress_bar, say
from nerfad.config import (
    ConfigError,
    FieldConfig,
    IdentityOptions,
    OccupancyConfig,
    OptimConfig,
    PaperFieldConfig,
    TorsoConfig,
    TrainConfig,
)


def train_base(
    datasets: Positional[tuple[Path, ...]],
    fusion: Path,
    out: Path,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    size: int | None = None,
    threads: int = 0,
    device: str = "cpu",
    preview_every_s: float = 60.0,
    save_every_s: float = 60.0,
    field: FieldConfig = FieldConfig(),
    paper_field: PaperFieldConfig = PaperFieldConfig(),
    identity: IdentityOptions = IdentityOptions(),
    torso: TorsoConfig = TorsoConfig(),
    occupancy: OccupancyConfig = OccupancyConfig(),
    optim: OptimConfig = OptimConfig(),
) -> None:
    """Learn what several faces share, for `nerfad train --base`. Ctrl-C saves; a second call resumes.

    Args:
        datasets: data set folders, one person each, at least two.
        fusion: run of pretrain-fusion on all of them.
        out: the base's folder.
        minutes: wall-clock minutes of training; 8 where neither minutes nor steps are given.
        steps: number of optimiser steps instead of a time; people take turns.
        seed: seed of every random choice.
        size: rows of the pictures to train at; those of each data set by default.
        threads: CPU threads; 0 leaves the choice to torch.
        device: cpu, cuda or cuda:1.
        preview_every_s: seconds between preview pictures; 0 for none.
        save_every_s: seconds between checkpoints.
        field: the radiance field; kind mlp is the paper's own.
        paper_field: sizes of the paper's own field.
        identity: identity features f_id.
        torso: the picture of neck and torso under each head.
        occupancy: which part of the box is looked at.
        optim: how the parameters are fitted.
    """
    from nerfad.engine.train_base import train_base as run

    if not datasets:
        raise ConfigError("give at least two data sets.")
    config = TrainConfig(
        dataset=datasets[0],
        out=out,
        minutes=minutes,
        steps=steps,
        seed=seed,
        size=size,
        fusion=fusion,
        threads=threads,
        device=device,
        preview_every_s=preview_every_s,
        save_every_s=save_every_s,
        field=field,
        paper_field=paper_field,
        identity=identity,
        torso=torso,
        occupancy=occupancy,
        optim=optim,
    )
    with progress_bar("train-base") as progress:
        result = run(datasets, config, progress)
    say(
        f"base of {len(datasets)} people written to {out}: {result.step} steps, {result.elapsed_s / 60:.1f} "
        f"min; next: nerfad train NEW_DATASET --base {out} --out RUN"
    )
