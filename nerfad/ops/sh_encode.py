"""Spherical harmonics of directions."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.reference import sh_encode as reference


def sh_encode(dirs: Tensor, degree: int = 4) -> Tensor:
    r"""Real spherical harmonics :math:`Y_l^m` of unit directions, l < degree, in instant-ngp's order and
    signs.

    Args:
        dirs: [n, 3] float32 (float64 on the CPU) unit vectors; not normalised here.
        degree: 1 to 4.

    Returns:
        [n, degree^2].

    Differentiable in dirs (as polynomials in x, y, z).

    Raises:
        RuntimeError: a shape, dtype or device is wrong, or the degree is not 1..4.

    Example:
        >>> import torch
        >>> from nerfad.ops import sh_encode
        >>> [round(v, 4) for v in sh_encode(torch.tensor([[0.0, 0.0, 1.0]]), 2)[0].tolist()]
        [0.2821, -0.0, 0.4886, -0.0]
    """
    if not _backend.is_native():
        return reference.sh_encode(dirs, degree)
    return _native.ops().sh_encode_fwd(dirs, degree)


def _fake_fwd(dirs, degree):
    return dirs.new_empty((dirs.shape[0], degree**2))


def _fake_bwd(dirs, degree, grad):
    return torch.empty_like(dirs)


def _setup_context(ctx, inputs, output):
    dirs, ctx.degree = inputs
    ctx.save_for_backward(dirs)


def _backward(ctx, grad):
    (dirs,) = ctx.saved_tensors
    return _native.ops().sh_encode_bwd(dirs, ctx.degree, grad.contiguous()), None


if _native.available():
    torch.library.register_fake("nerfad::sh_encode_fwd", _fake_fwd)
    torch.library.register_fake("nerfad::sh_encode_bwd", _fake_bwd)
    torch.library.register_autograd("nerfad::sh_encode_fwd", _backward, setup_context=_setup_context)
