"""The command `nerfad train-base`."""

from pathlib import Path

from nerfad.cli.arguments import DatasetFolders
from nerfad.cli.console import progress_bar, say
from nerfad.cli.options import FieldTraining
from nerfad.config import ConfigError, TrainConfig


def train_base(
    datasets: DatasetFolders,
    fusion: Path,
    out: Path,
    options: FieldTraining,
) -> None:
    """Learn what several faces share, for `nerfad train --base`. Ctrl-C saves; a second call resumes.

    Args:
        datasets: data set folders, one person each, at least two, who take turns.
        fusion: run of pretrain-fusion on all of them.
        out: the base's folder.
    """
    from nerfad.engine.train_base import train_base as run

    if not datasets:
        raise ConfigError("give at least two data sets.")
    config = TrainConfig(dataset=datasets[0], out=out, fusion=fusion, **vars(options))
    with progress_bar("train-base") as progress:
        result = run(datasets, config, progress)
    say(
        f"base of {len(datasets)} people written to {out}: {result.step} steps, {result.elapsed_s / 60:.1f} "
        f"min; next: nerfad train NEW_DATASET --base {out} --out RUN"
    )
