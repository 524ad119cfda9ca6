"""Multi-resolution grid encoding: positions to interpolated features of dense, tiled and hashed levels."""

from torch import Tensor

from nerfad.ops.grid_spec import GridSpec
from nerfad.ops.reference import grid_encode as reference

__all__ = ["GridSpec", "grid_encode"]


def grid_encode(positions: Tensor, table: Tensor, spec: GridSpec) -> Tensor:
    r"""Interpolates the features of every level of a multi-resolution grid (instant-ngp, eq. 1 to 4).

    .. math::
        y_l(x) = \sum_{c \in \{0,1\}^d} \Big( \prod_a s(f_a)^{c_a} (1 - s(f_a))^{1 - c_a} \Big)
        \, table[\mathrm{entry}_l(\lfloor x\, res_l \rfloor + c)],
        \quad f = x\, res_l - \lfloor x\, res_l \rfloor

    with s the identity or smoothstep; resolutions and entries are described at `GridSpec`.

    Args:
        positions: [n, n_dims] float32 (float64 on the CPU) in [0, 1]; values outside are clamped.
        table: [spec.n_entries, n_features] float32, float16 or bfloat16 (float64 with float64 positions).
        spec: levels, resolutions and kind of the grid.

    Returns:
        [n, n_levels * n_features] in the dtype of positions, level by level.

    Differentiable in positions (not across cell borders, where the derivative jumps with linear
    interpolation; zero outside [0, 1]) and in the table, whose gradient is summed in float32 in a fixed
    order.

    Raises:
        RuntimeError: a shape, dtype or device is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import GridSpec, grid_encode
        >>> spec = GridSpec(n_dims=2, n_levels=1, n_features=1, base_resolution=1, finest_resolution=1)
        >>> table = torch.zeros(spec.n_entries, 1)
        >>> table[3] = 8.0  # the vertex (1, 1)
        >>> grid_encode(torch.tensor([[0.5, 0.5], [1.0, 1.0]]), table, spec).tolist()
        [[2.0], [8.0]]
    """
    return reference.grid_encode(positions, table, spec)
