"""grid_encode: against the reference, gradients, opcheck, rejections, edges, properties and closed forms."""

import dataclasses
import json

import pytest
import torch
from torch.autograd import gradcheck

from nerfad import _native
from nerfad.ops import GridSpec, grid_encode
from nerfad.ops.grid_encode import _geometry
from nerfad.ops.reference import grid_encode as reference

# Coarse levels are dense and fine ones hashed or tiled at this table size.
SMALL = dict(n_levels=5, base_resolution=4, finest_resolution=60, log2_table_size=9)


def make_inputs(spec, n=70, dtype=torch.float32, table_dtype=None, seed=0, device="cpu"):
    g = torch.Generator().manual_seed(seed)
    # Some positions lie outside of the unit cube and are clamped.
    positions = torch.rand(n, spec.n_dims, generator=g, dtype=dtype) * 1.1 - 0.05
    table = torch.randn(spec.n_entries, spec.n_features, generator=g, dtype=dtype).to(table_dtype or dtype)
    return positions.to(device), table.to(device)


def along_rays(n_rays=40, seed=3):
    """Positions of 37 neighbouring samples each, which share cells of coarse levels."""
    g = torch.Generator().manual_seed(seed)
    start, direction = torch.rand(n_rays, 1, 3, generator=g), torch.randn(n_rays, 1, 3, generator=g)
    return (start + direction * torch.linspace(0, 0.05, 37)[None, :, None]).reshape(-1, 3).clamp(0, 1)


def gradients(fn, positions, table, spec, seed=1):
    positions, table = positions.detach().requires_grad_(), table.detach().requires_grad_()
    out = fn(positions, table, spec)
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(out.shape, generator=g, dtype=out.dtype).to(out.device)
    return torch.autograd.grad(out, (positions, table), weight)


def assert_gradients_match(spec, positions, table):
    got, expected = (gradients(f, positions, table, spec) for f in (grid_encode, reference.grid_encode))
    scale = float(expected[0].abs().max()) if expected[0].numel() else 1.0
    torch.testing.assert_close(got[0], expected[0], rtol=1e-4, atol=2e-6 * scale)
    # A 16-bit gradient is a float32 sum rounded once, hence at most one unit in the last place apart.
    ulp = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}[table.dtype]
    torch.testing.assert_close(got[1].float(), expected[1].float(), rtol=ulp, atol=1e-5)


def assert_matches(positions, table, spec):
    """Features and gradients are the reference's."""
    torch.testing.assert_close(
        grid_encode(positions, table, spec),
        reference.grid_encode(positions, table, spec),
        rtol=1e-5,
        atol=2e-6,
    )
    assert_gradients_match(spec, positions, table)


@pytest.fixture(params=["avx512", "avx2", "portable"])
def isa(request):
    before = _native.isa()
    if _native.ISAS.index(request.param) > _native.ISAS.index(before):
        pytest.skip(f"this CPU has no {request.param}")
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(before)


SHAPES = [(d, f, k) for d in (2, 3) for f in (1, 2, 4, 8) for k in ("hash", "tiled")]


@pytest.mark.parametrize(("n_dims", "n_features", "kind"), SHAPES)
@pytest.mark.parametrize("table_dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_matches_reference_on_every_instruction_set(isa, n_dims, n_features, kind, table_dtype):
    spec = GridSpec(n_dims=n_dims, n_features=n_features, kind=kind, **SMALL)
    positions, table = make_inputs(spec, table_dtype=table_dtype)
    assert_matches(positions, table, spec)


@pytest.mark.parametrize("kind", ["hash", "tiled", "dense"])
@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
@pytest.mark.parametrize("n_dims", [2, 3])
def test_matches_reference(kernel_device, kind, interpolation, n_dims):
    spec = GridSpec(n_dims=n_dims, kind=kind, interpolation=interpolation, **SMALL)
    positions, table = make_inputs(spec, device=kernel_device)
    assert_matches(positions, table, spec)


@pytest.mark.parametrize("n_features", [1, 4, 8])
@pytest.mark.parametrize("table_dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_tables_match_reference(kernel_device, n_features, table_dtype):
    spec = GridSpec(n_features=n_features, **SMALL)
    positions, table = make_inputs(spec, table_dtype=table_dtype, device=kernel_device)
    assert_matches(positions, table, spec)


@pytest.mark.parametrize("n_dims", [2, 3])
def test_dense_levels_are_read_behind_the_others(isa, n_dims):
    """A grid and a lattice that would not fit into the grid's table, read as one: the bits of both."""
    grid = GridSpec(n_dims=n_dims, **SMALL)
    side = 40 if n_dims == 2 else 13
    lattice = GridSpec(n_dims=n_dims, n_levels=2, base_resolution=side, finest_resolution=side, kind="dense")
    both = dataclasses.replace(grid, dense_levels=lattice.resolutions)
    assert both.level_is_dense[-3:] == (False, True, True) and both.n_outputs == 14
    positions, table = make_inputs(both)
    learnt, baked = table.split((grid.n_entries, lattice.n_entries))
    apart = [grid_encode(positions, learnt, grid), grid_encode(positions, baked, lattice)]
    assert torch.equal(grid_encode(positions, table, both), torch.cat(apart, 1))
    assert_matches(positions, table, both)


def test_matches_reference_float64():
    spec = GridSpec(interpolation="smoothstep", **SMALL)
    positions, table = make_inputs(spec, dtype=torch.float64)
    torch.testing.assert_close(
        grid_encode(positions, table, spec),
        reference.grid_encode(positions, table, spec),
        rtol=1e-12,
        atol=1e-13,
    )


@pytest.mark.parametrize("lookup", ["index", "embedding"])
@pytest.mark.parametrize("batched", [True, False])
def test_reference_variants_agree(lookup, batched):
    spec = GridSpec(kind="tiled", **SMALL)
    positions, table = make_inputs(spec)
    torch.testing.assert_close(
        reference.grid_encode(positions, table, spec, lookup, batched),
        reference.grid_encode(positions, table, spec),
    )


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
def test_gradcheck(n_dims, interpolation):
    spec = GridSpec(
        n_dims=n_dims,
        n_levels=2,
        base_resolution=2,
        finest_resolution=5,
        log2_table_size=4,
        interpolation=interpolation,
    )
    positions, table = make_inputs(spec, n=4, dtype=torch.float64)
    # Finite differences must not step over a cell border.
    positions = (torch.floor(positions.clamp(0, 0.99) * 10) + 0.37) / 10
    leaves = (positions.requires_grad_(), table.requires_grad_())
    assert gradcheck(lambda x, t: grid_encode(x, t, spec), leaves)


def test_opcheck():
    spec = GridSpec(n_levels=2, base_resolution=2, finest_resolution=5, log2_table_size=4)
    positions, table = make_inputs(spec, n=10)
    args = (positions.requires_grad_(), table.requires_grad_(), *_geometry(spec))
    torch.library.opcheck(_native.ops().grid_encode_fwd.default, args)


def sheared(table):
    return torch.cat([table, table], 1)[:, : table.shape[1]]


@pytest.mark.parametrize(
    ("change_positions", "change_table", "message"),
    [
        (lambda x: x[:, :1].contiguous(), None, "grid_encode: positions must have 2 or 3 columns, got 1"),
        (lambda x: x.int(), None, "grid_encode: positions must be float32 .*, got int32"),
        (lambda x: x.double(), None, "table must be float32, float16 or bfloat16 .*, got float32 with .*64"),
        (lambda x: x.t(), None, r"positions must be contiguous|positions must have 2 or 3 columns"),
        (None, lambda t: t[:-1], r"grid_encode: table must have shape \[\d+, 2\], got \[\d+, 2\]"),
        (None, lambda t: t[:, :1].repeat(1, 3), "table must have 1, 2, 4 or 8 columns, got 3"),
        (None, lambda t: t.int(), "table must be float32, float16 or bfloat16 .*, got int32"),
        (None, sheared, "table must be contiguous"),
        (None, lambda t: torch.cat([t.flatten(), t[0]])[1:-1].view_as(t), "table must start at a multiple"),
    ],
)
def test_rejects(change_positions, change_table, message):
    spec = GridSpec(**SMALL)
    positions, table = make_inputs(spec)
    positions = change_positions(positions) if change_positions else positions
    table = change_table(table) if change_table else table
    with pytest.raises(RuntimeError, match=message):
        grid_encode(positions, table, spec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(n_dims=4), "n_dims must be 2 or 3, got 4"),
        (dict(n_levels=0), "n_levels must be in 1..32, got 0"),
        (dict(n_features=3), "n_features must be 1, 2, 4 or 8, got 3"),
        (dict(base_resolution=0), "base_resolution must be at least 1, got 0"),
        (dict(finest_resolution=3), "finest_resolution must be in 16 .*, got 3"),
        (dict(log2_table_size=40), "log2_table_size must be in 3..24, got 40"),
        (dict(kind="sparse"), "kind must be one of hash, tiled, dense, got 'sparse'"),
        (dict(interpolation="cubic"), "interpolation must be one of linear, smoothstep, got 'cubic'"),
        (dict(kind="dense"), r"fewer than 2\^28 entries"),
        (dict(dense_levels=(0,)), r"dense_levels must be in 1..2\^20, got \(0,\)"),
        (dict(dense_levels=(2000,)), r"fewer than 2\^28 entries"),
        (dict(dense_levels=(8,) * 17), "n_levels must be in 1..15, got 16"),
    ],
)
def test_spec_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        GridSpec(**change)


def test_spec_survives_json():
    spec = GridSpec(n_dims=2, kind="tiled", interpolation="smoothstep", dense_levels=(7, 9), **SMALL)
    assert GridSpec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec


def test_reference_net_has_the_published_layout():
    spec = GridSpec()  # 16 levels of 2 features from 16 to 2048, T = 2^16
    assert spec.resolutions[0] == 16 and spec.resolutions[-1] == 2048
    assert spec.level_is_dense == (True,) * 3 + (False,) * 13
    assert spec.offsets[1] == 4920  # 17^3 rounded up to a multiple of 8
    assert spec.n_entries == sum(spec.level_sizes) and spec.n_outputs == 32


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 257])
def test_any_number_of_positions(kernel_device, n):
    spec = GridSpec(**SMALL)
    positions, table = make_inputs(spec, n=n, device=kernel_device)
    assert grid_encode(positions, table, spec).shape == (n, 10)
    assert_gradients_match(spec, positions, table)


def test_borders_and_outside_are_clamped(kernel_device):
    spec = GridSpec(n_dims=2, n_levels=1, n_features=1, base_resolution=3, finest_resolution=3)
    table = torch.arange(16.0, device=kernel_device)[:, None].contiguous()
    positions = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.5, -2.0], [float("nan"), 1.0]], device=kernel_device)
    values = grid_encode(positions, table, spec).flatten().tolist()
    assert values == [0.0, 15.0, 3.0, 12.0]
    outside = gradients(grid_encode, positions[2:3], table, spec)[0]
    assert outside.abs().max() == 0


def test_linear_functions_are_reproduced(kernel_device):
    """Linear interpolation of a dense level is exact for linear functions; so is the gradient."""
    spec = GridSpec(n_levels=1, n_features=1, base_resolution=7, finest_resolution=7)
    coordinate = torch.arange(8.0) / 7
    z, y, x = torch.meshgrid(coordinate, coordinate, coordinate, indexing="ij")
    table = (1 + 2 * x - 3 * y + 0.5 * z).flatten()[:, None].contiguous().to(kernel_device)
    positions = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)).to(kernel_device)
    positions.requires_grad_()
    values = grid_encode(positions, table, spec)[:, 0]
    expected = 1 + positions.detach() @ torch.tensor([2.0, -3.0, 0.5], device=kernel_device)
    torch.testing.assert_close(values.detach(), expected)
    (slope,) = torch.autograd.grad(values.sum(), positions)
    torch.testing.assert_close(slope, slope.new_tensor([2.0, -3.0, 0.5]).expand(50, 3), rtol=1e-4, atol=1e-5)


def test_samples_along_rays_match_reference(isa):
    """Neighbours share cells here, which the vector kernels sum in registers."""
    spec = GridSpec(n_levels=6, finest_resolution=256, log2_table_size=12)
    positions = along_rays()
    _, table = make_inputs(spec)
    torch.testing.assert_close(
        grid_encode(positions, table, spec),
        reference.grid_encode(positions, table, spec),
        rtol=1e-5,
        atol=2e-6,
    )
    got, expected = (gradients(f, positions, table, spec)[1] for f in (grid_encode, reference.grid_encode))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_table_gradient_does_not_depend_on_threads():
    for n_levels in (1, 5):  # fewer levels than threads, and more
        spec = GridSpec(**{**SMALL, "n_levels": n_levels})
        positions, table = make_inputs(spec, n=20000)
        threads = torch.get_num_threads()
        results = []
        try:
            for n_threads in (1, 2, 3):
                torch.set_num_threads(n_threads)
                results.append(
                    (grid_encode(positions, table, spec), *gradients(grid_encode, positions, table, spec))
                )
        finally:
            torch.set_num_threads(threads)
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("n_features", [1, 2, 4, 8])
def test_runs_of_samples_in_one_cell(kernel_device, n_features):
    """Summed within their warp on CUDA, with samples without a gradient in between."""
    spec = GridSpec(n_features=n_features, n_levels=6, finest_resolution=256, log2_table_size=12)
    positions, table = along_rays().to(kernel_device), make_inputs(spec)[1].to(kernel_device)
    weight = torch.randn(len(positions), spec.n_outputs, generator=torch.Generator().manual_seed(5))
    weight[(torch.arange(len(positions)) % 37) > 25] = 0
    weight[5:8] = 0
    grads = []
    for encode in (grid_encode, reference.grid_encode):
        leaf = table.clone().requires_grad_()
        (encode(positions, leaf, spec) * weight.to(kernel_device)).sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_deterministic_gradient_does_not_depend_on_the_order(kernel_device, deterministic, scale, request):
    spec = GridSpec(**SMALL)
    positions, table = along_rays().to(kernel_device), make_inputs(spec)[1].to(kernel_device)
    weight = torch.randn(len(positions), 10, generator=torch.Generator().manual_seed(5)) * scale
    order = torch.randperm(len(positions), generator=torch.Generator().manual_seed(6))
    grads = []
    for rows in (torch.arange(len(positions)), order):
        leaf = table.clone().requires_grad_()
        features = grid_encode(positions[rows], leaf, spec)
        (grad,) = torch.autograd.grad(features, leaf, weight[rows].to(kernel_device))
        grads.append(grad)
    leaf = table.double().requires_grad_()
    features = reference.grid_encode(positions.double(), leaf, spec)
    (expected,) = torch.autograd.grad(features, leaf, weight.double().to(kernel_device))
    # Positions round cells' weights in float32.
    torch.testing.assert_close(grads[0].double(), expected, rtol=1e-3, atol=2e-5 * scale)
    if "native" not in request.node.name:  # the CPU's order is fixed, but it is that of the samples
        assert torch.equal(*grads)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_deterministic_gradient_shows_what_is_not_finite(kernel_device, deterministic, bad):
    spec = GridSpec(**SMALL)
    positions, table = make_inputs(spec, device=kernel_device)
    features = grid_encode(positions, table.requires_grad_(), spec)
    weight = torch.ones_like(features)
    weight[3, 4] = bad
    (grad,) = torch.autograd.grad(features, table, weight)
    assert not torch.isfinite(grad).all()


def test_entries_without_samples_get_no_gradient(kernel_device):
    spec = GridSpec(**SMALL)
    positions, table = make_inputs(spec, n=3, device=kernel_device)
    touched = gradients(grid_encode, positions, table, spec)[1].abs().sum(1) > 0
    assert 0 < int(touched.sum()) <= 3 * 8 * spec.n_levels


def test_only_the_wanted_gradients_are_computed():
    spec = GridSpec(**SMALL)
    positions, table = make_inputs(spec)
    grid_encode(positions, table.requires_grad_(), spec).sum().backward()
    assert positions.grad is None and table.grad is not None
    positions, table = make_inputs(spec)
    grid_encode(positions.requires_grad_(), table, spec).sum().backward()
    assert positions.grad is not None and table.grad is None
