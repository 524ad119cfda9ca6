"""Rays to pixels as the composition of the reference ops: what the fused kernel is tested against."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nerfad.ops.reference.composite import composite
from nerfad.ops.reference.conditioned_mlp import conditioned_mlp
from nerfad.ops.reference.grid_encode import grid_encode
from nerfad.ops.reference.march import march
from nerfad.ops.reference.sample_positions import sample_positions
from nerfad.ops.reference.sh_encode import sh_encode

if TYPE_CHECKING:
    from nerfad.ops.conditioned_mlp import MLPSpec, Precision
    from nerfad.ops.grid_spec import GridSpec

LOG_DENSITY_LIMIT = 15.0


def render_rays_fused(
    rays_o: Tensor,
    rays_d: Tensor,
    t_min: Tensor,
    t_max: Tensor,
    aabb: Tensor,
    density_bitfield: Tensor,
    resolution: int,
    step_size: float,
    table: Tensor,
    grid_spec: GridSpec,
    sigma_params: Tensor,
    sigma_spec: MLPSpec,
    color_params: Tensor,
    color_spec: MLPSpec,
    cond: Tensor | None = None,
    background: Tensor | None = None,
    early_stop_eps: float = 1e-4,
    max_samples_per_ray: int = 1024,
    density_bias: float = 0.0,
    cone_angle: float = 0.0,
    precision: Precision = "float32",
) -> tuple[Tensor, Tensor, Tensor]:
    """See `nerfad.ops.render_rays_fused`."""
    samples = march(
        *(rays_o, rays_d, t_min, t_max, aabb, density_bitfield, resolution, step_size, cone_angle),
        max_samples_per_ray=max_samples_per_ray,
    )
    positions = sample_positions(rays_o, rays_d, samples.t_starts, samples.t_ends, samples.packed_info, aabb)
    features = grid_encode(positions, table, grid_spec)
    h = conditioned_mlp(features, sigma_params, sigma_spec, cond, precision=precision)
    sigmas = (h[:, 0] + density_bias).clamp(-LOG_DENSITY_LIMIT, LOG_DENSITY_LIMIT).exp()
    # The view as a condition of each ray, also where the network takes it as inputs: the parameters lie in
    # the same order.
    views = sh_encode(torch.nn.functional.normalize(rays_d, dim=1), 4)
    color_net = dataclasses.replace(color_spec, d_in=h.shape[1] - 1, d_cond=views.shape[1])
    rgbs = conditioned_mlp(
        *(h[:, 1:], color_params, color_net, views, samples.ray_indices), precision=precision
    )
    colors, opacities, depths, _ = composite(
        *(sigmas, rgbs, samples.t_starts, samples.t_ends, samples.packed_info, background, early_stop_eps)
    )
    return colors, opacities, depths
