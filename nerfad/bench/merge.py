"""Several runs on one machine, of different groups, as one result."""

from __future__ import annotations

from nerfad.bench import results
from nerfad.errors import InputFileError

MACHINE = ("device", "gpu", "cpu", "cores", "isa", "quick", "seed", "versions")  # must be the same
SOURCE = ("commit", "dirty")  # the report says so where they differ


def merged(runs: list[tuple[str, dict]]) -> dict:
    """One record of (file name, record) of several runs. Where two measured the same race, the later one
    counts. Ratios are within a run: its rounds were interleaved.

    Raises:
        InputFileError: the runs are of different machines.
    """
    (first_name, first), *others = runs
    for name, record in others:
        for key in MACHINE:
            if record[key] != first[key]:
                raise InputFileError(
                    f"{first_name} and {name} are not of one machine: {key} is {first[key]!r} in the one and "
                    f"{record[key]!r} in the other; write a report of each with --out"
                )
    records = [record for _, record in runs]
    whole = dict(first)
    for key in ("pinned", "ceilings", "scene", "sweeps", "checks"):
        whole[key] = {k: v for record in records for k, v in record[key].items()}
    whole["ceilings"] = {n: _best_roofs(records, n) for n in sorted(whole["ceilings"], key=int)}
    whole["pinned"] = {n: all(r["pinned"].get(n, True) for r in records) for n in whole["pinned"]}
    whole["threads"] = sorted({n for record in records for n in record["threads"]})
    for key in ("results", "ratio_table"):
        whole[key] = _of_latest(records, key)
    whole["ratios"] = results.headline_ratios(whole["ratio_table"])
    whole["runs"] = [{k: record[k] for k in ("command", "rounds", *SOURCE)} for record in records]
    return whole


def _best_roofs(records: list[dict], threads: str) -> dict[str, float]:
    """Of every roof the highest that a run reached; shares of the roofs stay those of the runs."""
    best: dict[str, float] = {}
    for record in records:
        for name, rate in record["ceilings"].get(threads, {}).items():
            best[name] = max(rate, best.get(name, 0.0))
    return best


def _race(row: dict) -> tuple[str, int]:
    """The group and number of threads of a figure or of a ratio: what ran interleaved."""
    return row.get("group") or row["ratio"].split("/")[0], row["threads"]


def _of_latest(records: list[dict], key: str) -> list[dict]:
    latest = {_race(row): number for number, record in enumerate(records) for row in record[key]}
    return [
        row for number, record in enumerate(records) for row in record[key] if latest[_race(row)] == number
    ]
