"""What `nerfad reproduce` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nerfad.config import require_clock
from nerfad.engine.reproduce_rows import SHARES, TABLES, Budget
from nerfad.errors import NerfadError

DEFAULT_MINUTES = 6.0


@dataclass(frozen=True)
class ReproduceConfig:
    """Everything that `nerfad reproduce` can be told.

    Args:
        table: 1, 2 or 3.
        out: the JSON file.
        data: the data set.
        runs: the folder of runs.
        seeds: each row is trained once for each.
        base: data sets of other people: rows with a fusion pre-train on them, train a base over them once
            for each seed, and fine-tune it on `data`; () for none.
        clip_s: seconds of `data` that every row learns from, the first ones; None: the training part.
        minutes: minutes of training for each row and seed, pre-training included; with `base`,
            the base and what comes before it have as much again.
        steps: or that many steps, shared out over the stages in the same way.
        clock: by which minutes are counted, "wall" or "cpu" (processor time over threads).
        shares: of the budget for attention and fusion; the field has the rest.
        size: rows of the pictures that the field is trained and scored at; None: those of the data set.
        threads: CPU threads; 0 leaves torch's choice.
        device: "cpu", "cuda" or "cuda:1".
        variants: rows to train; empty: all.
        videos: finished videos to score as further rows, (name, file).
        paper_sizes: pre-train networks of the paper's size instead of those for CPUs.
        max_frames: held-out frames that are scored, the first ones.
        models: folder of model files (landmarker, LPIPS and SyncNet weights).
    """

    table: int
    out: Path
    data: Path
    runs: Path | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    base: tuple[Path, ...] = ()
    clip_s: float | None = None
    minutes: float | None = None
    steps: int | None = None
    clock: str = "wall"
    shares: tuple[float, float] = SHARES
    size: int | None = 128
    threads: int = 0
    device: str = "cpu"
    variants: tuple[str, ...] = ()
    videos: tuple[tuple[str, Path], ...] = ()
    paper_sizes: bool = False
    max_frames: int = 150
    models: Path | None = None

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise NerfadError(f"--table must be one of {', '.join(map(str, TABLES))}, not {self.table}.")
        unknown = [name for name in self.variants if name not in TABLES[self.table]]
        if unknown:
            raise NerfadError(
                f"--variants: table {self.table} has no row {unknown[0]}; choose from "
                f"{', '.join(TABLES[self.table])}."
            )
        if self.minutes is not None and self.steps is not None:
            raise NerfadError("give --minutes or --steps, not both.")
        if not (self.minutes or DEFAULT_MINUTES) > 0 or not (self.steps or 1) > 0:
            raise NerfadError("--minutes and --steps must be more than 0.")
        require_clock(self.clock, self.device)
        if min(self.shares) <= 0 or sum(self.shares) >= 1:
            raise NerfadError("--shares must be above 0 and leave something for the field.")
        if not self.seeds:
            raise NerfadError("--seeds: give at least one seed.")
        if self.max_frames < 2:
            raise NerfadError("--max-frames must be at least 2.")
        if len(self.base) == 1:
            raise NerfadError(
                f"--base {self.base[0]}: one person alone is no base; give at least two data sets."
            )
        if self.clip_s is not None and not self.base:
            raise NerfadError(
                "--clip-s needs --base DATASET...: without, attention and fusion learn from the whole clip."
            )
        if self.clip_s is not None and not self.clip_s > 0:
            raise NerfadError("--clip-s must be more than 0.")

    @property
    def folder(self) -> Path:
        """Of the runs."""
        return runs_folder(self.out, self.runs)

    @property
    def budget(self) -> Budget:
        """Of each row."""
        minutes = self.minutes or DEFAULT_MINUTES if self.steps is None else None
        return Budget(
            minutes,
            self.steps,
            self.size,
            self.threads,
            self.device,
            self.paper_sizes,
            self.shares,
            self.clip_s,
            self.clock,
        )


def runs_folder(out: Path, runs: Path | None) -> Path:
    """The folder of runs: the one that was asked for, or `out` without its ending."""
    return (out.with_suffix("") if runs is None else runs).resolve()
