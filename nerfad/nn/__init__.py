"""The ops as modules, for anyone's radiance field."""

from nerfad.nn.conditioned_mlp import ConditionedMLP
from nerfad.nn.grid_encoding import GridEncoding
from nerfad.nn.occupancy_grid import OccupancyGrid

__all__ = ["ConditionedMLP", "GridEncoding", "OccupancyGrid"]
