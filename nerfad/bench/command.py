"""The command line of the benchmark: run, compare, report."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from pathlib import Path

from nerfad.bench import measurement, merge, report, results, tables
from nerfad.bench.timing import Settings
from nerfad.errors import InputFileError, NerfadError
from nerfad.io.atomic import atomic_write


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nerfad.bench", description=__doc__)
    parser.add_argument(
        "--groups", nargs="+", metavar="PREFIX", help="only groups that begin so; also: sweeps, checks"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", metavar="N", help="default: 1, and all cores")
    parser.add_argument("--isa", nargs="+", metavar="LEVEL", help="only these instruction sets")
    parser.add_argument("--rounds", type=int, default=Settings.rounds)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument("--no-sweeps", action="store_true", help="without sweeps (the plots) and checks")
    parser.add_argument(
        "--quick", action="store_true", help="tiny inputs, no torch.compile: checks in seconds that all works"
    )
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A.json", "B.json"))
    parser.add_argument("--tolerance", type=float, default=0.1, help="of --compare, as a share")
    parser.add_argument(
        *("--report",),
        type=Path,
        nargs="+",
        metavar="RESULT.json",
        help="writes --out and its plots, from one run or from several of one machine",
    )
    parser.add_argument("--out", type=Path, default=Path("docs/performance.md"))
    return parser


def run(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    try:
        if args.compare:
            before, after = map(load, args.compare)
            lines, worse = results.compare(before, after, args.tolerance)
            print(tables.aligned(lines))
            return int(worse)
        if args.report:
            report.write(merge.merged([(path.name, load(path)) for path in args.report]), args.out)
            return 0
        record = measurement.measured(args, argv, say=functools.partial(print, flush=True))
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
