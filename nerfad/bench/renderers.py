"""A frame without a fused kernel: every op once over all samples, or in rounds as RAD-NeRF does."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nerfad import ops
from nerfad.bench.batch import Batch, Field, march_arguments
from nerfad.ops.reference.march import march as march_reference
from nerfad.ops.reference.sample_positions import sample_positions as positions_reference
from nerfad.ops.reference.sh_encode import sh_encode as sh_reference

EARLY_STOP = 1e-4
RAYS_PER_MARCH = (
    1 << 15
)  # the reference looks at every step of every ray: a whole frame would fill the memory


def field_inputs(frame: dict, positions: Tensor, ray_indices: Tensor, views: Tensor) -> Batch:
    """A batch for the fields; where the samples lie on their rays is the renderer's business."""
    none = positions.new_empty(0)
    return Batch(
        positions=positions,
        ray_indices=ray_indices,
        views=views,
        t_starts=none,
        t_ends=none,
        packed_info=torch.empty((0, 2), dtype=torch.int64),
        rays={},
        **{k: frame[k] for k in ("table", "sigma_params", "color_params", "cond")},
    )


def op_by_op(frame: dict, field: Field) -> Tensor:
    """Every sample of the frame, those behind an early stop as well, one op after the other."""
    found = ops.march(**march_arguments(frame))
    spans = (found.t_starts, found.t_ends, found.packed_info)
    positions = ops.sample_positions(frame["rays_o"], frame["rays_d"], *spans, frame["aabb"])
    views = ops.sh_encode(frame["rays_d"], 4)
    sigmas, rgbs = field(field_inputs(frame, positions, found.ray_indices, views))
    return ops.composite(sigmas, rgbs, *spans, frame["background"])[0]


def rad_style(frame: dict, field: Field) -> Tensor:
    """The loop of torch-ngp, RAD-NeRF and ER-NeRF on our ops: march a few steps of the rays that still go on,
    evaluate every slot, integrate, drop the rays that ended."""
    n_rays = frame["rays_o"].shape[0]
    device = frame["rays_o"].device
    views = ops.sh_encode(frame["rays_d"], 4)
    alive = torch.arange(n_rays, dtype=torch.int32, device=device)
    cursors = torch.zeros(n_rays, device=device)
    colors, through = torch.zeros(n_rays, 3, device=device), torch.ones(n_rays, device=device)
    while alive.numel():
        n_steps = max(min(n_rays // alive.numel(), 8), 1)
        found = ops.march_inference(**march_arguments(frame), alive=alive, cursors=cursors, n_steps=n_steps)
        rows = alive.long()
        spans = (found.t_starts, found.t_ends, found.packed_info)
        positions = ops.sample_positions(frame["rays_o"][rows], frame["rays_d"][rows], *spans, frame["aabb"])
        sigmas, rgbs = field(field_inputs(frame, positions, found.ray_indices, views))
        seen, opacities, _, _ = ops.composite(sigmas, rgbs, *spans, None, 0.0)
        colors[rows] += through[rows, None] * seen
        through[rows] *= 1 - opacities
        alive = alive[(through[rows] >= EARLY_STOP) & torch.isfinite(cursors[rows])]
    return colors + through[:, None] * frame["background"]


def in_torch(frame: dict, field: Field, n_steps: int) -> Tensor:
    """Plain torch at its best: march once, then rounds of `n_steps` samples of the rays that go on; rays that
    miss and slots without a sample are never evaluated."""
    device = frame["rays_o"].device
    starts, counts, t_starts, t_ends = _march_in_torch(frame)
    views = sh_reference(frame["rays_d"], 4)
    colors, through = torch.zeros_like(frame["rays_o"]), torch.ones_like(frame["t_min"])
    alive, done = counts.nonzero()[:, 0], 0
    slots = torch.arange(n_steps, device=device)
    while alive.numel():
        held = slots < (counts[alive] - done)[:, None]
        sample = (starts[alive, None] + done + slots)[held]
        ray = alive[:, None].expand_as(held)[held]
        t0, t1 = t_starts[sample], t_ends[sample]
        one_each = torch.stack([torch.arange(len(ray), device=device), torch.ones_like(ray)], 1)
        rays = (frame["rays_o"][ray], frame["rays_d"][ray])
        positions = positions_reference(*rays, t0, t1, one_each, frame["aabb"])
        sigmas, rgbs = field(field_inputs(frame, positions, ray.int(), views))
        optical = sigmas.new_zeros(held.shape).masked_scatter_(held, sigmas * (t1 - t0))
        color = rgbs.new_zeros((*held.shape, 3)).masked_scatter_(held[..., None], rgbs)
        before = through[alive, None] * torch.exp(-(optical.cumsum(1) - optical))
        weights = before * -torch.expm1(-optical) * (before >= EARLY_STOP)
        colors[alive] += (weights[..., None] * color).sum(1)
        through[alive] -= weights.sum(1)
        done += n_steps
        # `through` is 1 - opacity, which stands still once the transmittance has passed the limit.
        alive = alive[(before[:, -1] * torch.exp(-optical[:, -1]) >= EARLY_STOP) & (counts[alive] > done)]
    return colors + through[:, None] * frame["background"]


def _march_in_torch(frame: dict) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First sample and number of samples of each ray, starts and ends, from the rays that hit the box."""
    inside = (frame["t_min"] < frame["t_max"]).nonzero()[:, 0]
    counts = torch.zeros(frame["t_min"].shape[0], dtype=torch.int64, device=inside.device)
    parts = []
    arguments = march_arguments(frame)
    for rows in inside.split(RAYS_PER_MARCH):
        of_rays = {k: arguments[k][rows] for k in ("rays_o", "rays_d", "t_min", "t_max")}
        found = march_reference(**(arguments | of_rays))
        counts[rows] = found.packed_info[:, 1]
        parts.append((found.t_starts, found.t_ends))
    t_starts, t_ends = (torch.cat(column) for column in zip(*parts, strict=True))
    return counts.cumsum(0) - counts, counts, t_starts, t_ends


def chunked(render: Callable[[dict], Tensor], frame: dict, n_rays: int) -> Tensor:
    """Rays in portions, where all samples at once would not fit."""
    per_ray = ("rays_o", "rays_d", "t_min", "t_max", "background")
    parts = [
        render(frame | {k: frame[k][first : first + n_rays] for k in per_ray})
        for first in range(0, frame["rays_o"].shape[0], n_rays)
    ]
    return torch.cat(parts)
