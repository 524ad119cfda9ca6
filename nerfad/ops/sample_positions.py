"""Where samples lie in the box: midpoints of their intervals, scaled to [0, 1]."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.reference import sample_positions as reference


def sample_positions(
    rays_o: Tensor, rays_d: Tensor, t_starts: Tensor, t_ends: Tensor, packed_info: Tensor, aabb: Tensor
) -> Tensor:
    r"""Positions of packed samples, for the grid encoding.

    .. math::
        x_i = clamp\left(\frac{o_r + \tfrac12 (t^{start}_i + t^{end}_i) d_r - low}{high - low}, 0, 1\right)

    Args:
        rays_o, rays_d: [n_rays, 3] float32 (float64 on the CPU), world units.
        t_starts, t_ends: [n_samples], each sample's interval along its ray.
        packed_info: [n_rays, 2] int64, first sample and number of samples of each ray.
        aabb: [6], the box that becomes [0, 1]^3.

    Returns:
        positions [n_samples, 3]; samples that belong to no ray are at 0.

    Differentiable in rays_o and rays_d (for the refinement of poses); a clamped coordinate has gradient 0.

    Raises:
        RuntimeError: a shape, dtype or device is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import sample_positions
        >>> box = torch.tensor([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0])
        >>> sample_positions(torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]]),
        ...     torch.tensor([2.5]), torch.tensor([3.5]), torch.tensor([[0, 1]]), box).tolist()
        [[0.5, 0.5, 0.5]]
    """
    if not _backend.is_native():
        return reference.sample_positions(rays_o, rays_d, t_starts, t_ends, packed_info, aabb)
    return _native.ops().sample_positions_fwd(rays_o, rays_d, t_starts, t_ends, packed_info, aabb)


def _fake_fwd(rays_o, rays_d, t_starts, t_ends, packed_info, aabb):
    return rays_o.new_empty((t_starts.shape[0], 3))


def _fake_bwd(rays_o, rays_d, t_starts, t_ends, packed_info, aabb, grad_positions):
    return torch.empty_like(rays_o), torch.empty_like(rays_d)


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad_positions):
    grad_o, grad_d = _native.ops().sample_positions_bwd(*ctx.saved_tensors, grad_positions.contiguous())
    return grad_o, grad_d, None, None, None, None


if _native.available():
    torch.library.register_fake("nerfad::sample_positions_fwd", _fake_fwd)
    torch.library.register_fake("nerfad::sample_positions_bwd", _fake_bwd)
    torch.library.register_autograd("nerfad::sample_positions_fwd", _backward, setup_context=_setup_context)
