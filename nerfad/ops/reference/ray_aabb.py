"""Plain-torch ray-box intersection: the definition that the kernels are tested against."""

import torch
from torch import Tensor


def ray_aabb(
    rays_o: Tensor, rays_d: Tensor, aabb: Tensor, near: float = 0.0, far: float = 1e10
) -> tuple[Tensor, Tensor]:
    """See `nerfad.ops.ray_aabb`."""
    low, high = aabb[:3], aabb[3:]
    parallel = rays_d == 0
    inverse = 1 / torch.where(parallel, torch.ones_like(rays_d), rays_d)
    first, second = (low - rays_o) * inverse, (high - rays_o) * inverse
    infinity = torch.full_like(rays_d, torch.inf)
    # A ray parallel to a slab is within it everywhere or nowhere.
    within = (rays_o >= low) & (rays_o <= high)
    enter = torch.where(
        parallel, torch.where(within, -infinity, infinity), torch.minimum(first, second)
    ).amax(1)
    leave = torch.where(parallel, infinity, torch.maximum(first, second)).amin(1)
    t_min, t_max = enter.clamp(min=near), leave.clamp(max=far)
    hit = t_max > t_min
    return torch.where(hit, t_min, far), torch.where(hit, t_max, far)
