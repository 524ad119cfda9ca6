"""A field integrated along rays as the composition of reference ops: what the kernels are tested against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nerfad.ops.reference.composite import composite
from nerfad.ops.reference.radiance_field import radiance_field

if TYPE_CHECKING:
    from nerfad.ops.conditioned_mlp import MLPSpec, Precision
    from nerfad.ops.grid_spec import GridSpec


def rays_of_samples(packed_info: Tensor, n_samples: int) -> Tensor:
    """[n_samples] int32, the ray of each sample; rays may lie in any order. Does not synchronise."""
    starts, counts = packed_info.unbind(1)
    sample = torch.arange(n_samples, device=starts.device)
    ray = torch.arange(starts.shape[0], dtype=torch.int32, device=starts.device)
    # Each ray marks its first sample (an empty one marks a row behind the end), and the mark is carried on.
    at = torch.where(counts > 0, starts, n_samples)
    ray_at = ray.new_zeros(n_samples + 1).scatter(0, at, ray)
    begins = sample.new_zeros(n_samples + 1).scatter(0, at, at)[:n_samples]
    return ray_at[begins.cummax(0).values]


def render_samples(
    positions: Tensor,
    table: Tensor,
    grid_spec: GridSpec,
    sigma_params: Tensor,
    sigma_spec: MLPSpec,
    color_params: Tensor,
    color_spec: MLPSpec,
    views: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    packed_info: Tensor,
    background: Tensor | None = None,
    cond: Tensor | None = None,
    cond_index: Tensor | None = None,
    density_bias: float = 0.0,
    early_stop_eps: float = 1e-4,
    precision: Precision = "float32",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `nerfad.ops.render_samples`."""
    ray_indices = rays_of_samples(packed_info, positions.shape[0])
    sigmas, rgbs = radiance_field(
        *(positions, table, grid_spec, sigma_params, sigma_spec, color_params, color_spec, views),
        *(ray_indices, cond, None if cond_index is None else cond_index[ray_indices]),
        *(density_bias, precision),
    )
    return composite(sigmas, rgbs, t_starts, t_ends, packed_info, background, early_stop_eps)
