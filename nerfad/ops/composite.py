"""Volume integration of packed samples: density and colour along rays to pixels."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.reference import composite as reference


def composite(
    sigmas: Tensor,
    rgbs: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    packed_info: Tensor,
    background: Tensor | None = None,
    early_stop_eps: float = 1e-4,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Integrates colour along rays (eq. 8 of the paper, by quadrature as in NeRF).

    .. math::
        \alpha_i = 1 - e^{-\sigma_i (t^{end}_i - t^{start}_i)},\quad T_i = \prod_{j<i} (1 - \alpha_j),\quad
        w_i = T_i \alpha_i,\quad C = \sum_i w_i c_i + (1 - \sum_i w_i)\, C_{background}

    Args:
        sigmas: [n_samples] float32 (float64 on the CPU), density per world unit, >= 0.
        rgbs: [n_samples, 3], colour of each sample.
        t_starts, t_ends: [n_samples], the sample's interval along its ray, world units.
        packed_info: [n_rays, 2] int64, first sample and number of samples of each ray.
        background: [n_rays, 3] colour behind each ray, or None for black.
        early_stop_eps: samples behind a transmittance below this get weight 0.

    Returns:
        colors [n_rays, 3], opacities [n_rays], depths [n_rays] (sum of w * t_mid, world units, not
        normalised by the opacity), weights [n_samples].

    Differentiable in sigmas, rgbs and background.

    Raises:
        RuntimeError: a shape, dtype or device is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import composite
        >>> one_ray = torch.tensor([[0, 2]])
        >>> colors, opacities, depths, weights = composite(
        ...     torch.tensor([0.0, 1e3]), torch.eye(3)[:2].contiguous(),
        ...     torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0]), one_ray)
        >>> colors.tolist(), depths.tolist()
        ([[0.0, 1.0, 0.0]], [1.5])
    """
    if not _backend.is_native():
        return reference.composite(sigmas, rgbs, t_starts, t_ends, packed_info, background, early_stop_eps)
    return _native.ops().composite_fwd(
        sigmas, rgbs, t_starts, t_ends, packed_info, background, early_stop_eps
    )


def _fake_fwd(sigmas, rgbs, t_starts, t_ends, packed_info, background, early_stop_eps):
    n_rays = packed_info.shape[0]
    return (
        sigmas.new_empty((n_rays, 3)),
        sigmas.new_empty((n_rays,)),
        sigmas.new_empty((n_rays,)),
        torch.empty_like(sigmas),
    )


def _fake_bwd(sigmas, rgbs, t_starts, t_ends, packed_info, background, early_stop_eps, *grads):
    n_background = 0 if background is None else packed_info.shape[0]
    return torch.empty_like(sigmas), torch.empty_like(rgbs), sigmas.new_empty((n_background, 3))


def _setup_context(ctx, inputs, output):
    *tensors, ctx.early_stop_eps = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, *grads):
    grad_sigmas, grad_rgbs, grad_background = _native.ops().composite_bwd(
        *ctx.saved_tensors, ctx.early_stop_eps, *(g.contiguous() for g in grads)
    )
    needs_background = ctx.saved_tensors[5] is not None
    return grad_sigmas, grad_rgbs, None, None, None, grad_background if needs_background else None, None


if _native.available():
    torch.library.register_fake("nerfad::composite_fwd", _fake_fwd)
    torch.library.register_fake("nerfad::composite_bwd", _fake_bwd)
    torch.library.register_autograd("nerfad::composite_fwd", _backward, setup_context=_setup_context)
