"""How the cost of our kernels grows: with samples, threads, resolution, and samples per ray."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nerfad import ops
from nerfad.bench import scene
from nerfad.bench.batch import Batch, Field, on, our_fields, training_batch
from nerfad.bench.contender import Contender, Run, Work, Workload
from nerfad.bench.field_groups import backward, field_in_torch, gradient_seeds, without_gradient
from nerfad.bench.timing import QUICK, Settings, measure
from nerfad.errors import BackendError

BATCH_SIZES = [2**k for k in range(12, 21)]
EAGER_UP_TO = 2**16
RESOLUTIONS = (128, 256, 512, 1024)
STEP_FACTORS = (4.0, 2.0, 1.0, 0.5)


def timed(runs: dict[str, Run], device: str, settings: Settings) -> dict[str, dict]:
    """ "seconds" of a call of each, their rounds interleaved, and whether other work disturbed them."""
    contenders = tuple(Contender(name, {"": run}) for name, run in runs.items())
    race = Workload("sweep", 0, 0, 0, Work(), (), contenders, digest=lambda outputs: [])
    threads = torch.get_num_threads() if device == "cpu" else 1
    # The call at the gate is warm-up enough: the largest take seconds.
    rows = measure(race, threads, device, dataclasses.replace(settings, warm_up_s=0.0))
    failed = next((row for row in rows if row.status != "ok"), None)
    if failed:
        raise BackendError(f"the sweep's {failed.contender} failed: {failed.reason}")
    return {
        row.contender: {"seconds": statistics.median(row.wall_s), "contended": row.contended} for row in rows
    }


def tiled(b: Batch, n_samples: int) -> Batch:
    """The batch's first n_samples, or itself again and again with fresh positions nearby until there are as
    many; with their rays, so that there are as many samples on a ray whatever the size."""
    repeats = -(-n_samples // b.n_samples)
    g = torch.Generator().manual_seed(3)
    positions = b.positions.repeat(repeats, 1)[:n_samples]
    noise = torch.rand(positions.shape, generator=g).to(positions.device) * 1e-3
    indices = torch.cat([b.ray_indices + k * b.n_rays for k in range(repeats)])[:n_samples].contiguous()
    views = b.views.repeat(repeats, 1)[: int(indices[-1]) + 1].contiguous()
    return dataclasses.replace(b, positions=(positions + noise).clamp(0, 1), ray_indices=indices, views=views)


def samples_sweep(device: str, settings: Settings, sizes: list[int]) -> list[dict]:
    """Samples per second of the field, forward and with its backward pass, against the size of the batch."""
    batch, runs, points = training_batch(device), {}, {}
    fields: dict[str, Field] = {"ours": our_fields()["ours", "float32"], "eager": torch_field}
    for size in sizes:
        b = tiled(batch, size)
        own = b.with_gradients()
        with torch.no_grad():
            seeds = gradient_seeds(fields["ours"](b))
        for name, field in fields.items():
            if name == "eager" and size > EAGER_UP_TO:
                continue
            passes: dict[str, Run] = {
                "forward": without_gradient(functools.partial(field, b)),
                "forward and backward": functools.partial(trained, field, own, seeds),
            }
            for kind, run in passes.items():
                key = f"{name}, {kind}, {size}"
                runs[key] = run
                points[key] = {"contender": name, "pass": kind, "samples": size}
    return [
        points[key] | found | {"samples_per_s": points[key]["samples"] / found["seconds"]}
        for key, found in timed(runs, device, settings).items()
    ]


def torch_field(b: Batch) -> tuple[Tensor, Tensor]:
    return field_in_torch(b, "embedding")


def trained(field: Field, own: Batch, seeds: list[Tensor]) -> Sequence[Tensor]:
    return backward(field(own), own.leaves(), seeds)


def frame_points(device: str, settings: Settings, frames: list[tuple[dict, dict]]) -> list[dict]:
    """A point for each (frame, what distinguishes it)."""
    found = timed(
        {
            str(k): functools.partial(
                ops.render_rays_fused, **frame, image_width=math.isqrt(len(frame["rays_d"]))
            )
            for k, (frame, _) in enumerate(frames)
        },
        *(device, settings),
    )
    points = []
    for (frame, more), figures in zip(frames, found.values(), strict=True):
        counts = scene.counts(frame)
        points.append(
            more
            | figures
            | {
                "rays_per_s": counts.rays / figures["seconds"],
                "hit_rays_per_s": counts.rays_hit / figures["seconds"],
                "samples_per_s": counts.samples_after_termination / figures["seconds"],
                "samples_per_hit": counts.samples_after_termination / counts.rays_hit,
            }
        )
    return points


def resolution_sweep(device: str, settings: Settings, sizes: tuple[int, ...]) -> list[dict]:
    """Rays per second of the fused frame against the side of the picture."""
    frames = [(on(device, scene.frame(size)), {"size": size}) for size in sizes]
    return frame_points(device, settings, frames)


def steps_sweep(device: str, settings: Settings, size: int) -> list[dict]:
    """Rays per second against samples per ray: the density stays, the steps get shorter."""
    frame = on(device, scene.frame(size))
    frames = [
        (frame | {"step_size": scene.STEP_SIZE * factor}, {"step_factor": factor}) for factor in STEP_FACTORS
    ]
    return frame_points(device, settings, frames)


def threads_sweep(device: str, settings: Settings, size: int, threads: list[int]) -> list[dict]:
    """Rays per second of a frame, and samples per second of the field, against the number of threads."""
    frame, batch = on(device, scene.frame(size)), training_batch(device)
    field = without_gradient(functools.partial(our_fields()["ours", "float32"], batch))
    before, points = torch.get_num_threads(), []
    try:
        for n in threads:
            torch.set_num_threads(n)
            (point,) = frame_points(device, settings, [(frame, {"threads": n})])
            seconds = timed({"field": field}, device, settings)["field"]["seconds"]
            points.append(point | {"field_per_s": batch.n_samples / seconds})
    finally:
        torch.set_num_threads(before)
    return points


def all_sweeps(
    device: str, threads: list[int], settings: Settings, say: Callable[[str], None] = lambda text: None
) -> dict[str, list[dict]]:
    """Every sweep, at the most threads of the run; small ones for the settings of a quick run."""
    quick = settings == QUICK
    say("throughput against the batch size")
    found = {"samples": samples_sweep(device, settings, BATCH_SIZES[:2] if quick else BATCH_SIZES)}
    say("throughput against the resolution")
    found["resolution"] = resolution_sweep(device, settings, (32, 64) if quick else RESOLUTIONS)
    say("throughput against the samples per ray")
    found["steps"] = steps_sweep(device, settings, 64 if quick else 256)
    if device == "cpu":
        say("throughput against the threads")
        found["threads"] = threads_sweep(device, settings, 64 if quick else 512, threads)
    return found
