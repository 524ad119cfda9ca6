"""Grids read by gather instructions and by loads of corners: the same bits, for every table and size."""

import os
import subprocess
import sys

import pytest
import torch
from test_grid_encode import SMALL, along_rays
from test_radiance_field import make_inputs as make_field
from test_render_rays_fused import make_inputs as make_rays

from nerfad import _native
from nerfad.ops import GridSpec, MLPSpec, expand_cells, grid_encode, radiance_field, render_rays_fused

KINDS = {"hash": SMALL, "tiled": SMALL, "dense": {**SMALL, "finest_resolution": 20}}
SIZES = (0, 1, 15, 16, 17, 127, 128, 129, 1000)


@pytest.fixture(autouse=True)
def needs_both_ways():
    if _native.ISAS.index(_native.isa()) < _native.ISAS.index("avx512"):
        pytest.skip("only AVX-512 units can do both")
    before = _native.gathers()
    yield
    _native.set_gathers(before)


def both_ways(call):
    results = []
    for on in (False, True):
        _native.set_gathers(on)
        assert _native.gathers() is on
        results.append(call())
    return results


def assert_same_bits(by_loads, by_gathers):
    assert torch.equal(by_loads.view(torch.int32), by_gathers.view(torch.int32))


def make_positions(n_dims):
    """Rays, noise in and around the cube, and where a clamp or a cast could go wrong."""
    g = torch.Generator().manual_seed(0)
    edges = [0.0, -0.0, 1.0, -1e-9, 1.0 + 1e-6, 0.5, float("nan"), float("inf"), -float("inf"), 3e38, 1e-40]
    corners = torch.cartesian_prod(*[torch.tensor(edges)] * n_dims)
    noise = torch.rand(500, n_dims, generator=g) * 1.2 - 0.1
    positions = torch.cat([corners, along_rays()[:, :n_dims], noise])
    return positions[torch.randperm(len(positions), generator=g)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("n_features", [1, 2, 4, 8])
@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_encoding(kind, n_dims, n_features, interpolation, dtype):
    spec = GridSpec(
        n_dims=n_dims, n_features=n_features, kind=kind, interpolation=interpolation, **KINDS[kind]
    )
    table = torch.randn(spec.n_entries, n_features, generator=torch.Generator().manual_seed(1)).to(dtype)
    positions = make_positions(n_dims)
    for n in (*SIZES, len(positions)):
        by_loads, by_gathers = both_ways(lambda n=n: grid_encode(positions[:n], table, spec))
        assert torch.isfinite(by_loads).all()
        assert_same_bits(by_loads, by_gathers)


def test_entries_that_are_not_numbers():
    spec = GridSpec(**SMALL)
    table = torch.randn(spec.n_entries, 2)
    table[::7, 0] = float("nan")
    table[::11, 1] = float("inf")
    by_loads, by_gathers = both_ways(lambda: grid_encode(along_rays(), table, spec))
    assert not torch.isfinite(by_loads).all()
    torch.testing.assert_close(by_loads, by_gathers, rtol=0, atol=0, equal_nan=True)


# The fused kernels rearrange 16 features of a sample at a time: all of a line, less and more.
@pytest.mark.parametrize(
    ("n_levels", "n_features"), [(1, 2), (5, 2), (8, 2), (11, 2), (16, 1), (3, 4), (9, 4)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_fused_field(n_levels, n_features, dtype):
    grid = GridSpec(n_levels=n_levels, n_features=n_features, base_resolution=4, log2_table_size=9)
    sigma = MLPSpec(n_levels * n_features, 0, 32, 1, 16)
    for n in (1, 17, 255, 257, 800):
        inputs = make_field((grid, sigma, MLPSpec(15, 16, 32, 1, 3, "sigmoid")), n=n)
        inputs["table"] = inputs["table"].to(dtype)
        for by_loads, by_gathers in zip(
            *both_ways(lambda inputs=inputs: radiance_field(**inputs)), strict=True
        ):
            assert_same_bits(by_loads, by_gathers)


@pytest.mark.parametrize("expanded", [False, True])
def test_fused_renderer(expanded):
    inputs = make_rays()
    cells = expand_cells(inputs["table"], inputs["grid_spec"]) if expanded else None
    both = both_ways(lambda: render_rays_fused(**inputs, cells=cells))
    for by_loads, by_gathers in zip(*both, strict=True):
        assert_same_bits(by_loads, by_gathers)


@pytest.mark.parametrize("wanted", ["0", "1"])
def test_the_environment_decides(wanted):
    code = "from nerfad import _native; print(_native.gathers())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NERFAD_CPU_GATHER": wanted},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(wanted == "1")
