"""Plain-torch volume integration: what the kernels are tested against. Any device, any float dtype."""

import torch
from torch import Tensor


def composite(
    sigmas: Tensor,
    rgbs: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    packed_info: Tensor,
    background: Tensor | None = None,
    early_stop_eps: float = 1e-4,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `nerfad.ops.composite`."""
    n_rays = packed_info.shape[0]
    starts, counts = packed_info[:, 0], packed_info[:, 1]
    ray = torch.repeat_interleave(torch.arange(n_rays, device=sigmas.device), counts)
    first = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    step = torch.arange(ray.shape[0], device=sigmas.device) - first
    longest = int(counts.max()) if n_rays else 0

    # One padded row per ray: simple, differentiable, and free of a cumulative sum across rays.
    index = starts[ray] + step
    padded = sigmas.new_zeros(n_rays, longest)
    optical = padded.index_put((ray, step), sigmas[index] * (t_ends - t_starts)[index])
    reached = torch.exp(-(torch.cumsum(optical, 1) - optical))
    weights_padded = reached * -torch.expm1(-optical) * (reached >= early_stop_eps)
    weights = sigmas.new_zeros(sigmas.shape).index_put((index,), weights_padded[ray, step])

    w = weights[index]
    t_mid = ((t_starts + t_ends) * 0.5)[index]
    colors = sigmas.new_zeros(n_rays, 3).index_add(0, ray, w[:, None] * rgbs[index])
    opacities = sigmas.new_zeros(n_rays).index_add(0, ray, w)
    depths = sigmas.new_zeros(n_rays).index_add(0, ray, w * t_mid)
    if background is not None:
        colors = colors + (1 - opacities)[:, None] * background
    return colors, opacities, depths, weights
