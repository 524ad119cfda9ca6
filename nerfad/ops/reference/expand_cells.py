"""Plain-torch cell-expanded levels: each cell's corners looked up one by one."""

import torch
from torch import Tensor

from nerfad.ops.grid_spec import GridSpec
from nerfad.ops.reference.grid_encode import corners, entry_index


def expand_cells(table: Tensor, spec: GridSpec, n_levels: int) -> Tensor:
    """Cells [offsets[n_levels], 2^n_dims, n_features] of the first levels. See `nerfad.ops.expand_cells`."""
    parts = [_expand_level(table, spec, level) for level in range(n_levels)]
    return torch.cat(parts) if parts else table.new_empty(0, 2**spec.n_dims, spec.n_features)


def _expand_level(table: Tensor, spec: GridSpec, level: int) -> Tensor:
    """Row i is the cell whose lowest corner is entry i, taken as the vertex nearest the origin with it."""
    stride = spec.resolutions[level] + 1
    entries = torch.arange(spec.level_sizes[level], device=table.device)
    lowest = torch.stack([entries, entries // stride, entries // stride**2][: spec.n_dims], 1)
    lowest[:, :-1] %= stride
    index = entry_index(lowest[:, None, :] + corners(spec.n_dims, table.device), spec, level)
    end = spec.offsets[level + 1]
    return torch.where(index[..., None] < end, table[index.clamp(max=end - 1)], 0)
