"""The command `nerfad train`."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from nerfad.cli.console import progress_bar, say
from nerfad.config import (
    FieldConfig,
    IdentityOptions,
    OccupancyConfig,
    OptimConfig,
    PaperFieldConfig,
    TorsoConfig,
    TrainConfig,
)


def train(
    dataset: Positional[Path],
    out: Path,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    size: int | None = None,
    preset: Literal["default", "streaming"] = "default",
    lookahead_s: float | None = None,
    fusion: Path | None = None,
    codes: Literal["auto", "measured", "learnt", "none"] = "auto",
    base: Path | None = None,
    clip_s: float | None = None,
    report_at: tuple[int, ...] = (),
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
    """Learn a talking face from a data set. Ctrl-C saves; a second call resumes.

    Args:
        dataset: a folder that `nerfad preprocess` or `nerfad sample` wrote, or an AD-NeRF, DFRF, RAD-NeRF or
            ER-NeRF folder.
        out: the run's folder.
        minutes: wall-clock minutes of training; 8 where neither minutes nor steps are given.
        steps: number of optimiser steps instead of a time.
        seed: seed of every random choice.
        size: rows of the pictures to train at; those of the data set by default.
        preset: streaming looks ahead 120 ms into the sound instead of 200.
        lookahead_s: seconds of sound after a frame that it may depend on, if not by the preset.
        fusion: run of pretrain-fusion on this data set: condition the field on the fused Audio-face.
        codes: without a fusion, condition it on codes measured on the frames, on codes learnt through the
            field (a plain audio-conditioned field), or on no sound at all; auto measures where it can.
        base: run of train-base to start from; brings its fusion, if none is named.
        clip_s: learn from so many seconds only, the first ones of the training part.
        report_at: steps at which a copy of the checkpoint is kept in OUT/at_STEP, to be evaluated.
        threads: CPU threads; 0 leaves the choice to torch.
        device: cpu, cuda or cuda:1.
        preview_every_s: seconds between preview pictures; 0 for none.
        save_every_s: seconds between checkpoints.
        field: the radiance field; kind mlp is the paper's own.
        paper_field: sizes of the paper's own field.
        identity: identity features f_id; by default with a fusion only.
        torso: the picture of neck and torso under the head.
        occupancy: which part of the box is looked at.
        optim: how the parameters are fitted.
    """
    from nerfad.engine.train import train as run

    config = TrainConfig(
        dataset=dataset,
        out=out,
        minutes=minutes,
        steps=steps,
        seed=seed,
        size=size,
        preset=preset,
        lookahead_s=lookahead_s,
        fusion=fusion,
        codes=codes,
        base=base,
        clip_s=clip_s,
        report_at=report_at,
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
    with progress_bar("train") as progress:
        result = run(config, progress)
    say(
        f"run written to {out}: {result.step} steps, {result.elapsed_s / 60:.1f} min, "
        f"{result.rays_per_second:,.0f} rays/s, peak memory {result.peak_memory_mb / 1024:.2f} GiB"
    )
