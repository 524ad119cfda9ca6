"""The groups by name, built one at a time from one scene."""

from __future__ import annotations

import functools
from collections.abc import Callable

from nerfad.bench import field_groups, ray_groups, scene
from nerfad.bench.batch import N_RAYS, Batch, on, training_batch
from nerfad.bench.contender import Workload
from nerfad.errors import NerfadError

# What a group takes on two cores, in seconds: only for saying how long a run takes.
SECONDS = {
    "roofs": 20,
    "march": 20,
    "encode-fwd": 15,
    "encode-bwd": 15,
    "mlp-fwd": 30,
    "mlp-fwdbwd": 30,
    "field-fwd": 60,
    "field-fwdbwd": 60,
    "composite": 10,
    "frame-256": 40,
    "frame-512": 40,
    "frame-512-cached": 20,
    "frame-1024": 30,
    "train-step": 60,
    "import": 20,
    "sweeps": 75,
    "checks": 20,
}
EXTRAS = ("sweeps", "checks")  # not races
NAMES = tuple(name for name in SECONDS if name != "roofs" and name not in EXTRAS)

FRAME_SIZES = {"march": 256, "frame-256": 256, "frame-512": 512, "frame-512-cached": 512, "frame-1024": 1024}


def chosen(prefixes: list[str] | None) -> list[str]:
    """The groups, and sweeps and checks, whose names begin with one of the prefixes; all if there is none."""
    known = (*NAMES, *EXTRAS)
    names = [n for n in known if not prefixes or any(n.startswith(p) for p in prefixes)]
    if not names:
        raise NerfadError(f"no group begins with {' or '.join(prefixes or [])}; there are {', '.join(known)}")
    return names


class Bench:
    """The scene of a run: frames and the training batch, made once, and what they count."""

    def __init__(self, device: str, n_rays: int = N_RAYS, frame_sizes: dict[str, int] | None = None) -> None:
        self.device = device
        self.n_rays = n_rays
        self.frame_sizes = frame_sizes or FRAME_SIZES
        self.counts: dict[int, scene.Counts] = {}

    @functools.cached_property
    def batch(self) -> Batch:
        return training_batch(self.device, self.n_rays)

    def frame(self, size: int) -> dict:
        """A frame of the bench head on the device, its counts checked."""
        frame = on(self.device, scene.frame(size))
        if size not in self.counts:
            self.counts[size] = scene.checked_counts(frame)
        return frame

    def workload(self, name: str) -> Workload:
        if name.startswith("frame-") or name == "march":
            size = self.frame_sizes[name]
            frame = self.frame(size)
            if name == "march":
                return ray_groups.march(frame, self.counts[size], self.device)
            if name.endswith("cached"):
                return ray_groups.cached_frame(name, frame, self.counts[size], self.device)
            return ray_groups.frame(name, frame, self.counts[size], self.device)
        if name == "import":
            return ray_groups.import_time()
        builders: dict[str, Callable[[Batch, str], Workload]] = {
            "encode-fwd": field_groups.encode_forward,
            "encode-bwd": field_groups.encode_backward,
            "mlp-fwd": functools.partial(field_groups.mlp, with_backward=False),
            "mlp-fwdbwd": functools.partial(field_groups.mlp, with_backward=True),
            "field-fwd": functools.partial(field_groups.field, with_backward=False),
            "field-fwdbwd": functools.partial(field_groups.field, with_backward=True),
            "composite": ray_groups.composite,
            "train-step": ray_groups.train_step,
        }
        return builders[name](self.batch, self.device)
