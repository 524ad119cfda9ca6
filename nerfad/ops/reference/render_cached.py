"""Rendering from a cache in plain torch: what the kernels are tested against."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nerfad.ops.reference.composite import composite
from nerfad.ops.reference.conditioned_mlp import conditioned_mlp
from nerfad.ops.reference.radiance_field import LOG_DENSITY_LIMIT
from nerfad.ops.reference.sh_encode import sh_encode

if TYPE_CHECKING:
    from nerfad.ops.conditioned_mlp import MLPSpec, Precision
    from nerfad.ops.render_cached import RenderCache


def render_cached(
    cache: RenderCache,
    sigma_params: Tensor,
    sigma_spec: MLPSpec,
    color_params: Tensor,
    color_spec: MLPSpec,
    cond: Tensor | None = None,
    background: Tensor | None = None,
    early_stop_eps: float = 1e-4,
    density_bias: float = 0.0,
    precision: Precision = "float32",
) -> tuple[Tensor, Tensor, Tensor]:
    """See `nerfad.ops.render_cached`. Rays may be any selection, so samples are gathered in their order."""
    counts = cache.packed_info[:, 1]
    ends = counts.cumsum(0)
    packed_info = torch.stack([ends - counts, counts], 1)
    ray_of = torch.repeat_interleave(torch.arange(counts.shape[0], device=counts.device), counts)
    offsets = torch.arange(ray_of.shape[0], device=counts.device) - packed_info[ray_of, 0]
    samples = cache.packed_info[ray_of, 0] + offsets
    h = conditioned_mlp(
        cache.features[samples].to(sigma_params.dtype), sigma_params, sigma_spec, cond, None, precision
    )
    sigmas = (h[:, 0] + density_bias).clamp(-LOG_DENSITY_LIMIT, LOG_DENSITY_LIMIT).exp()
    views = sh_encode(torch.nn.functional.normalize(cache.rays_d, dim=1), 4)
    # Views as inputs or as conditions: the parameters lie in the same order.
    d_in = color_spec.d_in + color_spec.d_cond - views.shape[1]
    color_net = dataclasses.replace(color_spec, d_in=d_in, d_cond=views.shape[1])
    rgbs = conditioned_mlp(h[:, 1:], color_params, color_net, views, ray_of.int(), precision)
    t_starts, t_ends = cache.t_starts[samples], cache.t_ends[samples]
    colors, opacities, depths, _ = composite(
        sigmas, rgbs, t_starts, t_ends, packed_info, background, early_stop_eps
    )
    return colors, opacities, depths
