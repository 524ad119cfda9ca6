"""The command line of the benchmark: run, compare, report."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from nerfad import _native
from nerfad.bench import CORES, ceilings, groups, report, results, sweeps
from nerfad.bench.contender import Contender, Workload
from nerfad.bench.timing import QUICK, Row, Settings, measure, pool_is_pinned
from nerfad.errors import BackendError, InputFileError, NerfadError
from nerfad.io.atomic import atomic_write

SEED = 0
QUICK_RAYS = 128
QUICK_FRAMES = {"march": 32, "frame-256": 32, "frame-512": 48, "frame-512-cached": 48, "frame-1024": 64}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nerfad.bench", description=__doc__)
    parser.add_argument("--groups", nargs="+", metavar="PREFIX", help="only groups that begin so")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", metavar="N", help="default: 1, and all cores")
    parser.add_argument("--isa", nargs="+", metavar="LEVEL", help="only these instruction sets")
    parser.add_argument("--rounds", type=int, default=Settings.rounds)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument("--no-sweeps", action="store_true", help="without the series for the plots")
    parser.add_argument(
        "--quick", action="store_true", help="tiny inputs, no torch.compile: checks in seconds that all works"
    )
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A.json", "B.json"))
    parser.add_argument("--tolerance", type=float, default=0.1, help="of --compare, as a share")
    parser.add_argument("--report", type=Path, metavar="RESULT.json", help="writes --out and its plots")
    parser.add_argument("--out", type=Path, default=Path("docs/performance.md"))
    return parser


def run(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    try:
        if args.compare:
            before, after = map(load, args.compare)
            lines, worse = results.compare(before, after, args.tolerance)
            print(aligned(lines))
            return int(worse)
        if args.report:
            report.write(load(args.report), args.out)
            return 0
        record = measured(args, argv)
        if args.json:
            with atomic_write(args.json, "w") as file:
                json.dump(record, file, indent=1)
                file.write("\n")
        return 0
    except NerfadError as error:
        print(f"nerfad.bench: {error}", file=sys.stderr)
        return 2


def load(path: Path) -> dict:
    """A result file of this schema."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputFileError(
            f"{path} is no result of the benchmark ({error}); give a file of --json"
        ) from error
    if not isinstance(record, dict) or record.get("schema") != results.SCHEMA:
        raise InputFileError(
            f"{path} is no result of this version of the benchmark; measure again with --json"
        )
    return record


def measured(args: argparse.Namespace, argv: list[str]) -> dict:
    """Runs everything asked for, printing as it goes; the whole record."""
    _check(args)
    threads = sorted(set(args.threads or [1, CORES])) if args.device == "cpu" else [1]
    settings = QUICK if args.quick else Settings(rounds=args.rounds)
    bench = groups.Bench(args.device, QUICK_RAYS, QUICK_FRAMES) if args.quick else groups.Bench(args.device)
    record = results.provenance(args.device, argv) | {"seed": SEED, "quick": args.quick, "threads": threads}
    record |= {"rounds": settings.rounds, "pinned": {}, "ceilings": {}, "results": [], "sweeps": {}}
    for n in threads:
        torch.set_num_threads(n)
        record["pinned"][str(n)] = args.device == "cpu" and pool_is_pinned(n)
        record["ceilings"][str(n)] = ceilings.measure(args.device, n, args.quick)
        print_ceilings(n, record["ceilings"][str(n)], record["pinned"][str(n)])
    for workload in map(
        lambda w: selected(w, args.isa, args.quick), bench.workloads(groups.chosen(args.groups))
    ):
        for n in threads[:1] if workload.group == "import" else threads:
            torch.set_num_threads(n)
            rows = measure(workload, n, args.device, settings)
            figures = [with_roof(row, workload, record["ceilings"][str(n)]) for row in rows]
            record["results"] += figures
            print(
                f"\n{workload.group}, {n} thread{'s' * (n > 1)}\n{aligned(table(figures, args.device))}",
                flush=True,
            )
    record["scene"] = {str(size): asdict(counts) for size, counts in sorted(bench.counts.items())}
    for size, counts in record["scene"].items():
        print(
            f"bench head at {size}: " + ", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in counts.items())
        )
    record["ratio_table"] = results.ratio_table(record["results"])
    record["ratios"] = results.headline_ratios(record["ratio_table"])
    if not args.no_sweeps and not args.groups:
        torch.set_num_threads(threads[-1])
        record["sweeps"] = sweeps.all_sweeps(
            args.device, threads, args.quick, say=lambda t: print(t, flush=True)
        )
    return record


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


def selected(workload: Workload, isas: list[str] | None, quick: bool) -> Workload:
    """The workload without our contenders on other instruction sets, and in a quick run without
    torch.compile, which takes longer to compile than all the rest to run."""

    def stays(contender: Contender) -> bool:
        if quick and contender.name == "compile":
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


def table(figures: list[dict], device: str) -> list[list[str]]:
    """Rays per second first: all pixels, then those that hit something."""
    head = ["contender", "rays/s", "hit rays/s", "samples/s", "ms", "IQR", "min", "CPU ms"]
    head += ["kernel ms"] * (device == "cuda") + ["roof", "share", "notes"]
    lines = [head]
    for f in figures:
        name = f"{f['contender']} [{f['isa']}]" if f["isa"] else f["contender"]
        if f["precision"] != "float32":
            name += f" {f['precision']}"
        if f["status"] != "ok":
            lines.append([name, f["status"], *[""] * (len(head) - 3), f["reason"]])
            continue
        rates = [millions(f[k]) for k in ("rays_per_s", "hit_rays_per_s", "samples_per_s")]
        times = [f"{1e3 * f[k]:.3f}" for k in ("median_s", "iqr_s", "min_s", "cpu_median_s")]
        if device == "cuda":
            times.append(f"{1e3 * f['kernel_median_s']:.3f}")
        roof = f.get("roof") or {"name": "", "share": 0.0}
        share = f"{roof['share']:.0%}" if roof["name"] else ""
        notes = ", ".join(x for x in (f["variant"], "contended" * f["contended"]) if x)
        lines.append([name, *rates, *times, roof["name"], share, notes])
    return lines


def millions(rate: float) -> str:
    return f"{rate / 1e6:.3f} M" if rate else ""


def print_ceilings(threads: int, roofs: ceilings.Ceilings, pinned: bool) -> None:
    print(f"roofs, {threads} thread{'s' * (threads > 1)}{'' if pinned else ', not pinned'}:")
    for name, rate in roofs.items():
        unit, scale = ceilings.UNITS[name.split()[0]]
        print(f"  {name:16} {rate / scale:12,.1f} {unit}")


def aligned(lines: list[list[str]]) -> str:
    """Columns of a table, the first one to the left."""
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]

    def one(line: list[str]) -> str:
        cells = [
            line[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(line[1:-1], widths[1:-1], strict=True)),
        ]
        return "  ".join([*cells, line[-1]]).rstrip()

    return "\n".join(map(one, lines))
