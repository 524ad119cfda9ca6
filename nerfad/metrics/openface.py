"""Presence columns of OpenFace's tables (`AU25_c`), which `data.formats` does not need."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from nerfad.errors import InputFileError


def read_units(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(presence, intensity) by unit name from an OpenFace CSV; rows that failed are NaN.

    Intensities are scaled from OpenFace's 0..5 to 0..1. Columns are found by their stripped names.
    """
    name = path
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
        header = rows[0] if rows else []
        columns = {
            key: k for k, key in enumerate(header) if key.startswith("AU") and key[-2:] in ("_c", "_r")
        }
        table = np.array([[float(cell) for cell in row] for row in rows[1:]], np.float64)
    except FileNotFoundError:
        raise InputFileError(f"{name} does not exist; check the path.") from None
    except (ValueError, UnicodeDecodeError):
        raise InputFileError(f"{name} is not a table of numbers; export it from OpenFace again.") from None
    if not columns or table.size == 0:
        raise InputFileError(f"{name} has no action-unit columns such as AU25_c; export it from OpenFace.")
    if "success" in header:
        table[table[:, header.index("success")] < 0.5] = np.nan
    presence = {key[:-2]: table[:, k] for key, k in columns.items() if key.endswith("_c")}
    intensity = {key[:-2]: np.clip(table[:, k] / 5, 0, 1) for key, k in columns.items() if key.endswith("_r")}
    return presence, intensity
