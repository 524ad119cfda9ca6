"""Plain-torch ray marching: the definition that the kernels are tested against.

It looks at every step of every ray; the kernels skip empty space and must find the same samples.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from nerfad.ops.reference.morton import morton_encode


class MarchResult(NamedTuple):
    """Samples along rays, packed in the order of the rays."""

    packed_info: Tensor  # [n_rays, 2] int64: first sample, number of samples
    t_starts: Tensor  # [n_samples] float32, world units
    t_ends: Tensor  # [n_samples] float32
    ray_indices: Tensor  # [n_samples] int32
    n_dropped: Tensor  # int64: samples that a bound cut off


def lattice(
    t_min: Tensor, t_max: Tensor, step_size: float, cone_angle: float, jitter: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Starts and ends of all steps [n_rays, n_steps] until each ray's end; steps behind it may follow."""
    longest = float((t_max - t_min).clamp(min=0).nan_to_num(nan=0.0).max()) if t_min.numel() else 0.0
    n_steps = int(longest / step_size) + 2
    offset = torch.zeros_like(t_min) if jitter is None else jitter
    if cone_angle == 0:
        k = torch.arange(n_steps, dtype=t_min.dtype, device=t_min.device)
        starts = t_min[:, None] + (k + offset[:, None]) * step_size
        return starts, starts + step_size
    grown: list[Tensor] = []
    t = t_min + offset * (t_min * cone_angle).clamp(min=step_size)
    for _ in range(n_steps):
        grown.append(t)
        t = t + (t * cone_angle).clamp(min=step_size)
    grown.append(t)
    edges = torch.stack(grown, 1)
    return edges[:, :-1], edges[:, 1:]


def occupied_at(
    rays_o: Tensor, rays_d: Tensor, t: Tensor, aabb: Tensor, density_bitfield: Tensor, resolution: int
) -> Tensor:
    """Whether the cell at each t [n_rays, n_steps] is occupied; nothing is outside of the box."""
    low, high = aabb[:3], aabb[3:]
    scale = resolution / (high - low)
    u = ((rays_o - low) * scale)[:, None] + t[..., None] * (rays_d * scale)[:, None]
    inside = ((u >= 0) & (u <= resolution)).all(-1)
    cells = u.nan_to_num(nan=0.0).clamp(0, resolution - 1).to(torch.int32)
    codes = morton_encode(cells.reshape(-1, 3)).long()
    bits = density_bitfield[codes >> 3] >> (codes & 7).to(torch.uint8) & 1
    return inside & (bits != 0).reshape(t.shape)


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
    """See `nerfad.ops.march`."""
    starts, ends = lattice(t_min, t_max, step_size, cone_angle, jitter)
    t_mid = (starts + ends) * 0.5
    keep = occupied_at(rays_o, rays_d, t_mid, aabb, density_bitfield, resolution) & (t_mid < t_max[:, None])
    found = int(keep.sum())
    keep &= keep.cumsum(1) <= max_samples_per_ray
    if max_samples is not None:
        keep &= keep.reshape(-1).cumsum(0).reshape(keep.shape) <= max_samples
    counts = keep.sum(1)
    packed_info = torch.stack([counts.cumsum(0) - counts, counts], 1)
    ray, step = keep.nonzero(as_tuple=True)
    n_padding = max_samples - ray.shape[0] if padded and max_samples is not None else 0
    pad = torch.nn.functional.pad
    return MarchResult(
        packed_info,
        pad(starts[ray, step], (0, n_padding)),
        pad(ends[ray, step], (0, n_padding)),
        pad(ray.to(torch.int32), (0, n_padding)),
        torch.tensor(found - ray.shape[0], device=rays_o.device),
    )


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
    """See `nerfad.ops.march_inference`."""
    ids = alive.long()
    starts, ends = lattice(t_min[ids], t_max[ids], step_size, cone_angle, None)
    t_mid = (starts + ends) * 0.5
    keep = occupied_at(rays_o[ids], rays_d[ids], t_mid, aabb, density_bitfield, resolution)
    keep &= t_mid < t_max[ids, None]
    # Where a ray goes on: the number of its next step, or with growing steps that step's start.
    position = torch.arange(starts.shape[1], device=starts.device).expand_as(starts)
    keep &= (position if cone_angle == 0 else starts) >= cursors[ids, None]
    keep &= keep.cumsum(1) <= n_steps
    counts = keep.sum(1)
    row, step = keep.nonzero(as_tuple=True)
    slot = row * n_steps + (keep.cumsum(1) - 1)[row, step]
    n_slots = ids.shape[0] * n_steps
    samples = starts.new_zeros(3, n_slots)
    samples[0, slot], samples[1, slot] = starts[row, step], ends[row, step]
    ray_indices = torch.zeros(n_slots, dtype=torch.int32, device=starts.device)
    ray_indices[slot] = alive.to(torch.int32)[row]
    last = (keep * (position + 1)).amax(1) if starts.shape[1] else counts
    following = last if cone_angle == 0 else ends.gather(1, (last - 1).clamp(min=0)[:, None])[:, 0]
    # A ray that gave fewer samples than asked for has come to its end.
    finished = counts < n_steps
    cursors[ids] = torch.where(finished, torch.inf, following.to(cursors.dtype))
    packed_info = torch.stack([torch.arange(ids.shape[0], device=starts.device) * n_steps, counts], 1)
    return MarchResult(
        packed_info,
        samples[0],
        samples[1],
        ray_indices,
        torch.zeros((), dtype=torch.int64, device=starts.device),
    )
