"""Action-unit tables as OpenFace writes them (au.csv), and our own proxy in the same columns."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from nerfad.data.dataset import Dataset
from nerfad.errors import DatasetError

_SPARE_SHARE, _SPARE_ROWS = 0.1, 25
"""A table may go on beyond the last frame by so much: trailing frames without a face are left out."""
_INTENSITY = re.compile(r"AU\d\d_r")


def read_table(path: Path) -> tuple[list[str], np.ndarray]:
    """Names ("AU25", ...) and intensities float32 [n_rows, k] in 0..1 of a table's `_r` columns.

    Columns are addressed by their stripped name (OpenFace writes " AU45_r"), never by number.
    """
    with open(path, newline="") as stream:
        rows = list(csv.reader(stream))
    header = [cell.strip() for cell in rows[0]] if rows else []
    columns = [k for k, name in enumerate(header) if _INTENSITY.fullmatch(name)]
    if not columns:
        raise DatasetError(f"{path}: has no action-unit intensity columns (AU01_r ...).")
    values = np.zeros((len(rows) - 1, len(columns)), np.float32)
    for number, row in enumerate(rows[1:]):
        try:
            values[number] = [float(row[k]) for k in columns]
        except (IndexError, ValueError) as error:
            raise DatasetError(f"{path}: line {number + 2} is damaged; write the table again.") from error
    return [header[k].removesuffix("_r") for k in columns], np.clip(values / 5.0, 0.0, 1.0)


def read_action_units(dataset: Dataset, proxy_source: str = "proxy") -> None:
    """Fill a data set's action units from au.csv (OpenFace), else from au_proxy.csv, else leave none.

    Row k of a table belongs to `img_id` k; a table that does not reach the last frame is refused, and one
    that is so long that it must have been read at another frame rate.
    """
    for name, source in (("au.csv", "openface"), ("au_proxy.csv", proxy_source)):
        path = dataset.root / name
        if not path.is_file():
            continue
        names, values = read_table(path)
        needed = int(dataset.frame_ids.max()) + 1
        if len(values) < needed:
            raise DatasetError(
                f"{path}: has {len(values)} rows, but the frames go up to number {needed - 1} and need "
                f"{needed}; run the action-unit detector on the whole video, or remove the file."
            )
        if len(values) > (1 + _SPARE_SHARE) * needed + _SPARE_ROWS:
            raise DatasetError(
                f"{path}: has {len(values)} rows for {needed} frames, so its rows are not these frames; run "
                f"the action-unit detector on the frames of this data set ({dataset.fps:g} per second), or "
                "remove the file."
            )
        dataset.au_names, dataset.aus, dataset.au_source = names, values[dataset.frame_ids], source
        return
