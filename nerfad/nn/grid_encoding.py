"""Multi-resolution grid encoding as a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nerfad.nn.derived import Derived
from nerfad.ops import GridSpec, expand_cells, grid_encode


class GridEncoding(nn.Module):
    """Learnt features of positions, interpolated in a pyramid of dense, tiled or hashed grids.

    Args:
        spec: shape of the pyramid.
        init_scale: the table starts uniform in ±init_scale.

    Example:
        >>> import torch
        >>> from nerfad.nn import GridEncoding
        >>> from nerfad.ops import GridSpec
        >>> encoding = GridEncoding(GridSpec(n_dims=2, n_levels=4, n_features=2, base_resolution=4,
        ...                                  finest_resolution=32, log2_table_size=10))
        >>> encoding(torch.rand(5, 2)).shape
        torch.Size([5, 8])
    """

    def __init__(self, spec: GridSpec, init_scale: float = 1e-4) -> None:
        super().__init__()
        self.spec = spec
        table = torch.empty(spec.n_entries, spec.n_features).uniform_(-init_scale, init_scale)
        self.table = nn.Parameter(table)
        self._cells = Derived()

    @property
    def n_outputs(self) -> int:
        return self.spec.n_outputs

    def forward(self, positions: Tensor) -> Tensor:
        """Features [n, n_levels * n_features] of positions [n, n_dims] in [0, 1]."""
        return grid_encode(positions, self.table, self.spec)

    def cells(self) -> Tensor:
        """The table's cells from `nerfad.ops.expand_cells`.

        In evaluation mode they are kept until torch counts a change of the table. In training mode they are
        made at each call, since fused optimisers change a table without counting.
        """
        if self.training:
            self._cells.forget()
        return self._cells.of(lambda: expand_cells(self.table, self.spec), self.table)

    def train(self, mode: bool = True) -> GridEncoding:
        self._cells.forget()
        return super().train(mode)
