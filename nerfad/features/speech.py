"""What the speech encoder listens to, and where its weights come from.

The encoder is the lower half of a small conformer that its authors trained to write down phonemes (the
`hama` package, Apache-2.0, 4.7 MB); `nerfad models fetch` brings the file. What it has learnt from many
speakers in hundreds of hours cannot be learnt from a minute of one.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nerfad.errors import InputFileError, ModelNotFoundError
from nerfad.models_store import find_model

MODEL = "speech_encoder"
N_BLOCKS = 2  # of four: higher ones know the phoneme but no longer when
LOG_FLOOR = float(np.log(1e-10))

_WINDOW, _HOP = 400, 160
_MAGIC = b"HAMAPK\x01\x02"
_ALIGN = 16
_DTYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
_PREFIX = "acoustic_model.model.blocks.{}."
# Our name of a block's part: the file's name of it. The others are found by the order of their shapes.
_BLOCK_PARTS = {
    "norm_ffn1.weight": "ffn1.norm.weight",
    "norm_ffn1.bias": "ffn1.norm.bias",
    "ffn1.0.bias": "ffn1.fc1.bias",
    "ffn1.2.bias": "ffn1.fc2.bias",
    "norm_attention.weight": "attn_norm.weight",
    "norm_attention.bias": "attn_norm.bias",
    "to_qkv.bias": "attn.in_proj_bias",
    "from_heads.bias": "attn.out_proj.bias",
    "norm_conv.weight": "conv.norm.weight",
    "norm_conv.bias": "conv.norm.bias",
    "pointwise1.weight": "conv.pointwise1.weight",
    "pointwise1.bias": "conv.pointwise1.bias",
    "pointwise2.weight": "conv.pointwise2.weight",
    "pointwise2.bias": "conv.pointwise2.bias",
    "norm_ffn2.weight": "ffn2.norm.weight",
    "norm_ffn2.bias": "ffn2.norm.bias",
    "ffn2.0.bias": "ffn2.fc1.bias",
    "ffn2.2.bias": "ffn2.fc2.bias",
    "norm_out.weight": "norm.weight",
    "norm_out.bias": "norm.bias",
}
_BLOCK_MATRICES = (
    "ffn1.0.weight",
    "ffn1.2.weight",
    "to_qkv.weight",
    "from_heads.weight",
    "ffn2.0.weight",
    "ffn2.2.weight",
)


def speech_mel(wave: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """The encoder's own log-mel rows, float32 [n, 80], 0 for silence; row k is centred at k / 100 s.

    Args:
        wave: float32 [n], 16 kHz.
        filters: [201, 80], part of the weights.
    """
    n_rows = 1 + len(wave) // _HOP
    padded = np.zeros((n_rows - 1) * _HOP + _WINDOW, np.float32)
    half = _WINDOW // 2
    n_used = min(len(wave), len(padded) - half)
    padded[half : half + n_used] = wave[:n_used]
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    window = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
    rows = []
    for start in range(0, n_rows, 4096):
        spectrum = np.fft.rfft(frames[start : start + 4096] * window)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        rows.append(np.log(np.maximum(power @ filters, 1e-10)) - LOG_FLOOR)
    return np.concatenate(rows).astype(np.float32)


def is_available(models: str | Path | None = None) -> bool:
    """Whether `load_speech_weights` will find its file."""
    try:
        find_model(MODEL, models)
    except ModelNotFoundError:
        return False
    return True


@lru_cache(maxsize=1)
def load_speech_weights(models: str | Path | None = None) -> dict[str, np.ndarray]:
    """Weights of `nerfad.models.speech_encoder.SpeechEncoder` by name, float32.

    Raises:
        ModelNotFoundError: the file is not there.
        InputFileError: it is not what it should be.
    """
    path = find_model(MODEL, models)
    try:
        return _named(read_tensors(path))
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise InputFileError(f"{path}: is not the speech encoder of hama 1.7 ({error}).") from error


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a weight file: a table of (name, type, shape, offset, size), then their bytes."""
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        raise ValueError("wrong first bytes")
    offset = len(_MAGIC)
    (n_tensors,) = struct.unpack_from("<I", data, offset)
    offset += 4
    entries = []
    for _ in range(n_tensors):
        (length,) = struct.unpack_from("<H", data, offset)
        name = data[offset + 2 : offset + 2 + length].decode()
        offset += 2 + length
        kind, n_dims = data[offset], data[offset + 1]
        shape = struct.unpack_from(f"<{n_dims}I", data, offset + 2)
        offset += 2 + 4 * n_dims
        start, _ = struct.unpack_from("<QQ", data, offset)
        offset += 16
        entries.append((name, _DTYPES[kind], shape, start))
    base = -(-offset // _ALIGN) * _ALIGN
    return {
        name: np.frombuffer(data, dtype, int(np.prod(shape)), base + start).reshape(shape).astype(np.float32)
        for name, dtype, shape, start in entries
    }


def _named(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parts that the encoder uses, under its own names."""
    convs = [value for name, value in tensors.items() if "Conv_" in name]  # weight, bias in turn
    matrices = [value for name, value in tensors.items() if "MatMul_" in name]
    named = {"filters": tensors["mel_fb"], "subsample.weight": convs[0], "subsample.bias": convs[1]}
    for block in range(N_BLOCKS):
        ours, theirs = f"blocks.{block}.", _PREFIX.format(block)
        for name, part in _BLOCK_PARTS.items():
            named[ours + name] = tensors[theirs + part]
        for name, matrix in zip(_BLOCK_MATRICES, matrices[6 * block :], strict=False):
            named[ours + name] = np.ascontiguousarray(matrix.T)
        named[ours + "depthwise.weight"], named[ours + "depthwise.bias"] = convs[
            2 + 2 * block : 4 + 2 * block
        ]
    return named
