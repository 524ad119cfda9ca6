"""Which cells of the unit box hold matter that is seen: kept while training, walked by the march."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nerfad.ops import morton_decode, morton_encode, occupancy_update, pack_bitfield

DensityFunction = Callable[[Tensor], Tensor]
"""Positions [k, 3] in [0, 1] to densities [n_cond, k]: one row per condition."""


class OccupancyGrid(nn.Module):
    """Occupancy of the unit box in cells of Morton order.

    A cell is walked if its density, the maximum over recent conditions, exceeds a threshold, and (once
    `prune_unseen` is given) if it or a neighbour lately carried weight on some ray: density behind an
    opaque skin costs samples and shows nothing.

    Args:
        resolution: cells along each side, a power of two.

    Example:
        >>> import torch
        >>> from nerfad.nn import OccupancyGrid
        >>> grid = OccupancyGrid(16)
        >>> grid.restrict(lambda positions: positions[:, 0] < 0.5)  # a visual hull: the left half
        >>> grid.share
        0.5
        >>> grid.update(lambda positions: 10.0 * (positions[None, :, 1] < 0.5), decay=0.0)
        >>> grid.rebuild(threshold=1.0)
        >>> grid.share  # of the left half, its lower half
        0.25
    """

    density_grid: Tensor
    density_bitfield: Tensor
    allowed: Tensor
    last_seen: Tensor

    def __init__(self, resolution: int = 128) -> None:
        super().__init__()
        self.resolution = resolution
        self._order: Tensor | None = None
        n_cells = resolution**3
        self.register_buffer("density_grid", torch.full((n_cells,), 1e3))
        self.register_buffer("density_bitfield", torch.full((n_cells // 8,), 255, dtype=torch.uint8))
        self.register_buffer("allowed", torch.ones(n_cells, dtype=torch.bool))
        self.register_buffer("last_seen", torch.zeros(n_cells, dtype=torch.int32))

    def restrict(self, inside: Callable[[Tensor], Tensor], chunk: int = 1 << 18) -> None:
        """Leave only cells whose centre is `inside` (positions [k, 3] to bool [k]), e.g. a visual hull."""
        n_cells = self.resolution**3
        for start in range(0, n_cells, chunk):
            end = min(start + chunk, n_cells)
            codes = torch.arange(start, end, dtype=torch.int32, device=self.allowed.device)
            self.allowed[start : start + chunk] = inside(self.cell_centres(codes))
        self.density_grid.mul_(self.allowed)
        self.rebuild(0.0)

    def cell_centres(self, codes: Tensor) -> Tensor:
        """Positions [k, 3] in [0, 1] of the middles of cells, given by Morton codes int32 [k]."""
        return (morton_decode(codes).float() + 0.5) / self.resolution

    def cells_of(self, positions: Tensor) -> Tensor:
        """Morton codes int32 [n] of the cells that hold positions [n, 3]."""
        coords = (positions * self.resolution).to(torch.int32).clamp_(0, self.resolution - 1)
        return morton_encode(coords)

    @torch.no_grad()
    def update(self, density: DensityFunction, decay: float, chunk: int = 1 << 17) -> None:
        """Decay the grid and raise it to the density at a random point of every allowed cell.

        Args:
            density: densities [n_cond, k] at positions [k, 3]; the maximum over conditions counts.
            decay: factor on the old values, 0 forgets them.
        """
        codes = torch.nonzero(self.allowed).flatten().to(torch.int32)
        for part in codes.split(chunk):
            jitter = torch.rand(len(part), 3, device=part.device) - 0.5
            positions = self.cell_centres(part) + jitter / self.resolution
            occupancy_update(self.density_grid, part, density(positions).contiguous(), decay)

    @torch.no_grad()
    def mark_seen(self, positions: Tensor, step: int) -> None:
        """Note that samples at positions [n, 3] carried visible weight at this step."""
        self.last_seen[self.cells_of(positions).long()] = step

    @torch.no_grad()
    def rebuild(self, threshold: float, seen_since: int | None = None) -> None:
        """Remake the bitfield: density above `threshold`, seen (with neighbours) after `seen_since`."""
        grid = self.density_grid
        if seen_since is not None:
            grid = grid * self._dilated(self.last_seen > seen_since)
        self.density_bitfield.copy_(pack_bitfield(grid.contiguous(), threshold))

    def vertices_read(self, n_cells: int) -> Tensor:
        """Which vertices of a lattice over the box are read by points in allowed cells.

        Args:
            n_cells: of the lattice along each side.

        Returns:
            bool [n_cells + 1, n_cells + 1, n_cells + 1] by x, y, z.
        """
        box = self.allowed[self._linear_to_morton()].view(1, *(self.resolution,) * 3).float()
        cells = nn.functional.adaptive_max_pool3d(box, n_cells)
        return nn.functional.max_pool3d(cells, 2, stride=1, padding=1)[0] > 0

    @property
    def share(self) -> float:
        """Share of the cells that the march walks, 0 to 1."""
        bits = self.density_bitfield[:, None] >> torch.arange(
            8, dtype=torch.uint8, device=self.density_bitfield.device
        )
        return float((bits & 1).float().mean())

    def _dilated(self, cells: Tensor) -> Tensor:
        """Cells (bool, Morton order) with their 26 neighbours."""
        order = self._linear_to_morton()
        box = cells[order].view((self.resolution,) * 3)
        for dim in range(3):
            n = self.resolution - 1
            grown = box.clone()
            grown.narrow(dim, 0, n).logical_or_(box.narrow(dim, 1, n))
            grown.narrow(dim, 1, n).logical_or_(box.narrow(dim, 0, n))
            box = grown
        result = torch.empty_like(cells)
        result[order] = box.flatten()
        return result

    def _linear_to_morton(self) -> Tensor:
        device = self.density_grid.device
        if self._order is None or self._order.device != device:
            axis = torch.arange(self.resolution, dtype=torch.int32, device=device)
            coords = torch.cartesian_prod(axis, axis, axis)
            self._order = morton_encode(coords.contiguous()).long()
        return self._order
