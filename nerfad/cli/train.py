"""The command `nerfad train`."""

from pathlib import Path
from typing import Literal

from nerfad.cli.arguments import DatasetFolder
from nerfad.cli.console import progress_bar, say
from nerfad.cli.options import FieldTraining
from nerfad.config import TrainConfig


def train(
    dataset: DatasetFolder,
    out: Path,
    options: FieldTraining,
    preset: Literal["default", "streaming"] = "default",
    lookahead_s: float | None = None,
    fusion: Path | None = None,
    codes: Literal["auto", "measured", "learnt", "none"] = "auto",
    base: Path | None = None,
    clip_s: float | None = None,
    report_at: tuple[int, ...] = (),
) -> None:
    """Learn a talking face from a data set. Ctrl-C saves; a second call resumes.

    Args:
        dataset: a folder that `nerfad preprocess` or `nerfad sample` wrote, or an AD-NeRF, DFRF, RAD-NeRF or
            ER-NeRF folder.
        out: the run's folder.
        preset: streaming looks ahead 120 ms into the sound instead of 200.
        lookahead_s: seconds of sound after a frame that it may depend on, if not by the preset.
        fusion: run of pretrain-fusion on this data set: condition the field on the fused Audio-face.
        codes: without a fusion, condition it on codes measured on the frames, on codes learnt through the
            field (a plain audio-conditioned field), or on no sound at all; auto measures where it can.
        base: run of train-base to start from; brings its fusion, if none is named.
        clip_s: learn from so many seconds only, the first ones of the training part.
        report_at: steps at which a copy of the checkpoint is kept in OUT/at_STEP, to be evaluated.
    """
    from nerfad.engine.train import train as run

    config = TrainConfig(
        dataset=dataset,
        out=out,
        preset=preset,
        lookahead_s=lookahead_s,
        fusion=fusion,
        codes=codes,
        base=base,
        clip_s=clip_s,
        report_at=report_at,
        **vars(options),
    )
    with progress_bar("train") as progress:
        result = run(config, progress)
    say(
        f"run written to {out}: {result.step} steps, {result.elapsed_s / 60:.1f} min, "
        f"{result.rays_per_second:,.0f} rays/s, peak memory {result.peak_memory_mb / 1024:.2f} GiB"
    )
