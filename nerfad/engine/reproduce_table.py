"""From the scores of runs to a table: mean and spread over seeds, as JSON and as text."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nerfad.engine.reproduce_scores import finite

_PAPERS = ("psnr", "ssim", "lpips", "au_agreement", "lmd_79", "syncnet")
COLUMNS = {
    1: (*_PAPERS, "psnr_face", "lip_gap_correlation"),
    2: (*_PAPERS, "psnr_face", "lip_gap_correlation"),
    3: (
        *("psnr_face", "psnr_mouth", "lmd", "lip_gap_correlation", "lip_gap_amplitude", "au_agreement"),
        *("au_kappa", "lip_gap_error", "swap_outside", "swap_inside"),
    ),
}
"""What is printed of each table; the file has every score."""
_SHORT = {
    "lip_gap_correlation": "gap r",
    "lip_gap_amplitude": "gap amp.",
    "lip_gap_error": "gap error",
    "au_agreement": "AU acc.",
    "swap_outside": "swap out",
    "swap_inside": "swap in",
}

Results = Sequence[dict[str, Any]]
"""Of one row, one for each seed."""


def spread_over_seeds(values: Mapping[int, float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation over the seeds that have a value; null where there are too few.

    >>> spread_over_seeds({0: 1.0, 1: 3.0})["mean"], spread_over_seeds({0: 1.0})["spread"]
    (2.0, None)
    """
    known = [float(value) for value in values.values() if value is not None and finite(value)]
    return {
        "mean": statistics.fmean(known) if known else None,
        "spread": statistics.stdev(known) if len(known) > 1 else None,
        "values": {str(seed): value if finite(value) else None for seed, value in values.items()},
    }


def table_of(
    number: int, rows: Mapping[str, Results], videos: Mapping[str, Results], about: dict[str, Any]
) -> dict[str, Any]:
    """Everything that FILE.json holds.

    Args:
        rows: results of each row of the table; rows without any are left out.
        videos: results of finished videos.
        about: command, data, budget and device.
    """
    everything = [result for results in (*rows.values(), *videos.values()) for result in results]
    masks = {r["seed"]: r["mask"] for results in rows.values() for r in results if r["mask"] is not None}
    table: dict[str, Any] = {
        "table": number,
        **about,
        "seeds": sorted({r["seed"] for results in rows.values() for r in results}),
        "spread": "sample standard deviation over seeds",
        "variants": {name: _row(results) for name, results in rows.items() if results},
        "mask_iou": spread_over_seeds({seed: mask["iou"] for seed, mask in masks.items()}),
        "mask_auc": spread_over_seeds({seed: mask["auc"] for seed, mask in masks.items()}),
        "mask_faults": {str(seed): mask["faults"] for seed, mask in masks.items()},
        "threads": sorted({r["threads"] for results in rows.values() for r in results}),
        "isa": sorted({r["isa"] for results in rows.values() for r in results}),
        "frames": sorted({r["frames"] for r in everything}),
        "image_size": everything[-1]["image_size"] if everything else None,
        "reasons": everything[-1]["reasons"] if everything else {},
        "dead_units": everything[-1]["dead_units"] if everything else {},
        "versions": everything[-1]["versions"] if everything else {},
    }
    for key in ("mask_iou", "mask_auc"):
        if table[key]["mean"] is None:
            table[key] = None
    if videos:
        table["videos"] = {name: _row(results) for name, results in videos.items() if results}
    if number != 3:
        real = next((r["syncnet_of_real"] for r in everything if finite(r["syncnet_of_real"])), None)
        table["ground_truth"] = {"syncnet": real}
    return table


def _row(results: Results) -> dict[str, Any]:
    names = list(dict.fromkeys(name for result in results for name in result["scores"]))
    row: dict[str, Any] = {
        name: spread_over_seeds({r["seed"]: r["scores"].get(name) for r in results}) for name in names
    }
    stages = {str(r["seed"]): r["stages"] for r in results if "stages" in r}
    return row | ({"stages": stages} if stages else {})


def as_text(table: Mapping[str, Any]) -> str:
    """The table for a terminal: a line a row, mean ± spread."""
    shown = {**table["variants"], **table.get("videos", {})}
    columns = [
        name
        for name in COLUMNS[int(table["table"])]
        if any(row.get(name, {}).get("mean") is not None for row in shown.values())
    ]
    lines = [["", *(_SHORT.get(name, name) for name in columns)]]
    lines += [[name, *(_cell(row.get(column)) for column in columns)] for name, row in shown.items()]
    if table.get("ground_truth", {}).get("syncnet") is not None and "syncnet" in columns:
        real = f"{table['ground_truth']['syncnet']:.4g}"
        lines.append(["ground truth", *(real if name == "syncnet" else "" for name in columns)])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    for key in ("mask_iou", "mask_auc"):
        if table[key] is not None:
            text.append(f"{key} {_cell(table[key])}")
    return "\n".join(line.rstrip() for line in text)


def _cell(value: Mapping[str, Any] | None) -> str:
    if value is None or value["mean"] is None:
        return "–"
    if value["spread"] is None:
        return f"{value['mean']:.4g}"
    return f"{value['mean']:.4g} ± {value['spread']:.2g}"
