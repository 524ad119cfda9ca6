"""Plain-torch multi-resolution grid encoding: the definition that the kernels are tested against.

Four ways to compute the same thing, since which one is fastest in eager torch depends on machine and size:
the table is read by indexing or by `embedding`, level by level or all levels at once. Benchmarks compare with
the fastest.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from nerfad.ops.grid_spec import GridSpec

PRIMES = (1, 2654435761, 805459861)


def grid_encode(
    positions: Tensor,
    table: Tensor,
    spec: GridSpec,
    lookup: str = "index",
    batched: bool = False,
    cells: Tensor | None = None,
) -> Tensor:
    """See `nerfad.ops.grid_encode`. `lookup` is "index" or "embedding"; `batched` handles all levels at
    once, without cells."""
    # Gradients of a half or bfloat16 table are summed in the positions' precision and rounded once.
    table = table.to(positions.dtype)
    positions = positions.clamp(0, 1)
    if batched:
        return _encode_all_levels(positions, table, spec, lookup)
    n_expanded = 0 if cells is None else spec.offsets.index(len(cells))
    features = [
        _encode_level(positions, table, spec, level, lookup, cells if level < n_expanded else None)
        for level in range(len(spec.resolutions))
    ]
    return torch.cat(features, -1)


def _encode_level(
    positions: Tensor, table: Tensor, spec: GridSpec, level: int, lookup: str, cells: Tensor | None
) -> Tensor:
    resolution = spec.resolutions[level]
    scaled = positions * resolution
    cell = scaled.detach().floor().clamp_(max=resolution - 1)
    offsets = corners(spec.n_dims, positions.device)
    vertices = cell.long()[:, None, :] + offsets
    weights = _corner_weights(scaled - cell, offsets, spec)
    if cells is not None:
        entries = cells[entry_index(cell.long(), spec, level)]
    else:
        entries = _read(table, entry_index(vertices, spec, level), lookup)
    return (entries * weights[..., None]).sum(1)


def _encode_all_levels(positions: Tensor, table: Tensor, spec: GridSpec, lookup: str) -> Tensor:
    resolutions = positions.new_tensor(spec.resolutions)[:, None]
    scaled = positions[:, None, :] * resolutions  # [n, levels, dims]
    cell = torch.minimum(scaled.detach().floor(), resolutions - 1)
    offsets = corners(spec.n_dims, positions.device)
    vertices = cell.long()[:, :, None, :] + offsets
    index = torch.stack([entry_index(vertices[:, k], spec, k) for k in range(len(spec.resolutions))], 1)
    weights = _corner_weights(scaled - cell, offsets, spec)
    return (_read(table, index, lookup) * weights[..., None]).sum(2).flatten(1)


def entry_index(vertices: Tensor, spec: GridSpec, level: int) -> Tensor:
    """The table entry of integer vertices [..., n_dims] of a level."""
    axes = vertices.unbind(-1)
    if spec.level_is_dense[level] or spec.kind == "tiled":
        stride = spec.resolutions[level] + 1
        index = axes[-1]
        for axis in reversed(axes[:-1]):
            index = axis + stride * index
    else:
        index = axes[0]
        for axis, prime in zip(axes[1:], PRIMES[1:], strict=False):
            index = index ^ (axis * prime)
    if not spec.level_is_dense[level]:
        index = index & (spec.level_sizes[level] - 1)
    return index + spec.offsets[level]


def corners(n_dims: int, device: torch.device) -> Tensor:
    """[2^n_dims, n_dims], the first axis changing fastest."""
    corners = [c[::-1] for c in itertools.product((0, 1), repeat=n_dims)]
    return torch.tensor(corners, device=device)


def _corner_weights(fraction: Tensor, corners: Tensor, spec: GridSpec) -> Tensor:
    if spec.interpolation == "smoothstep":
        fraction = fraction * fraction * (3 - 2 * fraction)
    fraction = fraction[..., None, :]
    return torch.where(corners.bool(), fraction, 1 - fraction).prod(-1)


def _read(table: Tensor, index: Tensor, lookup: str) -> Tensor:
    return F.embedding(index, table) if lookup == "embedding" else table[index]
