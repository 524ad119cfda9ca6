"""The occupancy grid: where there is anything to march through."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.reference import occupancy as reference


def occupancy_update(density_grid: Tensor, indices: Tensor, densities: Tensor, decay: float) -> None:
    r"""Lets the grid decay and raises the cells that were looked at (as in instant-ngp), in place.

    .. math::
        g \leftarrow \max(decay \cdot g,\ \max_{c,\, k:\ indices_k = cell} densities_{c,k})

    The maximum runs over several conditions: a cell is occupied if any expression puts density there. Cells
    with a negative value are out of use and stay as they are. A NaN density counts as none.

    Args:
        density_grid: [n_cells] float32 in Morton order, changed in place.
        indices: [k] int32, Morton codes of the cells that were looked at; repeats are allowed.
        densities: [n_cond, k] float32, the densities found there, >= 0.
        decay: factor on all cells in use, 0 to 1.

    Not differentiable.

    Raises:
        RuntimeError: a shape, dtype or device is wrong, or decay is not in [0, 1]. On the CPU also if an
            index lies outside of the grid; on CUDA such an index is ignored.

    Example:
        >>> import torch
        >>> from nerfad.ops import occupancy_update
        >>> grid = torch.full((8,), 2.0)
        >>> two_expressions = torch.tensor([[0.0, 5.0], [3.0, 0.0]])
        >>> occupancy_update(grid, torch.tensor([1, 6], dtype=torch.int32), two_expressions, decay=0.5)
        >>> grid.tolist()
        [1.0, 3.0, 1.0, 1.0, 1.0, 1.0, 5.0, 1.0]
    """
    if not _backend.is_native():
        return reference.occupancy_update(density_grid, indices, densities, decay)
    return _native.ops().occupancy_update(density_grid, indices, densities, decay)


def pack_bitfield(density_grid: Tensor, threshold: float) -> Tensor:
    """One bit per cell: is its density above the threshold?

    Args:
        density_grid: [n_cells] float32 in Morton order; n_cells is a multiple of 8.
        threshold: density, 1/world unit.

    Returns:
        density_bitfield [n_cells / 8] uint8; bit i of byte j is cell 8 j + i: a byte is a block of 2x2x2.

    Not differentiable.

    Raises:
        RuntimeError: a shape or dtype is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import pack_bitfield
        >>> pack_bitfield(torch.tensor([0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0]), 1.0).tolist()
        [130]
    """
    if not _backend.is_native():
        return reference.pack_bitfield(density_grid, threshold)
    return _native.ops().pack_bitfield(density_grid, threshold)


def _fake_update(density_grid, indices, densities, decay):
    return None


def _fake_pack(density_grid, threshold):
    return density_grid.new_empty((density_grid.shape[0] // 8,), dtype=torch.uint8)


if _native.available():
    torch.library.register_fake("nerfad::occupancy_update", _fake_update)
    torch.library.register_fake("nerfad::pack_bitfield", _fake_pack)
