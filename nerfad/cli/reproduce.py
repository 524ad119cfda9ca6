"""The command `nerfad reproduce`."""

from pathlib import Path
from typing import Literal

from nerfad.cli.console import progress_bar, say
from nerfad.errors import NerfadError


def reproduce(
    table: Literal[1, 2, 3],
    out: Path,
    data: Path | None = None,
    base: tuple[Path, ...] = (),
    clip_s: float | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    minutes: float | None = None,
    steps: int | None = None,
    clock: Literal["wall", "cpu"] = "wall",
    shares: tuple[float, float] = (0.3, 0.2),
    size: int | None = 128,
    threads: int = 0,
    device: str = "cpu",
    variants: tuple[str, ...] = (),
    videos: tuple[str, ...] = (),
    runs: Path | None = None,
    paper_sizes: bool = False,
    max_frames: int = 150,
    models: Path | None = None,
) -> None:
    """Train and score the rows of one of the paper's tables with our own code. Ctrl-C saves; the same command
    goes on, reusing what is finished. Several processes may share one folder of runs.

    Args:
        table: 1 compares with a plain NeRF, AD-NeRF-like and DFRF-like variants; 2 is the same after 4,000
            and 10,000 steps and at the end; 3 is the ablation.
        out: the JSON file with mean, spread and every seed's value.
        data: the data set; without it, a sample head with exact ground truth.
        base: data sets of other people, the paper's protocol: rows with a fusion pre-train on them, train a
            base over them, and fine-tune it on the data set.
        clip_s: with a base, seconds of the data set that every row learns from, the first ones.
        seeds: each row is trained once for each.
        minutes: of training for each row and seed, pre-training included (30 % attention, 20 % fusion, the
            rest for the field); 6 where neither minutes nor steps are given. A base has as much again.
        steps: a number of steps instead, shared out in the same way.
        clock: by which minutes are counted; cpu is processor time over threads, which other work on the
            machine does not shorten.
        shares: of the budget for attention and fusion; the field has the rest.
        size: rows of the pictures that the field is trained and scored at.
        threads: CPU threads; 0 leaves the choice to torch.
        device: cpu, cuda or cuda:1.
        variants: train only these rows.
        videos: finished videos of the held-out stretch or the whole clip as further rows: NAME=FILE.
        runs: the folder of all runs; by default OUT without its ending.
        paper_sizes: pre-train networks of the paper's size: for a GPU.
        max_frames: held-out frames that are scored, the first ones.
        models: folder with the landmarker and the weights of LPIPS and SyncNet.
    """
    from nerfad.engine.reproduce import reproduce as run
    from nerfad.engine.reproduce_config import ReproduceConfig, runs_folder
    from nerfad.engine.reproduce_table import as_text

    folder = runs_folder(out, runs)
    config = ReproduceConfig(
        table=table,
        out=out,
        data=_sample_head(folder, size) if data is None else data,
        runs=folder,
        seeds=seeds,
        base=base,
        clip_s=clip_s,
        minutes=minutes,
        steps=steps,
        clock=clock,
        shares=shares,
        size=size,
        threads=threads,
        device=device,
        variants=variants,
        videos=tuple(_named(text) for text in videos),
        paper_sizes=paper_sizes,
        max_frames=max_frames,
        models=models,
    )
    with progress_bar(f"table {table}") as progress:
        result = run(config, progress)
    print(as_text(result))
    say(f"table written to {out}")


def _sample_head(runs: Path, size: int | None) -> Path:
    """A sample head in the folder of runs, made by whichever process comes first."""
    from nerfad.io.lock import locked
    from nerfad.sample.generate import generate

    root = runs / "sample"
    runs.mkdir(parents=True, exist_ok=True)
    with locked(runs / "sample.lock"), progress_bar("sample") as progress:
        if not (root / "manifest.json").is_file():
            generate(root, size=size or 128, progress=progress)
    return root


def _named(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise NerfadError(f"--videos {text}: write the row's name and the file like radnerf=radnerf.mp4.")
    return name, Path(path)
