"""The radiance field as the composition of the reference ops: what the fused kernels are tested against."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch import Tensor

from nerfad.ops.reference.conditioned_mlp import conditioned_mlp
from nerfad.ops.reference.grid_encode import grid_encode

if TYPE_CHECKING:
    from nerfad.ops.conditioned_mlp import MLPSpec, Precision
    from nerfad.ops.grid_spec import GridSpec

LOG_DENSITY_LIMIT = 15.0


def radiance_field(
    positions: Tensor,
    table: Tensor,
    grid_spec: GridSpec,
    sigma_params: Tensor,
    sigma_spec: MLPSpec,
    color_params: Tensor,
    color_spec: MLPSpec,
    views: Tensor,
    ray_indices: Tensor | None = None,
    cond: Tensor | None = None,
    cond_index: Tensor | None = None,
    density_bias: float = 0.0,
    precision: Precision = "float32",
    cells: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """See `nerfad.ops.radiance_field`; `cells` as in `nerfad.ops.grid_encode`."""
    features = grid_encode(positions, table, grid_spec, cells=cells)
    h = conditioned_mlp(features, sigma_params, sigma_spec, cond, cond_index, precision)
    sigmas = (h[:, 0] + density_bias).clamp(-LOG_DENSITY_LIMIT, LOG_DENSITY_LIMIT).exp()
    n_view = views.shape[1]
    # Views as inputs or as conditions: the parameters lie in the same order.
    d_in = color_spec.d_in + color_spec.d_cond - n_view
    color_net = dataclasses.replace(color_spec, d_in=d_in, d_cond=n_view)
    rgbs = conditioned_mlp(h[:, 1:], color_params, color_net, views, ray_indices, precision)
    # Under autocast the networks' outputs are of a smaller type.
    return sigmas.to(positions.dtype), rgbs.to(positions.dtype)
