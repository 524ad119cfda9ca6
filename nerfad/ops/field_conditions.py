"""A field at the same points under several conditions."""

import torch
from torch import Tensor

from nerfad.ops.conditioned_mlp import MLPSpec, conditioned_mlp
from nerfad.ops.grid_encode import grid_encode
from nerfad.ops.grid_spec import GridSpec

__all__ = ["field_conditions"]


def field_conditions(
    positions: Tensor, table: Tensor, grid_spec: GridSpec, params: Tensor, spec: MLPSpec, cond: Tensor
) -> Tensor:
    r"""Evaluates a conditioned field under k conditions with one encoding of the positions.

    .. math::
        y_{k,i} = mlp(grid(x_i), c_k)

    For whatever needs the same points under many expressions: the density that an occupancy grid must cover
    (the maximum over k), frames of one pose, the sensitivity of a point to sound. Each condition is folded
    into one bias of the first layer; no tensor of k x n rows of features exists.

    Args:
        positions: [n, n_dims] float32 (float64 on the CPU) in [0, 1].
        table: [grid_spec.n_entries, n_features], see `grid_encode`.
        grid_spec: grid whose n_outputs are the network's d_in.
        params: [spec.n_params], see `conditioned_mlp`.
        spec: the network's shape; d_cond >= 1.
        cond: [k, spec.d_cond] conditions, k >= 1.

    Returns:
        [k, n, spec.d_out].

    Differentiable in positions, table, params and cond.

    Raises:
        RuntimeError: a shape, dtype or device is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import GridSpec, MLPSpec, field_conditions
        >>> grid = GridSpec(n_levels=1, n_features=1, base_resolution=2, finest_resolution=2)
        >>> spec = MLPSpec(d_in=1, d_cond=1, d_hidden=16, n_hidden=1, d_out=1)
        >>> params = torch.zeros(spec.n_params)
        >>> first, last = spec.split(params)
        >>> first[0][0] = torch.tensor([1.0, 10.0])  # first hidden unit: feature + 10 c
        >>> last[0][0, 0] = 1.0
        >>> table, points = torch.ones(grid.n_entries, 1), torch.rand(2, 3)
        >>> field_conditions(points, table, grid, params, spec, torch.tensor([[0.0], [0.5]])).tolist()
        [[[1.0], [1.0]], [[6.0], [6.0]]]
    """
    if cond.dim() != 2 or cond.shape[0] < 1:
        raise RuntimeError(
            f"field_conditions: cond must have shape [k >= 1, {spec.d_cond}], got {list(cond.shape)}"
        )
    if grid_spec.n_outputs != spec.d_in:
        raise RuntimeError(
            f"field_conditions: spec.d_in (the grid's outputs) must be {grid_spec.n_outputs}, got {spec.d_in}"
        )
    features = grid_encode(positions, table, grid_spec)
    return torch.stack(
        [conditioned_mlp(features, params, spec, cond[k : k + 1].contiguous()) for k in range(len(cond))]
    )
