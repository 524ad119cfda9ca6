"""How the cost of our kernels grows: with samples, threads, resolution, and samples per ray."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable

import torch

from nerfad import ops
from nerfad.bench import scene
from nerfad.bench.batch import Batch, Field, on, our_fields, training_batch
from nerfad.bench.contender import Run
from nerfad.bench.field_groups import backward, field_in_torch, gradient_seeds, without_gradient
from nerfad.bench.timing import seconds_of

BATCH_SIZES = [2**k for k in range(12, 21)]
EAGER_UP_TO = 2**16
RESOLUTIONS = (128, 256, 512, 1024)
STEP_FACTORS = (4.0, 2.0, 1.0, 0.5)


def typical(run: Run, device: str, rounds: int) -> float:
    """Median seconds of a call after one to warm up."""
    run()
    return statistics.median(seconds_of(run, device) for _ in range(rounds))


def tiled(b: Batch, n_samples: int) -> Batch:
    """The batch's samples, cut or repeated with fresh positions nearby, until there are n_samples."""
    repeats = -(-n_samples // b.n_samples)
    g = torch.Generator().manual_seed(3)
    positions = b.positions.repeat(repeats, 1)[:n_samples]
    noise = torch.rand(positions.shape, generator=g).to(positions.device) * 1e-3
    index = b.ray_indices.repeat(repeats)[:n_samples].sort().values
    return dataclasses.replace(b, positions=(positions + noise).clamp(0, 1), ray_indices=index)


def samples_sweep(device: str, rounds: int, sizes: list[int]) -> list[dict]:
    """Samples per second of the field, forward and with its backward pass, against the size of the batch."""
    batch, points = training_batch(device), []
    best = our_fields()["ours", "float32"]
    for size in sizes:
        b = tiled(batch, size)
        fields: dict[str, Field] = {"ours": best}
        if size <= EAGER_UP_TO:
            fields["eager"] = lambda b: field_in_torch(b, "embedding")
        for name, field in fields.items():
            own = b.with_gradients()
            with torch.no_grad():
                seeds = gradient_seeds(field(b))

            def trained(f: Field = field, own: Batch = own, seeds: list = seeds) -> object:
                return backward(f(own), own.leaves(), seeds)

            forward = without_gradient(lambda f=field, b=b: f(b))  # type: ignore[misc]
            for kind, run in (("forward", forward), ("forward and backward", trained)):
                seconds = typical(run, device, rounds)  # type: ignore[arg-type]
                points.append(
                    {"contender": name, "pass": kind, "samples": size, "samples_per_s": size / seconds}
                )
    return points


def frame_point(device: str, rounds: int, frame: dict, **more: float) -> dict:
    counts = scene.counts(frame)
    seconds = typical(lambda: ops.render_rays_fused(**frame), device, rounds)
    return {
        **more,
        "rays_per_s": counts.rays / seconds,
        "hit_rays_per_s": counts.rays_hit / seconds,
        "samples_per_s": counts.samples_after_termination / seconds,
        "samples_per_hit": counts.samples_after_termination / counts.rays_hit,
    }


def resolution_sweep(device: str, rounds: int, sizes: tuple[int, ...]) -> list[dict]:
    """Rays per second of the fused frame against the side of the picture."""
    return [frame_point(device, rounds, on(device, scene.frame(size)), size=size) for size in sizes]


def steps_sweep(device: str, rounds: int, size: int) -> list[dict]:
    """Rays per second against samples per ray: the density stays, the steps get shorter."""
    frame = on(device, scene.frame(size))
    return [
        frame_point(device, rounds, frame | {"step_size": scene.STEP_SIZE * factor}, step_factor=factor)
        for factor in STEP_FACTORS
    ]


def threads_sweep(device: str, rounds: int, size: int, threads: list[int]) -> list[dict]:
    """Rays per second of a frame, and samples per second of the field, against the number of threads."""
    frame, batch, before, points = (
        on(device, scene.frame(size)),
        training_batch(device),
        torch.get_num_threads(),
        [],
    )
    field = our_fields()["ours", "float32"]
    try:
        for n in threads:
            torch.set_num_threads(n)
            seconds = typical(without_gradient(lambda: field(batch)), device, rounds)
            points.append(
                frame_point(device, rounds, frame, threads=n) | {"field_per_s": batch.n_samples / seconds}
            )
    finally:
        torch.set_num_threads(before)
    return points


def all_sweeps(
    device: str, threads: list[int], quick: bool, say: Callable[[str], None] = lambda text: None
) -> dict[str, list[dict]]:
    """Every sweep, at the most threads of the run."""
    rounds = 1 if quick else 5
    sizes = BATCH_SIZES[:2] if quick else BATCH_SIZES
    say("sweep over samples")
    found = {"samples": samples_sweep(device, rounds, sizes)}
    say("sweep over resolutions")
    found["resolution"] = resolution_sweep(device, rounds, (32, 64) if quick else RESOLUTIONS)
    say("sweep over samples per ray")
    found["steps"] = steps_sweep(device, rounds, 64 if quick else 256)
    if device == "cpu":
        say("sweep over threads")
        found["threads"] = threads_sweep(device, rounds, 64 if quick else 512, threads)
    return found
