"""Cell-expanded levels: a copy of a grid's table in which the corners of each cell lie side by side."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.grid_spec import KINDS, GridSpec
from nerfad.ops.reference import expand_cells as reference

MAX_BYTES = 32 << 20
"""Of the cells, by default: with the rest of a frame's data they stay in an H100's 50 MB of L2 cache."""


def expand_cells(table: Tensor, spec: GridSpec, max_bytes: int = MAX_BYTES) -> Tensor:
    r"""Stores the corners of every cell of a grid's coarse levels side by side, for inference.

    .. math::
        cells[\mathrm{entry}_l(v)]_c = table[\mathrm{entry}_l(v + c)],\quad c \in \{0,1\}^d

    for the vertices v that are the lowest corner of a cell. In a dense or tiled level the entries of a cell's
    corners lie at constant distances from each other (modulo the size of the level), so that there are as
    many different cells as entries; in a hashed level they do not, and it cannot be expanded. `grid_encode`
    and `render_rays_fused` read a cell at once instead of 2^n_dims entries one by one: in three dimensions
    with two features, four loads of 16 bytes from float32 and two from 16-bit tables instead of eight.

    Meant for CUDA, where it has not been timed. On CPUs it does not pay: a frame of the bench head takes as
    long as before, and a tiled grid, whose cells outgrow the caches, up to twice as long.

    Args:
        table: [spec.n_entries, n_features] float32, float16 or bfloat16 (on the CPU also float64).
        spec: the grid. Its first levels are expanded, up to the first hashed one.
        max_bytes: bound on the memory of the cells, 2^n_dims times that of the table's levels: as many levels
            are expanded as fit.

    Returns:
        [n_cells, 2^n_dims, n_features] in the dtype of table; n_cells is `spec.offsets[k]` for the k levels
        that are expanded, possibly 0. Bit a of a corner's number selects the upper vertex along axis a.
        Rows at the upper faces of dense levels, and rows that only pad them, belong to no cell.

    Not differentiable. The cells are a copy: expand again when the table has changed.

    Raises:
        RuntimeError: a shape, dtype or setting is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import GridSpec, expand_cells, grid_encode
        >>> spec = GridSpec(n_dims=2, n_levels=1, n_features=1, base_resolution=2, finest_resolution=2)
        >>> table = torch.arange(16.0)[:, None]  # 3 x 3 vertices, padded to a multiple of 8
        >>> cells = expand_cells(table, spec)
        >>> cells[4].flatten().tolist()  # the cell from vertex (1, 1) to (2, 2)
        [4.0, 5.0, 7.0, 8.0]
        >>> grid_encode(torch.tensor([[0.75, 0.75]]), table, spec, cells).item()
        6.0
    """
    n_levels = _levels_within(spec, 2**spec.n_dims * spec.n_features * table.element_size(), max_bytes)
    with torch.no_grad():
        if not _backend.is_native():
            return reference.expand_cells(table, spec, n_levels)
        geometry = (spec.n_dims, spec.native_resolutions, spec.log2_table_size, KINDS.index(spec.kind))
        return _native.ops().expand_cells(table, *geometry, spec.offsets[n_levels])


def _levels_within(spec: GridSpec, cell_bytes: int, max_bytes: int) -> int:
    if max_bytes < 0:
        raise RuntimeError(f"expand_cells: max_bytes must not be negative, got {max_bytes}")
    n_levels = 0
    for end, dense in zip(spec.offsets[1:], spec.level_is_dense, strict=True):
        if (not dense and spec.kind == "hash") or end * cell_bytes > max_bytes:
            break
        n_levels += 1
    return n_levels


def _fake(table, n_dims, resolutions, log2_table_size, kind, n_cells):
    return table.new_empty((n_cells, 2**n_dims, table.shape[1]))


if _native.available():
    torch.library.register_fake("nerfad::expand_cells", _fake)
