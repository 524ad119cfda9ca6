"""Rays to pixels as the composition of the reference ops: what the fused kernel is tested against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nerfad.ops.reference.composite import composite
from nerfad.ops.reference.march import march
from nerfad.ops.reference.radiance_field import radiance_field
from nerfad.ops.reference.sample_positions import sample_positions
from nerfad.ops.reference.sh_encode import sh_encode

if TYPE_CHECKING:
    from nerfad.ops.conditioned_mlp import MLPSpec, Precision
    from nerfad.ops.grid_spec import GridSpec


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
    cells: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `nerfad.ops.render_rays_fused`."""
    samples = march(
        *(rays_o, rays_d, t_min, t_max, aabb, density_bitfield, resolution, step_size, cone_angle),
        max_samples_per_ray=max_samples_per_ray,
    )
    positions = sample_positions(rays_o, rays_d, samples.t_starts, samples.t_ends, samples.packed_info, aabb)
    views = sh_encode(torch.nn.functional.normalize(rays_d, dim=1), 4)
    sigmas, rgbs = radiance_field(
        *(positions, table, grid_spec, sigma_params, sigma_spec, color_params, color_spec),
        *(views, samples.ray_indices, cond, None, density_bias, precision, cells),
    )
    colors, opacities, depths, _ = composite(
        *(sigmas, rgbs, samples.t_starts, samples.t_ends, samples.packed_info, background, early_stop_eps)
    )
    return colors, opacities, depths
