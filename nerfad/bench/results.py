"""What a run leaves behind: one JSON with figures, ratios and provenance; and two of them compared."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from nerfad import __version__, _native
from nerfad.bench import CORES

SCHEMA = 2
OURS = "ours"


def provenance(device: str, argv: list[str]) -> dict:
    """Where the figures come from. No paths: the command holds the names of files alone."""
    words = [Path(word).name if "/" in word or "\\" in word else word for word in argv]
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "schema": SCHEMA,
        "command": " ".join(["python -m nerfad.bench", *words]),
        "device": device,
        "gpu": gpu,
        "cpu": _cpu_model(),
        "cores": CORES,
        "isa": _native.detected_isa(),
        "isas": list(_native.ISAS[: _native.ISAS.index(_native.detected_isa()) + 1]),
        "versions": {
            "nerfad": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "cuda": torch.version.cuda,
        },
        **_commit(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), platform.machine())


def _commit() -> dict:
    """The commit of the source tree, None where there is none."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # What the benchmark itself writes changes no code.
    code = (":/", ":(top,exclude)benchmarks/results", ":(top,exclude)docs")
    changes = git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return {
        "commit": git("rev-parse", "--short=10", "HEAD"),
        "dirty": None if changes is None else bool(changes),
    }


def timed(rows: Iterable[dict], group: str, contender: str) -> Iterator[dict]:
    return (r for r in rows if r["group"] == group and r["contender"] == contender and r["status"] == "ok")


def ratio_table(rows: list[dict]) -> list[dict]:
    """Every kernel of ours against every other contender of its group, with the same number of threads."""
    found = []
    for group in dict.fromkeys(r["group"] for r in rows):
        names = dict.fromkeys(r["contender"] for r in rows if r["group"] == group)
        for mine in timed(rows, group, OURS):
            for name in names:
                for other in timed(rows, group, name):
                    if name == OURS or other["threads"] != mine["threads"]:
                        continue
                    if other["isa"] not in (None, mine["isa"]) or (
                        other["isa"] and other["precision"] != mine["precision"]
                    ):
                        continue
                    found.append(_ratio(mine, other))
    return found


def _ratio(mine: dict, other: dict) -> dict:
    return {
        "ratio": f"{mine['group']}/{other['contender']}",
        "isa": mine["isa"],
        "precision": mine["precision"],
        "threads": mine["threads"],
        "wall": other["median_s"] / mine["median_s"],
        "cpu": other["cpu_median_s"] / mine["cpu_median_s"],
        "contended": mine["contended"] or other["contended"],
    }


def headline_ratios(table: list[dict]) -> dict[str, float]:
    """One number each, "field-fwd/eager": our fastest kernel, the most threads, wall time. Of the ratios that
    other work disturbed, none."""
    best: dict[str, dict] = {}
    for entry in table:
        held = best.get(entry["ratio"])
        if entry["contended"]:
            continue
        if held is None or (entry["threads"], entry["wall"]) > (held["threads"], held["wall"]):
            best[entry["ratio"]] = entry
    return {name: entry["wall"] for name, entry in best.items()}


def with_ratios(record: dict) -> dict:
    """The record with all ratios, the headline ones, and the names of those that were always disturbed."""
    table = ratio_table(record["results"])
    headline = headline_ratios(table)
    disturbed = sorted({entry["ratio"] for entry in table} - set(headline))
    return record | {"ratio_table": table, "ratios": headline, "disturbed_ratios": disturbed}


def key_of(row: dict) -> tuple:
    return tuple(row[k] for k in ("group", "contender", "isa", "precision", "threads"))


def compare(before: dict, after: dict, tolerance: float) -> tuple[list[list[str]], bool]:
    """Lines of a table, and whether one of our kernels got slower by more than `tolerance` or got lost.

    Each is measured against the roof of its own run where there is one: a slower machine is no regression.
    """
    new = {key_of(r): r for r in after["results"]}
    lines, worse = [["group", "contender", "threads", "before ms", "after ms", "change", "verdict"]], False
    for old in before["results"]:
        if old["status"] != "ok":
            continue
        now = new.get(key_of(old))
        name = f"{old['contender']} [{old['isa']}]" if old["isa"] else old["contender"]
        head = [
            old["group"],
            f"{name} {old['precision']}",
            str(old["threads"]),
            f"{1e3 * old['median_s']:.3f}",
        ]
        mine = old["isa"] is not None or old["contender"].startswith(OURS)
        if now is None or now["status"] != "ok":
            verdict = "not measured" if now is None else now["status"]
            lost = now is not None and mine
            worse |= lost
            lines.append([*head, "-", "-", f"REGRESSION: {verdict}" if lost else verdict])
            continue
        change = now["median_s"] / old["median_s"]
        if old.get("roof") and now.get("roof"):
            change = old["roof"]["share"] / now["roof"]["share"]
        slower = mine and change > 1 + tolerance
        trusted = not (old["contended"] or now["contended"])
        worse |= slower and trusted
        verdict = "" if not slower else "REGRESSION" if trusted else "slower, but contended"
        lines.append([*head, f"{1e3 * now['median_s']:.3f}", f"{change - 1:+.1%}", verdict])
    return lines, worse
