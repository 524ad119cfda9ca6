"""Plain-torch sample positions: the definition that the kernels are tested against."""

import torch
from torch import Tensor


def ray_of_samples(packed_info: Tensor) -> tuple[Tensor, Tensor]:
    """(ray, sample) index pairs of all samples that belong to a ray."""
    starts, counts = packed_info[:, 0], packed_info[:, 1]
    n_rays = packed_info.shape[0]
    ray = torch.repeat_interleave(torch.arange(n_rays, device=packed_info.device), counts)
    first = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    return ray, starts[ray] + torch.arange(ray.shape[0], device=packed_info.device) - first


def sample_positions(
    rays_o: Tensor, rays_d: Tensor, t_starts: Tensor, t_ends: Tensor, packed_info: Tensor, aabb: Tensor
) -> Tensor:
    """See `nerfad.ops.sample_positions`."""
    ray, sample = ray_of_samples(packed_info)
    t_mid = ((t_starts + t_ends) * 0.5)[sample, None]
    low, high = aabb[:3], aabb[3:]
    inside = ((rays_o[ray] + t_mid * rays_d[ray] - low) / (high - low)).clamp(0, 1)
    return rays_o.new_zeros(t_starts.shape[0], 3).index_put((sample,), inside)
