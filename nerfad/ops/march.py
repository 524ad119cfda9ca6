"""Marching rays through the occupancy grid: which samples a field must be evaluated at."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.reference import march as reference
from nerfad.ops.reference.march import MarchResult

__all__ = ["MarchResult", "march", "march_inference"]

MAX_SAMPLES = 2**31 - 1  # where the caller sets no bound
N_RUNS = 4  # runs of samples that the first pass notes per ray (kMarchRuns in march.h)


def march(
    rays_o: Tensor,
    rays_d: Tensor,
    t_min: Tensor,
    t_max: Tensor,
    aabb: Tensor,
    density_bitfield: Tensor,
    resolution: int,
    step_size: float,
    cone_angle: float = 0.0,
    jitter: Tensor | None = None,
    max_samples: int | None = None,
    max_samples_per_ray: int = 1024,
    padded: bool = False,
) -> MarchResult:
    r"""Samples along rays, where the occupancy grid says that there may be something (as in instant-ngp).

    Each ray has its own lattice of steps, which does not depend on the grid:

    .. math::
        t^{start}_k = t_{min} + (k + jitter) \cdot step,\qquad t^{end}_k = t^{start}_k + step

    Step k becomes a sample if its midpoint lies before t_max, within the box and in an occupied cell. With a
    cone_angle > 0 steps grow with the distance: each is max(step_size, cone_angle * t_start) long and begins
    where the one before it ends. Empty space is skipped; the samples are the same as if every step were
    looked at, on every backend, in the order of the rays.

    Args:
        rays_o, rays_d: [n_rays, 3] float32, world units.
        t_min, t_max: [n_rays] float32, finite, from `ray_aabb`. A ray with t_min >= t_max gives no samples.
        aabb: [6] float32, the grid's box.
        density_bitfield: [resolution^3 / 8] uint8 in Morton order, from `pack_bitfield`.
        resolution: cells along each side: a power of two from 4 to 256.
        step_size: world units, > 0 (in units of the direction's length).
        cone_angle: growth of the steps, 0 for a fixed step.
        jitter: [n_rays] float32, each ray's shift in steps, usually uniform in [0, 1); None for 0.
        max_samples: bound on all samples together; later samples, so the last rays, are dropped.
        max_samples_per_ray: bound on the samples of a ray; later ones are dropped.
        padded: the outputs have exactly max_samples rows, filled up with zeros that belong to no ray. Shapes
            then do not depend on the data: no synchronisation on CUDA, and a graph can capture the call.

    Returns:
        MarchResult(packed_info [n_rays, 2] int64 (start, count), t_starts [n_samples], t_ends [n_samples],
        ray_indices [n_samples] int32, n_dropped int64 scalar: samples that a bound cut off).
        A ray that holds a NaN gives no samples.

    Not differentiable; positions are, see `sample_positions`.

    Raises:
        RuntimeError: a shape, dtype, device or setting is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import march
        >>> full = torch.full((4**3 // 8,), 255, dtype=torch.uint8)
        >>> origin, direction = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
        >>> box = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
        >>> samples = march(origin, direction, torch.tensor([0.0]), torch.tensor([1.0]), box, full, 4, 0.25)
        >>> samples.t_starts.tolist(), samples.packed_info.tolist()
        ([0.0, 0.25, 0.5, 0.75], [[0, 4]])
    """
    if padded and max_samples is None:
        raise ValueError("march: padded=True needs max_samples, the number of rows to pad to")
    arguments = (
        rays_o,
        rays_d,
        t_min,
        t_max,
        aabb,
        density_bitfield,
        resolution,
        step_size,
        cone_angle,
        jitter,
    )
    if not _backend.is_native():
        return reference.march(*arguments, max_samples, max_samples_per_ray, padded)
    ops = _native.ops()
    arguments = (rays_o.detach(), rays_d.detach(), *arguments[2:])
    counts, runs = ops.march_count(*arguments)
    bound = MAX_SAMPLES if max_samples is None else max_samples
    packed_info, totals = ops.march_pack(counts, bound, max_samples_per_ray)
    n_samples = bound if padded else int(totals[0])
    t_starts, t_ends, ray_indices = ops.march_write(*arguments, packed_info, runs, n_samples, padded)
    return MarchResult(packed_info, t_starts, t_ends, ray_indices, totals[1])


def march_inference(
    rays_o: Tensor,
    rays_d: Tensor,
    t_min: Tensor,
    t_max: Tensor,
    aabb: Tensor,
    density_bitfield: Tensor,
    resolution: int,
    step_size: float,
    alive: Tensor,
    cursors: Tensor,
    n_steps: int,
    cone_angle: float = 0.0,
) -> MarchResult:
    r"""The next n_steps samples of the rays that still go on: rendering in rounds, without a gradient.

    The lattice of steps is `march`'s without jitter, so that all rounds together give the same samples.

    Args:
        rays_o, rays_d, t_min, t_max, aabb, density_bitfield, resolution, step_size, cone_angle: see `march`.
        alive: [n_alive] int32, the rays to go on with, each at most once.
        cursors: [n_rays] float32, where each ray goes on, changed in place. Start with zeros; a ray that has
            come to its end is at infinity.
        n_steps: samples per ray in this round.

    Returns:
        MarchResult of n_alive rays with n_steps slots each: packed_info [n_alive, 2] (slot, count), t_starts,
        t_ends and ray_indices [n_alive * n_steps], zero in slots without a sample. n_dropped is 0.

    Not differentiable.

    Raises:
        RuntimeError: a shape, dtype, device or setting is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import march_inference
        >>> full, cursors = torch.full((4**3 // 8,), 255, dtype=torch.uint8), torch.zeros(1)
        >>> ray = (torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([0.0]),
        ...     torch.tensor([1.0]), torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]), full, 4, 0.25)
        >>> alive = torch.tensor([0], dtype=torch.int32)
        >>> [march_inference(*ray, alive, cursors, 3).t_starts.tolist() for _ in range(2)], cursors.tolist()
        ([[0.0, 0.25, 0.5], [0.75, 0.0, 0.0]], [inf])
    """
    if not _backend.is_native():
        return reference.march_inference(
            rays_o,
            rays_d,
            t_min,
            t_max,
            aabb,
            density_bitfield,
            resolution,
            step_size,
            alive,
            cursors,
            n_steps,
            cone_angle,
        )
    rays_o, rays_d = rays_o.detach(), rays_d.detach()
    packed_info, t_starts, t_ends, ray_indices = _native.ops().march_inference(
        rays_o,
        rays_d,
        t_min,
        t_max,
        aabb,
        density_bitfield,
        resolution,
        step_size,
        alive,
        cursors,
        n_steps,
        cone_angle,
    )
    none_dropped = torch.zeros((), dtype=torch.int64, device=rays_o.device)
    return MarchResult(packed_info, t_starts, t_ends, ray_indices, none_dropped)


def _fake_count(
    rays_o, rays_d, t_min, t_max, aabb, density_bitfield, resolution, step_size, cone_angle, jitter
):
    n_rays = rays_o.shape[0]
    return (
        rays_o.new_empty((n_rays,), dtype=torch.int32),
        rays_o.new_empty((n_rays, N_RUNS, 2), dtype=torch.int32),
    )


def _fake_pack(counts, max_samples, max_samples_per_ray):
    return (
        counts.new_empty((counts.shape[0], 2), dtype=torch.int64),
        counts.new_empty((2,), dtype=torch.int64),
    )


def _fake_write(rays_o, *others):
    n_samples = others[-2]
    return (
        rays_o.new_empty((n_samples,)),
        rays_o.new_empty((n_samples,)),
        rays_o.new_empty((n_samples,), dtype=torch.int32),
    )


def _fake_inference(rays_o, rays_d, t_min, t_max, aabb, bitfield, resolution, step_size, alive, *others):
    n_alive, n_slots = alive.shape[0], alive.shape[0] * others[1]
    return (
        alive.new_empty((n_alive, 2), dtype=torch.int64),
        rays_o.new_empty((n_slots,)),
        rays_o.new_empty((n_slots,)),
        alive.new_empty((n_slots,)),
    )


if _native.available():
    torch.library.register_fake("nerfad::march_count", _fake_count)
    torch.library.register_fake("nerfad::march_pack", _fake_pack)
    torch.library.register_fake("nerfad::march_write", _fake_write)
    torch.library.register_fake("nerfad::march_inference", _fake_inference)
