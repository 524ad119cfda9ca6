"""Where rays enter and leave an axis-aligned box."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.reference import ray_aabb as reference


def ray_aabb(
    rays_o: Tensor, rays_d: Tensor, aabb: Tensor, near: float = 0.0, far: float = 1e10
) -> tuple[Tensor, Tensor]:
    r"""Intersects rays with an axis-aligned box (slab method of Kay and Kajiya, 1986).

    .. math::
        t_{min} = \max(near, \max_a \min(\tfrac{low_a - o_a}{d_a}, \tfrac{high_a - o_a}{d_a})),\quad
        t_{max} = \min(far, \min_a \max(\tfrac{low_a - o_a}{d_a}, \tfrac{high_a - o_a}{d_a}))

    Args:
        rays_o, rays_d: [n_rays, 3] float32 (float64 on the CPU), origins and directions, world units.
        aabb: [6], (xmin, ymin, zmin, xmax, ymax, zmax).
        near, far: bounds on t, in units of the direction's length.

    Returns:
        t_min [n_rays], t_max [n_rays]. A ray that misses, and one that holds a NaN, has t_min = t_max = far.

    Not differentiable.

    Raises:
        RuntimeError: a shape, dtype or device is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import ray_aabb
        >>> box = torch.tensor([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0])
        >>> t_min, t_max = ray_aabb(torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]]), box)
        >>> t_min.tolist(), t_max.tolist()
        ([2.0], [4.0])
    """
    if not _backend.is_native():
        return reference.ray_aabb(rays_o, rays_d, aabb, near, far)
    return _native.ops().ray_aabb(rays_o.detach(), rays_d.detach(), aabb, near, far)


def _fake(rays_o, rays_d, aabb, near, far):
    return rays_o.new_empty((rays_o.shape[0],)), rays_o.new_empty((rays_o.shape[0],))


if _native.available():
    torch.library.register_fake("nerfad::ray_aabb", _fake)
