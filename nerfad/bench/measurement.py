"""A run: roofs, races of all contenders, sweeps and checks, with the time that is left."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, replace

import torch

from nerfad import _native
from nerfad.bench import CORES, ceilings, checks, groups, results, sweeps, tables
from nerfad.bench.contender import Contender, Workload
from nerfad.bench.timing import QUICK, Row, Settings, measure, pool_is_pinned
from nerfad.errors import BackendError, NerfadError

SEED = 0
QUICK_RAYS = 128
QUICK_FRAMES = {"march": 32, "frame-256": 32, "frame-512": 48, "frame-512-cached": 48, "frame-1024": 64}
Say = Callable[[str], None]


class Clock:
    """Says how far the run is, and how long the rest takes at the pace so far."""

    def __init__(self, steps: list[str], say: Say) -> None:
        self.left = list(steps)
        self.say = say
        self.start = time.perf_counter()
        self.done, self.total = 0.0, sum(groups.SECONDS[name] for name in steps)
        say(f"{len(steps)} steps, about {minutes(self.total)} on two cores")

    def step(self, name: str) -> None:
        """Called when the step begins."""
        pace = (time.perf_counter() - self.start) / self.done if self.done else 1.0
        number = len(self.left)
        self.left.remove(name)
        self.say(f"\n{name}: {number} to go, about {minutes((self.total - self.done) * pace)} left")
        self.done += groups.SECONDS[name]


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def measured(args: argparse.Namespace, argv: list[str], say: Say) -> dict:
    """Runs everything asked for, printing as it goes; the whole record."""
    _check(args)
    threads = sorted(set(args.threads or [1, CORES])) if args.device == "cpu" else [1]
    settings = QUICK if args.quick else Settings(rounds=args.rounds)
    bench = groups.Bench(args.device, QUICK_RAYS, QUICK_FRAMES) if args.quick else groups.Bench(args.device)
    names = [n for n in groups.chosen(args.groups) if not (args.no_sweeps and n in groups.EXTRAS)]
    record = results.provenance(args.device, argv) | {"seed": SEED, "quick": args.quick, "threads": threads}
    record |= {"rounds": settings.rounds, "pinned": {}, "ceilings": {}, "results": []}
    record |= {"sweeps": {}, "checks": {}}
    clock = Clock(["roofs", *names], say)
    clock.step("roofs")
    for n in threads:
        torch.set_num_threads(n)
        record["pinned"][str(n)] = args.device == "cpu" and pool_is_pinned(n)
        record["ceilings"][str(n)] = ceilings.measure(args.device, n, args.quick)
        say(tables.roofs(n, record["ceilings"][str(n)], record["pinned"][str(n)]))
    for name in names:
        clock.step(name)
        torch.set_num_threads(threads[-1])
        if name == "sweeps":
            record["sweeps"] = sweeps.all_sweeps(args.device, threads, settings, say)
        elif name == "checks":
            record["checks"] = checks.all_checks(args.device, args.quick)
        else:
            record["results"] += race(bench.workload(name), threads, args, settings, record["ceilings"], say)
    record["scene"] = {str(size): asdict(counts) for size, counts in sorted(bench.counts.items())}
    for size, counts in record["scene"].items():
        say(f"bench head at {size}: " + ", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in counts.items()))
    return results.with_ratios(record)


def race(
    workload: Workload,
    threads: list[int],
    args: argparse.Namespace,
    settings: Settings,
    roofs: dict[str, ceilings.Ceilings],
    say: Say,
) -> list[dict]:
    """The figures of all contenders with every number of threads."""
    found = []
    for n in threads[-1:] if workload.group == "import" else threads:
        torch.set_num_threads(n)
        racing = selected(workload, args.isa, args.quick, n == threads[-1])
        rows = measure(racing, n, args.device, settings)
        figures = [with_roof(row, workload, roofs[str(n)]) for row in rows]
        found += figures
        say(f"{workload.group}, {tables.counted(n, 'thread')}\n{tables.race(figures, args.device)}\n")
    return found


def _check(args: argparse.Namespace) -> None:
    if args.device == "cuda" and not torch.cuda.is_available():
        raise BackendError("there is no CUDA device that this torch can use; run with --device cpu")
    if not _native.available():
        _native.ops()  # raises, with the remedy
    unknown = sorted(set(args.isa or []) - set(_native.ISAS))
    if unknown:
        raise NerfadError(f"--isa must be of {', '.join(_native.ISAS)}, got {', '.join(unknown)}")
    if args.rounds < 1 or any(n < 1 for n in args.threads or []):
        raise NerfadError("--rounds and --threads must be at least 1")


def selected(workload: Workload, isas: list[str] | None, quick: bool, most_threads: bool) -> Workload:
    """The workload without our contenders on other instruction sets, without those that race with the most
    threads alone, and in a quick run without torch.compile, which takes longer to compile than all the rest
    to run."""

    def stays(contender: Contender) -> bool:
        if (quick and contender.name == "compile") or (contender.one_run and not most_threads):
            return False
        return not isas or contender.isa is None or contender.isa in isas

    return replace(workload, contenders=tuple(filter(stays, workload.contenders)))


def with_roof(row: Row, workload: Workload, roofs: ceilings.Ceilings) -> dict:
    """The row's figures, with the share of the roof that limits it."""
    figures = row.figures(workload)
    contender = Contender(row.contender, {}, row.isa, row.precision)
    limit = ceilings.roof(workload.work, contender, roofs)
    if row.status == "ok" and limit:
        seconds = figures.get("kernel_median_s", figures["median_s"])
        figures["roof"] = {"name": limit[0], "share": limit[1] / seconds}
    return figures
