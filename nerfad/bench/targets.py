"""The CPU targets of the project, and whether a result meets them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

BF16 = ("amx",)  # the instruction sets whose targets are for bfloat16 networks
RATIOS = [  # (ratio, instruction set, at least)
    ("field-fwd/eager", "avx2", 11.0),
    ("field-fwd/compile", "avx2", 6.0),
    ("field-fwd/eager", "avx512", 16.0),
    ("field-fwd/compile", "avx512", 8.0),
    ("field-fwd/eager", "amx", 42.0),
    ("field-fwd/compile", "amx", 22.0),
    ("field-fwdbwd/eager", "avx2", 8.0),
    ("field-fwdbwd/eager", "avx512", 14.0),
    ("field-fwdbwd/eager", "amx", 34.0),
    ("train-step/eager", "avx512", 15.0),
    ("train-step/eager", "amx", 30.0),
]
MLP_SHARES = [("avx2", 0.8), ("avx512", 0.7)]
FRAMES_PER_S = [("avx512", 15.0), ("amx", 35.0)]
THREADS_2 = 1.8


@dataclasses.dataclass(frozen=True)
class Verdict:
    what: str
    target: str
    found: str
    met: bool
    why: str = ""  # where it is missed


def _ours(record: dict, group: str, isa: str, threads: int) -> dict | None:
    precision = "bfloat16" if isa in BF16 else "float32"
    for r in record["results"]:
        same = (r["group"], r["isa"], r["precision"], r["threads"]) == (group, isa, precision, threads)
        if r["contender"] == "ours" and r["status"] == "ok" and same:
            return r
    return None


def _why(row: dict | None) -> str:
    """What holds a missed figure back, as far as the run tells."""
    if row is None:
        return ""
    if row["contended"]:
        return "the machine was busy: measure again"
    roof = row.get("roof")
    return f"the kernel is at {roof['share']:.0%} of its roof ({roof['name']})" if roof else ""


def verdicts(record: dict) -> Iterator[Verdict]:
    """Every target that this machine can have, with what was measured."""
    by_ratio = {(e["ratio"], e["isa"], e["precision"], e["threads"]): e for e in record["ratio_table"]}
    for isa, share in MLP_SHARES:
        for threads in record["threads"]:
            row = _ours(record, "mlp-fwd", isa, threads)
            if row:
                found = row["roof"]["share"]
                what = f"MLP, share of the multiply-add peak, {isa}, threads: {threads}"
                yield Verdict(what, f"{share:.0%}", f"{found:.0%}", found >= share, _why(row))
    for ratio, isa, least in RATIOS:
        precision = "bfloat16" if isa in BF16 else "float32"
        for threads in record["threads"]:
            entry = by_ratio.get((ratio, isa, precision, threads))
            if entry:
                row = _ours(record, ratio.split("/")[0], isa, threads)
                why = "the machine was busy: measure again" if entry["contended"] else _why(row)
                what = f"{ratio}, {isa}, threads: {threads}"
                found = f"{entry['wall']:.1f}× ({entry['cpu']:.1f}× CPU time)"
                yield Verdict(what, f"{least:g}×", found, entry["wall"] >= least, why)
    for isa, least in FRAMES_PER_S:
        row = _ours(record, "frame-512", isa, max(record["threads"]))
        if row:
            rate = 1 / row["median_s"]
            yield Verdict(f"frame-512, {isa}", f"{least:g} FPS", f"{rate:.1f} FPS", rate >= least, _why(row))
    if {1, 2} <= set(record["threads"]):
        yield from _scaling(record)


def _scaling(record: dict) -> Iterator[Verdict]:
    for group in ("field-fwd", "field-fwdbwd", "frame-512", "train-step"):
        for isa in record["isas"]:
            one, two = _ours(record, group, isa, 1), _ours(record, group, isa, 2)
            if one and two:
                found = one["median_s"] / two["median_s"]
                why = (
                    "the machine was busy: measure again"
                    if two["contended"] or one["contended"]
                    else _why(two)
                )
                what = f"two threads over one, {group}, {isa}"
                yield Verdict(what, f"{THREADS_2}×", f"{found:.2f}×", found >= THREADS_2, why)
