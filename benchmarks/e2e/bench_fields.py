"""The paper's field against the hash-grid field at equal quality: training time, rays a second of drawing.

    python benchmarks/e2e/bench_fields.py [--dataset DATASET] [--size 48] [--minutes 8] [--threads 1]

Both fields learn from the same data set with the same audio encoder and the same seed, without identity
features; the paper's first, for so many minutes. Each keeps copies of itself on the way, which are scored
afterwards on held-out frames, from sound and head pose. Whenever the hash grid first scores as high as the
paper's field did, their training times are compared, unless that is hardly better than no head at all.
Ctrl-C saves; the same command goes on.

Time is time inside training steps: reading the data, listening, saving and scoring do not count. On the CPU
it is CPU time over threads, which neighbours on a shared machine disturb least; wall time stands beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nerfad.bench.report import standalone
from nerfad.bench.results import provenance
from nerfad.cli.console import progress_bar
from nerfad.config import FieldConfig, OptimConfig, TrainConfig
from nerfad.data.dataset import load_dataset
from nerfad.data.writer import write_json
from nerfad.engine import checkpoint
from nerfad.engine.drawing import torso_over
from nerfad.engine.evaluation_sources import AvatarSource, SourceFrame
from nerfad.engine.report_charts import Line, Marker, line_chart
from nerfad.engine.scoring import FrameScorer
from nerfad.engine.settings import begun, resumed_train_config
from nerfad.engine.train import TrainingRun
from nerfad.io.atomic import atomic_write
from nerfad.progress import Progress
from nerfad.sample.generate import generate

ROOT = Path(__file__).parents[2]
CLOCK, SCORES = "clock.json", "scores.json"
KINDS = ("mlp", "hashgrid")
QUALITIES = ("psnr_face", "psnr")
MARGIN_DB = 3.0
"""Nearer to the score of pictures without a head, a field has learnt nothing that could be compared."""
NAMES = {"mlp": "the paper's field, 8 × 256, 64 + 128 samples", "hashgrid": "hash grid"}
RUNG_RATIO = {"mlp": 2.0, "hashgrid": 1.4}
N_RUNGS = {"mlp": 4, "hashgrid": 16}


@dataclass(frozen=True)
class Clock:
    """Seconds inside training steps; as a moment, of the clocks that they are read from."""

    train_s: float = 0.0
    wall_s: float = 0.0

    @classmethod
    def now(cls, device: str) -> Clock:
        wall = time.perf_counter()
        return cls(time.process_time() / torch.get_num_threads() if device == "cpu" else wall, wall)

    def plus(self, start: Clock, end: Clock) -> Clock:
        return Clock(self.train_s + end.train_s - start.train_s, self.wall_s + end.wall_s - start.wall_s)


class ClockedRun(TrainingRun):
    """A training whose budget is counted by `Clock`, with a copy of the checkpoint at each of `rungs`."""

    def __init__(self, config: TrainConfig, rungs: Sequence[float], progress: Progress) -> None:
        saved = begun(config)
        config = config if saved is None else resumed_train_config(config, saved)
        dataset = load_dataset(config.dataset, config.size)
        if saved is not None:
            saved.check_dataset(dataset)
        super().__init__(config, dataset, saved, progress, time.perf_counter())
        self.rungs, self.clock = rungs, clock_of(config.out)
        self._since = Clock.now(config.device)

    @property
    def share(self) -> float:
        return self.clock.train_s / self.rungs[-1]

    def step_until_spent(self) -> Any:
        self._since = Clock.now(self.config.device)
        return super().step_until_spent()

    def stepped(self) -> None:
        before = self.clock.train_s
        self.clock = self.clock.plus(self._since, Clock.now(self.config.device))
        for k, rung in enumerate(self.rungs):
            if before < rung <= self.clock.train_s:
                self.save(rung_folder(self.config.out, k))
        self._since = Clock.now(self.config.device)

    def save(self, out: Path | None = None) -> None:
        super().save(out)
        write_json((self.config.out if out is None else out) / CLOCK, asdict(self.clock))
        self._since = Clock.now(self.config.device)


def rung_folder(run: Path, k: int) -> Path:
    return run / f"rung_{k:02d}"


def clock_of(run: Path) -> Clock:
    path = run / CLOCK
    return Clock(**json.loads(path.read_text())) if path.is_file() else Clock()


def rungs_of(kind: str, minutes: float) -> list[float]:
    """Seconds of training, ascending, the last one being the budget."""
    return [60 * minutes / RUNG_RATIO[kind] ** k for k in reversed(range(N_RUNGS[kind]))]


def budget_of(kind: str, args: argparse.Namespace) -> float:
    return float(args.minutes if kind == "mlp" else args.grid_minutes)


def config_of(kind: str, args: argparse.Namespace) -> TrainConfig:
    """The settings of one field's training."""
    return TrainConfig(
        dataset=args.dataset,
        out=args.runs / kind,
        minutes=budget_of(kind, args),
        size=args.size,
        threads=args.threads,
        device=args.device,
        preview_every_s=0.0,
        field=FieldConfig(kind=kind, precision=args.precision),
        optim=OptimConfig(n_rays=args.mlp_rays) if kind == "mlp" else OptimConfig(),
    )


def train_field(kind: str, args: argparse.Namespace, progress: Progress) -> Path:
    """Train what is missing of one field; its run."""
    config = config_of(kind, args)
    rungs = rungs_of(kind, budget_of(kind, args))
    if clock_of(config.out).train_s < rungs[-1]:
        ClockedRun(config, rungs, progress).go()
    return config.out


def scored_frames(source: AvatarSource, n: int) -> list[int]:
    """Held-out frames, evenly spread."""
    spread = np.linspace(0, len(source.positions) - 1, min(n, len(source.positions)))
    return [int(position) for position in source.positions[spread.astype(int)]]


def without_head(run: Path, args: argparse.Namespace) -> dict[str, float]:
    """What the same frames score where nothing is drawn over the torso."""
    source = AvatarSource.open(run, args.dataset, device=args.device)
    data, positions = source.dataset, scored_frames(source, args.frames)
    scorer, frames = FrameScorer(data, None, positions), []
    for position in positions:
        bare = (torso_over(data.torso(position), data.background()) * 255 + 0.5).astype(np.uint8)
        frames.append(scorer.score(SourceFrame(position, bare), data.image(position)).scores)
    return {name: float(np.mean([frame[name] for frame in frames])) for name in QUALITIES}


def scored(run: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Scores of a copy on held-out frames, evenly spread, and the speed at which it draws them."""
    path = run / SCORES
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text())
        return known
    source = AvatarSource.open(run, args.dataset, device=args.device)
    positions = scored_frames(source, args.frames)
    scorer = FrameScorer(source.dataset, None, positions)
    frames, seconds = [], []
    for position in positions:
        started = Clock.now(args.device)
        image = source.with_sound_of(position, position)
        seconds.append(Clock().plus(started, Clock.now(args.device)).train_s)
        frames.append(scorer.score(SourceFrame(position, image), source.dataset.image(position)).scores)
    scores = {
        "step": checkpoint.load_meta(run)["step"],
        **asdict(clock_of(run)),
        **{name: float(np.mean([frame[name] for frame in frames])) for name in QUALITIES},
        "frames": len(frames),
        "rays_per_s": source.dataset.height * source.dataset.width / float(np.median(seconds)),
    }
    write_json(path, scores)
    return scores


def curve_of(run: Path, args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Scores of all copies of a run, in the order of their training times."""
    found = sorted(run.glob("rung_*"))
    curve = []
    for k, folder in enumerate(found):
        progress(k / len(found), f"scoring {run.name}, copy {k + 1} of {len(found)}")
        curve.append(scored(folder, args))
    return curve


def equal_quality(
    mlp: dict[str, Any], grid: Sequence[dict[str, Any]], name: str, bare: float
) -> dict[str, Any]:
    """Training times at which the hash grid scores as high as a copy of the paper's field, for one score.

    The hash grid's is that of its first copy which scores as high, an upper bound: `missed_s` is that of the
    copy before. All of the hash grid's are None where no copy does, or where the paper's field is within
    `MARGIN_DB` of `bare`, the score without a head.
    """
    learnt = mlp[name] >= bare + MARGIN_DB
    at = next((k for k, point in enumerate(grid) if point[name] >= mlp[name]), None)
    result = {"quality": mlp[name], "mlp_s": mlp["train_s"], "mlp_wall_s": mlp["wall_s"]}
    if at is None or not learnt:
        return result | dict.fromkeys(("hashgrid_s", "missed_s", "speed_up", "wall_speed_up"))
    reached = grid[at]
    return result | {
        "hashgrid_s": reached["train_s"],
        "missed_s": grid[at - 1]["train_s"] if at > 0 else None,
        "speed_up": mlp["train_s"] / reached["train_s"],
        "wall_speed_up": mlp["wall_s"] / reached["wall_s"],
        "mlp_rays_per_s": mlp["rays_per_s"],
        "hashgrid_rays_per_s": reached["rays_per_s"],
        "drawing_speed_up": reached["rays_per_s"] / mlp["rays_per_s"],
    }


def plot(curves: dict[str, list[dict[str, Any]]]) -> str:
    """PSNR of the face over training time, as an SVG file."""
    lines = [
        Line(
            NAMES[kind],
            [math.log10(point["train_s"]) for point in curves[kind]],
            [point["psnr_face"] for point in curves[kind]],
            f"c{k}",
        )
        for k, kind in enumerate(KINDS, 1)
    ]
    end = curves["mlp"][-1]["psnr_face"]
    chart = line_chart(
        lines,
        "log10 of the seconds of training",
        "held-out PSNR of the face, dB",
        [Marker(f"{end:.1f} dB", y=end)],
        title="quality against training time of both fields",
    )
    return standalone(chart, lines)


def settings_of(run: Path) -> dict[str, Any]:
    """What a field was trained with."""
    config = checkpoint.load_meta(run)["config"]
    names = ("field", "paper_field", "optim")
    return {"seed": config["seed"], "minutes": config["minutes"], **{name: config[name] for name in names}}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train and score what is missing; everything that the JSON holds."""
    if args.dataset is None:
        args.dataset = args.runs / "sample"
        if not (args.dataset / "manifest.json").is_file():
            with progress_bar("sample") as progress:
                generate(args.dataset, seconds=args.seconds, size=args.size, progress=progress)
    curves, settings = {}, {}
    for kind in KINDS:
        with progress_bar(kind) as progress:
            run = train_field(kind, args, progress)
            curves[kind] = curve_of(run, args, progress)
        settings[kind] = settings_of(run)
    data, bare = load_dataset(args.dataset, args.size), without_head(run, args)
    end = {name: equal_quality(curves["mlp"][-1], curves["hashgrid"], name, bare[name]) for name in QUALITIES}
    way = [
        equal_quality(point, curves["hashgrid"], "psnr_face", bare["psnr_face"]) for point in curves["mlp"]
    ]
    # Places on this machine are nobody's business.
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return {
        "what": "the paper's field and the hash grid: training time to equal quality, drawing speed there",
        **provenance(args.device, []),
        "command": " ".join(["python benchmarks/e2e/bench_fields.py", *words]),
        "threads": args.threads,
        "dataset": {"name": args.dataset.name, "size": args.size, "frames": len(data)},
        "scored_on": f"{args.frames} held-out frames, evenly spread, over each frame's own torso",
        "without_head": bare,
        "equal_quality": end,
        "equal_quality_on_the_way": way,
        "curves": curves,
        "settings": settings,
    }


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--dataset", type=Path, help="a data set; by default a sample head is made")
    parser.add_argument("--size", type=int, default=48, help="rows of the pictures")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of the sample head's clip")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training of the paper's field")
    parser.add_argument("--grid-minutes", type=float, default=1.0, help="of training of the hash grid")
    parser.add_argument("--mlp-rays", type=int, default=512, help="optim.n_rays of the paper's field")
    parser.add_argument("--precision", default="float32", help="of both fields: float32 or bfloat16")
    parser.add_argument("--frames", type=int, default=4, help="held-out frames that are scored")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, default=ROOT / "out/bench_fields", help="folder of both runs")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/fields.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs/images/fields-equal-quality.svg")
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    try:
        record = measure(args)
    except KeyboardInterrupt as interruption:
        sys.exit(str(interruption) or "interrupted; the same command goes on.")
    write_json(args.out, record)
    with atomic_write(args.plot, "w") as file:
        file.write(plot(record["curves"]))
    for name, (key, value) in itertools.product(QUALITIES, record["equal_quality"]["psnr_face"].items()):
        value = record["equal_quality"][name][key]
        print(f"{name:10} {key:20} {'–' if value is None else f'{value:,.3f}'}")


if __name__ == "__main__":
    main()
