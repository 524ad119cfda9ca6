"""Pictures on disk as RGB arrays: JPEG at full chroma, PNG, always written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from nerfad.errors import InputFileError, OutputError
from nerfad.io.atomic import atomic_write

JPEG_QUALITY = 97

_TO_BGR = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
_TO_RGB = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}


def load_image(path: str | os.PathLike[str], *, channels: int | None = 3) -> np.ndarray:
    """Read a picture as uint8 [height, width, channels] in RGB (or RGBA, or grey) order.

    `channels` 3 converts whatever is there to RGB, 4 to RGBA (opaque where the file has no alpha),
    1 gives [height, width], and None keeps what the file has.
    """
    if channels not in (None, 1, 3, 4):
        raise ValueError(f"channels must be 1, 3, 4 or None, got {channels}")
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputFileError(
            f"the picture {os.fspath(path)} is missing; restore it or run the step that makes it again."
        ) from None
    except OSError as error:
        raise InputFileError(f"cannot read the picture {os.fspath(path)}: {error.strerror}.") from error
    flag = {
        None: cv2.IMREAD_UNCHANGED,
        1: cv2.IMREAD_GRAYSCALE,
        3: cv2.IMREAD_COLOR,
        4: cv2.IMREAD_UNCHANGED,
    }[channels]
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    if image is None:
        raise InputFileError(
            f"{os.fspath(path)} is not a complete picture; delete it and run the step that makes it again."
        )
    if image.dtype != np.uint8:
        image = (image // 257).astype(np.uint8)
    if image.ndim == 3:
        image = cv2.cvtColor(image, _TO_RGB[image.shape[2]]) if image.shape[2] in _TO_RGB else image
    if channels == 4:
        image = _with_alpha(image)
    return np.ascontiguousarray(image)


def _with_alpha(image: np.ndarray) -> np.ndarray:
    if image.ndim == 3 and image.shape[2] == 4:
        return image
    rgb = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    return np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=2)


def encode_image(image: np.ndarray, suffix: str, *, quality: int = JPEG_QUALITY) -> bytes:
    """Encode a uint8 RGB, RGBA or grey picture as `.jpg` (4:4:4) or `.png`; return the file's bytes."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(
            f"a picture must be uint8 [h, w] or [h, w, 3 or 4], got {image.dtype} {list(image.shape)}"
        )
    if image.ndim == 3:
        image = cv2.cvtColor(image, _TO_BGR[image.shape[2]])
    if suffix.lower() in (".jpg", ".jpeg"):
        flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
        flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    elif suffix.lower() == ".png":
        # Level 1 is three times as fast as the default and a few percent larger.
        flags = [cv2.IMWRITE_PNG_COMPRESSION, 1]
        if hasattr(cv2, "IMWRITE_PNG_FILTER_UP"):
            # One fixed filter instead of trying all five on every row: three times as fast again.
            flags += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
    else:
        raise OutputError(
            f"pictures are written as .jpg or .png, not as {suffix or 'a file without a suffix'}."
        )
    ok, data = cv2.imencode(suffix.lower(), np.ascontiguousarray(image), flags)
    if not ok:
        raise OutputError(f"a picture of shape {list(image.shape)} could not be encoded as {suffix}.")
    return data.tobytes()


def save_image(path: str | os.PathLike[str], image: np.ndarray, *, quality: int = JPEG_QUALITY) -> None:
    """Write a uint8 RGB, RGBA or grey picture; the kind (`.jpg`, `.png`) follows from the name."""
    data = encode_image(image, Path(path).suffix, quality=quality)
    with atomic_write(path) as file:
        file.write(data)
