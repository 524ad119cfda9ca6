"""The avatar file: safetensors with the settings as JSON in its metadata; read with NumPy alone."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

from nerfad.errors import InputFileError, OutputError

FORMAT = "nerfad-avatar"
VERSION = 1
_DTYPES = {"F32": np.float32, "F16": np.float16, "U8": np.uint8}
_NAMES = {np.dtype(value): key for key, value in _DTYPES.items()}
_MAX_HEADER = 1 << 20


def write(path: str | os.PathLike[str], arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> None:
    """Write an avatar file; whatever was there before stays until the new one is complete.

    Raises:
        OutputError: it cannot be written.
    """
    described = {"format": FORMAT, "version": VERSION, **settings}
    header: dict[str, Any] = {"__metadata__": {"avatar": json.dumps(described)}}
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    start = 0
    for name, array in contiguous.items():
        end = start + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    hidden = Path(path).with_name(f".{Path(path).name}.part")
    try:
        hidden.parent.mkdir(parents=True, exist_ok=True)
        with open(hidden, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in contiguous.values():
                file.write(array.tobytes())
        os.replace(hidden, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another file.") from error
    finally:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays (views of the mapped file) and settings.

    Raises:
        InputFileError: the file is missing, cut short, or no avatar.
    """
    try:
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise InputFileError(f"{path}: cannot be read as an avatar file ({error}).") from None
    try:
        n_header = int.from_bytes(data[:8], "little")
        if not 0 < n_header <= min(_MAX_HEADER, len(data) - 8):
            raise ValueError("no header")
        header = json.loads(data[8 : 8 + n_header])
        settings = json.loads(header.pop("__metadata__")["avatar"])
        if settings["format"] != FORMAT or settings["version"] != VERSION:
            raise ValueError(f"format {settings['format']} {settings['version']}")
        arrays = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            dtype = np.dtype(_DTYPES[entry["dtype"]])
            array = np.frombuffer(data, dtype, (end - begin) // dtype.itemsize, 8 + n_header + begin)
            arrays[name] = array.reshape(entry["shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputFileError(
            f"{path}: is not an avatar file of this version ({error}); export it again."
        ) from None
    return arrays, settings
