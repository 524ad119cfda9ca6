"""What must hold at any speed: memory that does not grow with the samples, bfloat16 near float32."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from nerfad import ops
from nerfad.bench import scene
from nerfad.bench.batch import Batch, Field, on, our_fields, torch_fields, training_batch
from nerfad.bench.contender import errors
from nerfad.bench.field_groups import backward, gradient_seeds, under_autocast
from nerfad.errors import BackendError

STEP_FACTORS = (4.0, 0.25)  # few samples per ray, and 16 times as many
MEMORY_SIZE, QUICK_MEMORY_SIZE = 512, 64
GRADIENT_RAYS = 1024
PSNR_SIZE = 256


def all_checks(device: str, quick: bool) -> dict:
    """The figures of the two checks, "memory" and "bfloat16"."""
    size = QUICK_MEMORY_SIZE if quick else MEMORY_SIZE
    found: dict = {"memory": [memory_of_frame(device, size, factor) for factor in STEP_FACTORS]}
    if device == "cpu":  # CUDA kernels multiply in half precision always
        batch = training_batch(device, 128 if quick else GRADIENT_RAYS)
        found["bfloat16"] = bfloat16_gradients(batch, device)
        found["bfloat16"]["psnr"] = bfloat16_psnr(64 if quick else PSNR_SIZE)
    return found


# ---- Memory. A process of its own per frame: what another frame left behind would hide the peak.


def memory_of_frame(device: str, size: int, step_factor: float) -> dict:
    """Samples of a frame of the bench head, and the bytes that rendering it took at its peak.

    The bytes are None where the system cannot tell the peak of a part of a process."""
    code = f"from nerfad.bench.checks import print_peak; print_peak({device!r}, {size}, {step_factor})"
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed memory leaves the process at once
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BackendError(f"the frame whose memory is measured failed: {done.stderr.strip()[-300:]}")
    samples, peak = done.stdout.split()
    return {"size": size, "samples": int(samples), "peak_bytes": None if peak == "None" else int(peak)}


def print_peak(device: str, size: int, step_factor: float) -> None:
    frame = on(device, scene.frame(size)) | {"step_size": scene.STEP_SIZE * step_factor}
    render = functools.partial(ops.render_rays_fused, image_width=size)
    render(**on(device, scene.frame(8)))  # loads what is loaded once
    peak = peak_of(lambda: render(**frame), device)
    print(scene.counts(frame).samples, peak)


def peak_of(run, device: str) -> int | None:  # type: ignore[no-untyped-def]
    """Bytes by which the memory grew at most during a call."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _status_bytes("VmRSS")
        run()
        return _status_bytes("VmHWM") - before
    except OSError:
        return None


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


# ---- bfloat16


def bfloat16_gradients(batch: Batch, device: str) -> dict[str, float]:
    """Relative error of the field's gradients against float64: ours, and torch's own bfloat16's. Each is the
    largest over table, networks and condition."""
    exact = batch.cast(torch.float64).with_gradients()
    in_torch = next(iter(torch_fields().values()))
    outputs = in_torch(exact)
    seeds = gradient_seeds(outputs)
    expected = backward(outputs, exact.leaves(), seeds)

    def gradients(field: Field) -> list[Tensor]:
        own = batch.with_gradients()
        return list(backward(field(own), own.leaves(), seeds))

    autocast = under_autocast(lambda: gradients(in_torch), device)()
    mine = gradients(our_fields()["ours", "bfloat16"])
    return {"error": max(errors(mine, expected)), "autocast_error": max(errors(autocast, expected))}


def bfloat16_psnr(size: int) -> float:
    """PSNR in dB of a frame whose networks multiply in bfloat16, against the same in float32."""
    frame = scene.frame(size)
    exact, rounded = (
        ops.render_rays_fused(**frame, image_width=size, precision=precision)[0]
        for precision in ("float32", "bfloat16")
    )
    return float(-10 * (rounded - exact).square().mean().log10())
