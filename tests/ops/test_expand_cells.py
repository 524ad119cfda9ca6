"""expand_cells: against the reference, what reads the cells, opcheck, rejections, edges and memory."""

import dataclasses

import pytest
import torch

from nerfad import _native
from nerfad.ops import GridSpec, expand_cells, grid_encode, render_rays_fused, use_backend
from nerfad.ops.reference import expand_cells as reference
from nerfad.ops.reference import grid_encode as encode_reference
from nerfad.ops.reference import render_rays_fused as render_reference
from tests.ops.test_grid_encode import SMALL, along_rays, make_inputs
from tests.ops.test_render_rays_fused import GRID
from tests.ops.test_render_rays_fused import make_inputs as make_rays

KINDS = {"hash": SMALL, "tiled": SMALL, "dense": {**SMALL, "finest_resolution": 20}}
TABLE_TYPES = [torch.float32, torch.float16, torch.bfloat16]


def n_expandable(spec):
    hashed = [not dense and spec.kind == "hash" for dense in spec.level_is_dense]
    return (*hashed, True).index(True)


def scrambled(table, spec, n_levels):
    """The table with other numbers in its first levels: what reads them shows."""
    other = table.clone()
    other[: spec.offsets[n_levels]] = 7.0
    return other


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("n_features", [1, 2, 4, 8])
def test_matches_reference(kernel_device, kind, n_dims, n_features):
    spec = GridSpec(n_dims=n_dims, n_features=n_features, kind=kind, **KINDS[kind])
    for dtype in TABLE_TYPES:
        table = make_inputs(spec, table_dtype=dtype, device=kernel_device)[1]
        cells = expand_cells(table, spec)
        expected = reference.expand_cells(table, spec, n_expandable(spec))
        assert cells.dtype == dtype and torch.equal(cells, expected)
        assert len(cells) > 0 and (kind != "hash" or len(cells) < spec.n_entries)


@pytest.mark.parametrize("n_features", [1, 8])
def test_matches_reference_float64(n_features):
    spec = GridSpec(n_features=n_features, kind="tiled", **SMALL)
    positions, table = make_inputs(spec, dtype=torch.float64)
    cells = expand_cells(table, spec)
    assert torch.equal(cells, reference.expand_cells(table, spec, spec.n_levels))
    assert torch.equal(grid_encode(positions, table, spec, cells), grid_encode(positions, table, spec))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
def test_encoding_reads_cells_bit_for_bit(kernel_device, kind, n_dims, interpolation):
    spec = GridSpec(n_dims=n_dims, kind=kind, interpolation=interpolation, **KINDS[kind])
    for dtype in TABLE_TYPES:
        positions, table = make_inputs(spec, table_dtype=dtype, device=kernel_device)
        cells = expand_cells(table, spec)
        other = scrambled(table, spec, n_expandable(spec))
        assert torch.equal(grid_encode(positions, other, spec, cells), grid_encode(positions, table, spec))


@pytest.mark.parametrize("isa", _native.ISAS[:3])
@pytest.mark.parametrize("n_features", [1, 2, 4, 8])
@pytest.mark.parametrize("n_dims", [2, 3])
def test_every_instruction_set_reads_cells_bit_for_bit(every_isa, isa, n_features, n_dims):
    if isa not in every_isa:
        pytest.skip(f"this CPU has no {isa}")
    _native.set_isa(isa)
    spec = GridSpec(n_dims=n_dims, n_features=n_features, kind="tiled", **SMALL)
    for dtype in TABLE_TYPES:
        table = make_inputs(spec, table_dtype=dtype)[1]
        positions = along_rays()[:, :n_dims].contiguous()
        cells = expand_cells(table, spec)
        other = scrambled(table, spec, spec.n_levels)
        assert torch.equal(grid_encode(positions, other, spec, cells), grid_encode(positions, table, spec))


def test_the_reference_reads_cells():
    spec = GridSpec(**SMALL)
    positions, table = make_inputs(spec)
    cells = reference.expand_cells(table, spec, n_expandable(spec))
    other = scrambled(table, spec, n_expandable(spec))
    expected = encode_reference.grid_encode(positions, table, spec)
    with use_backend("reference"):
        assert torch.equal(expand_cells(table, spec), cells)
        assert torch.equal(grid_encode(positions, other, spec, cells), expected)


@pytest.mark.parametrize("kind", ["hash", "tiled"])
@pytest.mark.parametrize("n_features", [1, 2, 4, 8])
def test_renderer_reads_cells_bit_for_bit(kernel_device, kind, n_features):
    grid = dataclasses.replace(GRID, kind=kind, n_features=n_features, n_levels=8 // n_features)
    inputs = make_rays(60, grid=grid, device=kernel_device)
    for dtype in TABLE_TYPES:
        table = inputs["table"].to(dtype)
        cells = expand_cells(table, grid)
        other = scrambled(table, grid, n_expandable(grid))
        expected = render_rays_fused(**{**inputs, "table": table})
        for a, b in zip(render_rays_fused(**{**inputs, "table": other}, cells=cells), expected, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("isa", _native.ISAS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_renderer_of_every_instruction_set_reads_cells(every_isa, isa, precision):
    if isa not in every_isa:
        pytest.skip(f"this CPU has no {isa}")
    _native.set_isa(isa)
    inputs = make_rays(200)
    cells = expand_cells(inputs["table"], GRID)
    expected = render_rays_fused(**inputs, precision=precision)
    inputs["table"] = scrambled(inputs["table"], GRID, n_expandable(GRID))
    for a, b in zip(render_rays_fused(**inputs, precision=precision, cells=cells), expected, strict=True):
        assert torch.equal(a, b)


def test_the_renderers_reference_reads_cells():
    inputs = make_rays(20)
    cells = expand_cells(inputs["table"], GRID)
    expected = render_reference.render_rays_fused(**inputs)
    inputs["table"] = scrambled(inputs["table"], GRID, n_expandable(GRID))
    with use_backend("reference"):
        for a, b in zip(render_rays_fused(**inputs, cells=cells), expected, strict=True):
            assert torch.equal(a, b)


def test_memory_is_bounded(kernel_device):
    spec = GridSpec(kind="tiled", **SMALL)
    table = make_inputs(spec, device=kernel_device)[1]
    for n_levels in range(spec.n_levels + 1):
        bound = spec.offsets[n_levels] * 8 * 2 * 4
        cells = expand_cells(table, spec, max_bytes=bound)
        assert cells.numel() * 4 == bound
        if bound:
            assert len(expand_cells(table, spec, max_bytes=bound - 1)) == spec.offsets[n_levels - 1]


def test_no_level_to_expand(kernel_device):
    spec = GridSpec(n_levels=2, base_resolution=30, finest_resolution=40, log2_table_size=9)
    positions, table = make_inputs(spec, device=kernel_device)
    cells = expand_cells(table, spec)
    assert cells.shape == (0, 8, 2)
    assert torch.equal(grid_encode(positions, table, spec, cells), grid_encode(positions, table, spec))
    assert grid_encode(positions[:0], table, spec, cells).shape == (0, 4)


def test_positions_keep_their_gradient(kernel_device):
    spec = GridSpec(**SMALL)
    positions, table = make_inputs(spec, device=kernel_device)
    cells = expand_cells(table, spec)
    grads = []
    for given in (cells, None):
        leaf = positions.clone().requires_grad_()
        grads.append(torch.autograd.grad(grid_encode(leaf, table, spec, given).sum(), leaf)[0])
    assert torch.equal(*grads)


def test_a_table_that_learns_is_rejected(kernel_device):
    spec = GridSpec(**SMALL)
    positions, table = make_inputs(spec, device=kernel_device)
    cells = expand_cells(table.requires_grad_(), spec)
    assert not cells.requires_grad
    with pytest.raises(RuntimeError, match="grid_encode: cells are a copy that a table's gradient does not"):
        grid_encode(positions, table, spec, cells)
    with torch.no_grad():
        grid_encode(positions, table, spec, cells)


def test_opcheck():
    spec = GridSpec(n_levels=2, base_resolution=2, finest_resolution=5, log2_table_size=4, kind="tiled")
    positions, table = make_inputs(spec, n=10)
    geometry = ([*spec.resolutions], 4, 1)
    torch.library.opcheck(_native.ops().expand_cells.default, (table, 3, *geometry, spec.offsets[1]))
    arguments = (positions.requires_grad_(), table, *geometry, False, expand_cells(table, spec))
    torch.library.opcheck(_native.ops().grid_encode_fwd.default, arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(table=torch.zeros(7, 2)), r"table must have shape \[\d+, 2\], got \[7, 2\]"),
        (dict(table=torch.zeros(7, 3)), "table must have 1, 2, 4 or 8 columns, got 3"),
        (dict(table=torch.zeros(7, 2, dtype=torch.int32)), "table must be float32, float16 or bfloat16"),
        (dict(max_bytes=-1), "max_bytes must not be negative, got -1"),
    ],
)
def test_rejects(change, message):
    spec = GridSpec(**SMALL)
    with pytest.raises(RuntimeError, match=f"expand_cells: {message}"):
        expand_cells(**{"table": make_inputs(spec)[1], "spec": spec, **change})


def test_rejects_hashed_levels():
    spec = GridSpec(**SMALL)
    geometry = (3, list(spec.resolutions), spec.log2_table_size, 0)
    with pytest.raises(RuntimeError, match="n_cells must be the entries of the first levels, none of them"):
        _native.ops().expand_cells(make_inputs(spec)[1], *geometry, spec.n_entries)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:-1], r"cells must come from expand_cells with the same grid, .* have \d+ cells"),
        (lambda c: c[:, :4].contiguous(), r"cells must have shape \[\*, 8, 2\], got \[\d+, 4, 2\]"),
        (lambda c: c.half(), "cells must be float32, got float16"),
        (lambda c: c.transpose(0, 1).contiguous().transpose(0, 1), "cells must be contiguous"),
        (
            lambda c: torch.cat([c.flatten()[:1], c.flatten()])[1:].view_as(c),
            "cells must start at a multiple of 16 bytes",
        ),
    ],
)
def test_readers_reject(change, message):
    inputs = make_rays(5)
    cells = change(expand_cells(inputs["table"], GRID))
    with pytest.raises(RuntimeError, match=f"render_rays_fused: {message}"):
        render_rays_fused(**inputs, cells=cells)
    with pytest.raises(RuntimeError, match=f"grid_encode: {message}"):
        grid_encode(torch.rand(4, 3), inputs["table"], GRID, cells)
