"""Plain-torch Morton codes: the definition that the kernels are tested against."""

import torch
from torch import Tensor

BITS = 10  # per axis


def morton_encode(coords: Tensor) -> Tensor:
    """See `nerfad.ops.morton_encode`."""
    codes = torch.zeros_like(coords[:, 0])
    for bit in range(BITS):
        for axis in range(3):
            codes |= (coords[:, axis] >> bit & 1) << (3 * bit + axis)
    return codes


def morton_decode(codes: Tensor) -> Tensor:
    """See `nerfad.ops.morton_decode`."""
    coords = torch.zeros(codes.shape[0], 3, dtype=codes.dtype, device=codes.device)
    for bit in range(BITS):
        for axis in range(3):
            coords[:, axis] |= (codes >> (3 * bit + axis) & 1) << bit
    return coords
