"""Plain-torch occupancy grid: the definition that the kernels are tested against."""

import torch
from torch import Tensor


def occupancy_update(density_grid: Tensor, indices: Tensor, densities: Tensor, decay: float) -> None:
    """See `nerfad.ops.occupancy_update`."""
    in_use = density_grid >= 0
    largest = densities.nan_to_num(nan=0.0).amax(0)
    seen = torch.zeros_like(density_grid).scatter_reduce(0, indices.long(), largest, "amax")
    density_grid.copy_(torch.where(in_use, torch.maximum(density_grid * decay, seen), density_grid))


def pack_bitfield(density_grid: Tensor, threshold: float) -> Tensor:
    """See `nerfad.ops.pack_bitfield`."""
    bits = (density_grid.reshape(-1, 8) > threshold).to(torch.uint8)
    place = 2 ** torch.arange(8, dtype=torch.uint8, device=density_grid.device)
    return (bits * place).sum(1, dtype=torch.uint8)
