"""Which implementation an op runs on: the compiled kernels or the plain-torch reference.

`NERFAD_BACKEND=native` (fail without the kernels), `reference` (plain torch), or `auto` (the default: native
if it was built, else the reference with one warning). `use_backend` overrides it within a block.
"""

import contextlib
import contextvars
import functools
import os
import warnings
from collections.abc import Iterator

import torch

from nerfad import _native
from nerfad.errors import BackendError

BACKENDS = ("auto", "native", "reference")
_emulating = False
_override: contextvars.ContextVar[str | None] = contextvars.ContextVar("nerfad_backend", default=None)


@functools.cache
def _warn_once() -> None:
    warnings.warn(
        "nerfad runs on the plain-torch reference ops, many times slower: its kernels are not built "
        "(pip install --no-build-isolation -e .)",
        stacklevel=4,
    )


def backend() -> str:
    """The backend in use: "native" or "reference"."""
    wanted = _override.get() or os.environ.get("NERFAD_BACKEND", "auto")
    if wanted not in BACKENDS:
        raise BackendError(f"NERFAD_BACKEND must be one of {', '.join(BACKENDS)}, got {wanted!r}")
    if wanted == "auto":
        if _native.available():
            return "native"
        _warn_once()
        return "reference"
    return wanted


@torch.compiler.assume_constant_result  # torch.compile asks once, when it traces
def is_native() -> bool:
    return backend() == "native"


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Runs the ops of the block on `name` ("native", "reference" or "auto")."""
    if name not in BACKENDS:
        raise BackendError(f"the backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    token = _override.set(name)
    try:
        yield
    finally:
        _override.reset(token)


def is_emulating() -> bool:
    """Whether CPU tensors go through the emulated CUDA kernels."""
    return _emulating


@contextlib.contextmanager
def emulated_cuda() -> Iterator[None]:
    """Sends CPU tensors through the CUDA sources, run by the SIMT emulator. For tests; needs NERFAD_EMU=1."""
    global _emulating
    _native.ops()._set_emulation(True)
    _emulating = True
    try:
        yield
    finally:
        _emulating = False
        _native.ops()._set_emulation(False)
