"""Multi-resolution grid encoding: positions to interpolated features of dense, tiled and hashed levels."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.grid_spec import KINDS, GridSpec
from nerfad.ops.reference import grid_encode as reference

__all__ = ["GridSpec", "grid_encode"]


def grid_encode(positions: Tensor, table: Tensor, spec: GridSpec, cells: Tensor | None = None) -> Tensor:
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
        cells: the coarse levels of the same table from `expand_cells`, read instead of them: the same
            features, bit for bit. For inference: the table must not ask for a gradient.

    Returns:
        [n, n_levels * n_features] in the dtype of positions, level by level.

    Differentiable in positions (not across cell borders, where the derivative jumps with linear
    interpolation; zero outside [0, 1]) and in the table, whose gradient is summed in float32: on the CPU in
    a fixed order, on CUDA in any, unless `torch.use_deterministic_algorithms(True)`: then it is summed in
    integers of 64 bits, which gives the same bits in every run, a little more exactly and more slowly.

    Raises:
        RuntimeError: a shape, dtype or device is wrong, or the table asks for a gradient although there are
            cells; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import GridSpec, grid_encode
        >>> spec = GridSpec(n_dims=2, n_levels=1, n_features=1, base_resolution=1, finest_resolution=1)
        >>> table = torch.zeros(spec.n_entries, 1)
        >>> table[3] = 8.0  # the vertex (1, 1)
        >>> grid_encode(torch.tensor([[0.5, 0.5], [1.0, 1.0]]), table, spec).tolist()
        [[2.0], [8.0]]
    """
    if cells is not None and table.requires_grad and torch.is_grad_enabled():
        raise RuntimeError(
            "grid_encode: cells are a copy that a table's gradient does not reach; leave them out where the "
            "table learns, or call within torch.no_grad()"
        )
    if not _backend.is_native():
        return reference.grid_encode(positions, table, spec, cells=cells)
    return _native.ops().grid_encode_fwd(positions, table, *_geometry(spec), cells)


def _geometry(spec: GridSpec) -> tuple[list[int], int, int, bool]:
    return (
        spec.native_resolutions,
        spec.log2_table_size,
        KINDS.index(spec.kind),
        spec.interpolation == "smoothstep",
    )


def _fake_fwd(positions, table, resolutions, log2_table_size, kind, smoothstep, cells=None):
    return positions.new_empty((positions.shape[0], len(resolutions) * table.shape[1]))


def _fake_bwd(
    positions,
    table,
    resolutions,
    log2_table_size,
    kind,
    smoothstep,
    grad,
    needs_positions,
    needs_table,
    deterministic,
):
    n, n_dims = positions.shape
    n_entries, n_features = table.shape
    return (
        positions.new_empty((n if needs_positions else 0, n_dims)),
        positions.new_empty((n_entries if needs_table else 0, n_features)),
    )


def _setup_context(ctx, inputs, output):
    positions, table, *ctx.geometry, _ = inputs
    ctx.save_for_backward(positions, table)


def _backward(ctx, grad):
    positions, table = ctx.saved_tensors
    needs_positions, needs_table = ctx.needs_input_grad[:2]
    grad_positions, grad_table = _native.ops().grid_encode_bwd(
        positions,
        table,
        *ctx.geometry,
        grad.contiguous(),
        needs_positions,
        needs_table,
        torch.are_deterministic_algorithms_enabled(),
    )
    return (
        grad_positions if needs_positions else None,
        grad_table.to(table.dtype) if needs_table else None,
        *(None,) * 5,
    )


if _native.available():
    torch.library.register_fake("nerfad::grid_encode_fwd", _fake_fwd)
    torch.library.register_fake("nerfad::grid_encode_bwd", _fake_bwd)
    torch.library.register_autograd("nerfad::grid_encode_fwd", _backward, setup_context=_setup_context)
