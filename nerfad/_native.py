"""The only importer of the compiled kernels (`_C.so`): loads them once, or says why they cannot be had."""

import functools
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from nerfad.errors import BackendError

LIBRARY = Path(__file__).with_name("_C.so")
ISAS = ("portable", "avx2", "avx512", "avx512bf16", "amx")


@functools.cache
def _load() -> str | None:
    """Returns None once the library is loaded, else the reason why it is not."""
    wanted = os.environ.get("NERFAD_CPU_ISA")
    if wanted and wanted not in ISAS:
        raise BackendError(f"NERFAD_CPU_ISA must be one of {', '.join(ISAS)}, got {wanted!r}")
    if not LIBRARY.is_file():
        return f"{LIBRARY} does not exist; build it with `pip install --no-build-isolation -e .`"
    try:
        torch.ops.load_library(str(LIBRARY))
    except OSError as error:
        return (
            f"{LIBRARY} cannot be loaded ({error}); rebuild nerfad against this torch ({torch.__version__})"
        )
    return None


@torch.compiler.assume_constant_result  # torch.compile need not trace how a library is loaded
def _reason() -> str | None:
    return _load()


def available() -> bool:
    return _reason() is None


def ops() -> Any:
    """`torch.ops.nerfad`, with every compiled op registered. Raises BackendError with the remedy."""
    reason = _reason()
    if reason is not None:
        raise BackendError(f"nerfad's compiled kernels are not available: {reason}")
    return torch.ops.nerfad


def runtime() -> ModuleType:
    """The torch-free pybind11 module."""
    from nerfad import _runtime  # type: ignore[attr-defined]

    return _runtime


def isa() -> str:
    """The CPU instruction set in use: one of ISAS."""
    return ISAS[ops()._isa()]


def detected_isa() -> str:
    """The best CPU instruction set of this machine: one of ISAS."""
    return ISAS[ops()._detected_isa()]


def set_isa(name: str) -> None:
    """Uses `name` (one of ISAS), or the best of this machine if that is less. For tests and benchmarks."""
    ops()._set_isa(ISAS.index(name))


def gathers() -> bool:
    """Whether AVX-512 kernels read grids by gathers: measured once, or as NERFAD_CPU_GATHER=0|1 says."""
    return bool(ops()._gathers())


def set_gathers(on: bool) -> None:
    """For tests and benchmarks; results are the same bits either way."""
    ops()._set_gathers(on)


def cuda_status() -> str:
    """One sentence on whether the CUDA kernels were built and whether a device can run them."""
    if os.environ.get("NERFAD_CUDA_LIBRARY") is None and not LIBRARY.with_name("libnerfad_cuda.so").is_file():
        return "not built (at installation: no nvcc, no NVIDIA driver, or NERFAD_CUDA=0)"
    status = ops()._cuda_status()
    if status < 0:
        return "built, but libnerfad_cuda.so cannot be opened"
    error, devices = divmod(status, 10)
    if error or devices == 0:
        return "built, but no CUDA device or driver on this machine"
    return f"built, {devices} device(s)"
