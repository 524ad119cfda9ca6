"""The occupancy grid: what it walks after updates, pruning and restriction."""

import pytest
import torch

from nerfad.nn import OccupancyGrid
from nerfad.ops import morton_encode

RESOLUTION = 16


def occupied(grid: OccupancyGrid) -> torch.Tensor:
    """The bitfield as bool [res, res, res], indexed by cell."""
    bits = (grid.density_bitfield[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    axis = torch.arange(grid.resolution, dtype=torch.int32)
    codes = morton_encode(torch.cartesian_prod(axis, axis, axis))
    return bits.flatten()[codes.long()].bool().view((grid.resolution,) * 3)


def in_ball(points: torch.Tensor) -> torch.Tensor:
    return (points - 0.5).norm(dim=1) < 0.3


def test_starts_full_and_restriction_carves():
    grid = OccupancyGrid(RESOLUTION)
    assert grid.share == 1.0
    grid.restrict(in_ball)
    axis = (torch.arange(RESOLUTION) + 0.5) / RESOLUTION
    centres = torch.cartesian_prod(axis, axis, axis)
    assert torch.equal(occupied(grid).flatten(), in_ball(centres))


def test_update_takes_the_largest_density_over_conditions():
    grid = OccupancyGrid(RESOLUTION)

    def density(points):
        # Matter on the left under the first condition, on the right under the second.
        left = points[:, 0] < 0.25
        right = points[:, 0] > 0.75
        return torch.stack([left * 10.0, right * 10.0])

    grid.update(density, decay=0.0)
    grid.rebuild(5.0)
    cells = occupied(grid)
    assert cells[:4].all() and cells[12:].all() and not cells[4:12].any()


def test_update_decays_what_is_gone():
    grid = OccupancyGrid(RESOLUTION)
    grid.update(lambda points: torch.full((1, len(points)), 8.0), decay=0.0)
    empty = lambda points: torch.zeros(1, len(points))  # noqa: E731
    grid.update(empty, decay=0.5)
    grid.rebuild(3.0)
    assert grid.share == 1.0
    grid.update(empty, decay=0.5)
    grid.rebuild(3.0)
    assert grid.share == 0.0


def test_outside_the_restriction_nothing_returns():
    grid = OccupancyGrid(RESOLUTION)
    grid.restrict(in_ball)
    before = occupied(grid)
    grid.update(lambda points: torch.full((1, len(points)), 100.0), decay=0.9)
    grid.rebuild(1.0)
    assert torch.equal(occupied(grid), before)


def test_pruning_keeps_seen_cells_and_their_neighbours():
    grid = OccupancyGrid(RESOLUTION)
    point = (torch.tensor([[5.0, 6.0, 7.0]]) + 0.5) / RESOLUTION
    grid.mark_seen(point, step=100)
    grid.rebuild(1.0, seen_since=50)
    expected = torch.zeros(RESOLUTION, RESOLUTION, RESOLUTION, dtype=torch.bool)
    expected[4:7, 5:8, 6:9] = True
    assert torch.equal(occupied(grid), expected)
    grid.rebuild(1.0, seen_since=100)
    assert grid.share == 0.0


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_pruning_does_not_wrap_round_the_box(corner):
    grid = OccupancyGrid(RESOLUTION)
    grid.mark_seen(torch.full((1, 3), corner), step=10)
    grid.rebuild(1.0, seen_since=0)
    assert occupied(grid).sum() == 8
