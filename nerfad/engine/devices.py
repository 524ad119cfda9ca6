"""Where a model runs: the device that a command asks for, checked before anything else is done."""

from __future__ import annotations

import torch

from nerfad import _native
from nerfad.errors import BackendError
from nerfad.ops import backend


def checked_device(name: str) -> torch.device:
    """The torch device called `name`: "cpu", "cuda" or "cuda:1".

    Raises:
        BackendError: there is no such device, or no kernels for it; the sentence says what to do.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BackendError(f"--device {name}: is no device; use cpu, cuda or cuda:1.") from None
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise BackendError(f"--device {name}: there are kernels for cpu and cuda only.")
    if not torch.cuda.is_available():
        raise BackendError(
            f"--device {name}: torch {torch.__version__} sees no CUDA device; use --device cpu, or install a "
            "CUDA build of torch and a driver."
        )
    if (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(f"--device {name}: there are only {torch.cuda.device_count()} CUDA devices.")
    status = _native.cuda_status()
    if backend() == "native" and "device(s)" not in status:
        raise BackendError(
            f"--device {name}: the CUDA kernels are {status}; build them with NERFAD_CUDA=1 make install."
        )
    return device
