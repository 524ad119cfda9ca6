"""Spherical harmonics of directions."""

from torch import Tensor

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
    return reference.sh_encode(dirs, degree)
