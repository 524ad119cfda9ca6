"""render_cached: against the uncached render and the reference, selections of rays, rejections, edges."""

import dataclasses

import pytest
import torch
from test_render_rays_fused import COLOR, GRID, SIGMA, make_inputs

from nerfad import _native
from nerfad.ops import (
    MLPSpec,
    emulated_cuda,
    render_cache,
    render_cached,
    render_cached_within,
    render_rays_fused,
)
from nerfad.ops.reference import render_cached as reference

OF_CACHE = (
    *("rays_o", "rays_d", "t_min", "t_max", "aabb", "density_bitfield", "resolution", "step_size"),
    *("table", "grid_spec"),
)
OF_RENDER = ("sigma_params", "sigma_spec", "color_params", "color_spec", "cond", "background", "density_bias")


def split(inputs, **of_cache):
    """The cache of the inputs of `render_rays_fused`, and what is left for `render_cached`."""
    cache = render_cache(**{k: inputs[k] for k in OF_CACHE}, **of_cache)
    return cache, {k: inputs[k] for k in OF_RENDER}


@pytest.fixture
def atol(kernel_device, request):
    """The CUDA kernels multiply in half precision."""
    return 2e-5 if request.node.callspec.params["kernel_device"] == "native" else 8e-3


def assert_close(got, expected, atol):
    for name, a, b in zip(("colors", "opacities", "depths"), got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=atol * (4 if name == "depths" else 1), msg=name)


def test_equals_the_uncached_render_under_every_condition(kernel_device, atol):
    inputs = make_inputs(device=kernel_device)
    cache, networks = split(inputs)
    for shift in (0.0, 1.0, -2.0):
        cond = inputs["cond"] + shift
        got = render_cached(cache, **{**networks, "cond": cond})
        # Only positions are rounded in another way; both run the same networks.
        assert_close(got, render_rays_fused(**{**inputs, "cond": cond}), 1e-5 if atol < 1e-3 else 2e-3)
        assert_close(got, reference.render_cached(cache, **{**networks, "cond": cond}), atol)


@pytest.mark.parametrize("bias", [2.0, 5.0], ids=["translucent", "early stop"])
def test_of_half_precision(kernel_device, atol, bias):
    inputs = {**make_inputs(device=kernel_device), "density_bias": bias}
    whole, networks = split(inputs)
    half, _ = split(inputs, dtype=torch.float16)
    assert half.n_bytes < 0.7 * whole.n_bytes
    assert_close(render_cached(half, **networks), reference.render_cached(half, **networks), atol)
    assert_close(render_cached(half, **networks), render_cached(whole, **networks), 4e-3)


@pytest.mark.parametrize(
    ("sigma", "color", "grid"),
    [
        (
            MLPSpec(6, 0, 64, 3, 16),
            MLPSpec(31, 0, 64, 2, 3, "sigmoid"),
            dataclasses.replace(GRID, n_levels=3),
        ),
        (MLPSpec(8, 3, 128, 8, 4), MLPSpec(19, 0, 16, 1, 3), GRID),
        (MLPSpec(8, 3, 128, 1, 33), MLPSpec(48, 0, 24, 3, 3, "sigmoid"), GRID),
    ],
    ids=["odd features", "too deep for shared memory", "wide code"],
)
def test_shapes_of_networks(kernel_device, atol, sigma, color, grid):
    inputs = make_inputs(sigma=sigma, color=color, grid=grid, device=kernel_device)
    cache, networks = split(inputs)
    assert_close(render_cached(cache, **networks), reference.render_cached(cache, **networks), atol)


def test_bfloat16_is_that_of_the_uncached_render(every_isa):
    inputs = make_inputs(500)
    cache, networks = split(inputs)
    exact = render_cached(cache, **networks)[0]
    expected = reference.render_cached(cache, **networks, precision="bfloat16")
    for isa in every_isa:
        _native.set_isa(isa)
        got = render_cached(cache, **networks, precision="bfloat16")
        assert_close(got, expected, 2e-3)
        assert_close(got, render_rays_fused(**inputs, precision="bfloat16"), 2e-3)
        assert not torch.equal(got[0], exact)
    with pytest.raises(RuntimeError, match="precision must be float32 or bfloat16, got 'half'"):
        render_cached(cache, **networks, precision="half")


@pytest.mark.parametrize("n_levels", [4, 3, 20], ids=["8 features", "6 features", "40 features"])
def test_features_in_bfloat16(every_isa, n_levels):
    """Networks of bfloat16 see the same operands in a cache of float32, those of float32 other features."""
    sigma = MLPSpec(2 * n_levels, 5, 32, 2, 16)
    inputs = make_inputs(500, sigma=sigma, grid=dataclasses.replace(GRID, n_levels=n_levels))
    whole, networks = split(inputs)
    rounded, _ = split(inputs, dtype=torch.bfloat16)
    assert rounded.n_bytes < 0.8 * whole.n_bytes
    for isa in every_isa:
        _native.set_isa(isa)
        got = render_cached(rounded, **networks, precision="bfloat16")
        expected = render_cached(whole, **networks, precision="bfloat16")
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True)), isa
        exact = render_cached(rounded, **networks)
        assert_close(exact, reference.render_cached(rounded, **networks), 2e-5)
        assert not torch.equal(exact[0], render_cached(whole, **networks)[0])


def test_cuda_kernels_reject_bfloat16():
    if not _native.LIBRARY.with_name("libnerfad_emu.so").is_file():
        pytest.skip("the emulated kernels are not built (needs the CUDA headers)")
    inputs = make_inputs(5)
    cache, networks = split(inputs)
    with emulated_cuda(), pytest.raises(RuntimeError, match="render_cached: precision bfloat16 runs on the"):
        render_cached(cache, **networks, precision="bfloat16")
    cache, networks = split(inputs, dtype=torch.bfloat16)
    with (
        emulated_cuda(),
        pytest.raises(RuntimeError, match="features of bfloat16 are for the CPU"),
    ):
        render_cached(cache, **networks)


def test_a_selection_gives_the_same_pixels(kernel_device):
    cache, networks = split(make_inputs(device=kernel_device), image_width=20)
    everything = render_cached(cache, **networks)
    g = torch.Generator().manual_seed(4)
    order = torch.randperm(200, generator=g)[:77].to(kernel_device)
    for rays in (order, everything[1] > 0.5, torch.zeros(200, dtype=torch.bool, device=kernel_device)):
        some = render_cached(cache.select(rays), **{**networks, "background": networks["background"][rays]})
        for a, b in zip(some, everything, strict=True):
            torch.testing.assert_close(a, b[rays], rtol=0, atol=1e-6)


def test_within_a_mask_is_new_and_outside_is_old(kernel_device):
    cache, networks = split(make_inputs(device=kernel_device))
    before = render_cached(cache, **networks)
    networks["cond"] = networks["cond"] + 1
    after = render_cached(cache, **networks)
    mask = torch.rand(200, generator=torch.Generator().manual_seed(4)).to(kernel_device) > 0.6
    kept = [t.clone() for t in before]
    for got, old, new, copy in zip(
        render_cached_within(mask, before, cache, **networks), before, after, kept, strict=True
    ):
        torch.testing.assert_close(got[mask], new[mask], rtol=0, atol=1e-6)
        assert torch.equal(got[~mask], old[~mask]) and torch.equal(old, copy)


@pytest.mark.parametrize("mask", [torch.ones(200), torch.ones(9, dtype=torch.bool)])
def test_within_rejects(mask):
    cache, networks = split(make_inputs(20))
    previous = render_cached(cache, **networks)
    with pytest.raises(RuntimeError, match=r"render_cached_within: mask must be bool of shape \[20\], got"):
        render_cached_within(mask, previous, cache, **networks)


@pytest.mark.parametrize("n_rays", [0, 1, 63, 1500])
def test_any_number_of_rays(kernel_device, atol, n_rays):
    cache, networks = split(make_inputs(n_rays, device=kernel_device))
    assert_close(render_cached(cache, **networks), reference.render_cached(cache, **networks), atol)


def test_bound_on_samples_and_growing_steps(kernel_device, atol):
    inputs = make_inputs(device=kernel_device)
    for change in (dict(max_samples_per_ray=3), dict(cone_angle=0.03)):
        cache, networks = split(inputs, **change)
        assert_close(render_cached(cache, **networks), render_rays_fused(**inputs, **change), atol)


def test_opcheck():
    cache, n = split(make_inputs(20))
    arguments = (
        *(cache.features, cache.t_starts, cache.t_ends, cache.packed_info, cache.rays_d),
        *(n["sigma_params"], [8, 5, 32, 2, 16, 0], n["color_params"], [31, 0, 32, 1, 3, 1]),
        *(n["cond"], n["background"], 1e-4, 1.0, 0, False),
    )
    torch.library.opcheck(_native.ops().render_cached.default, arguments)


@pytest.mark.parametrize(
    ("of_cache", "of_networks", "message"),
    [
        (dict(features=torch.zeros(3, 8)), {}, r"features must have shape \[\d+, \*\], got \[3, 8\]"),
        (dict(features=torch.zeros(0, 8).double(), t_starts=torch.zeros(0), t_ends=torch.zeros(0)), {},
         "features must be float32, float16 or bfloat16, got float64"),
        (dict(t_ends=torch.zeros(3)), {}, r"t_ends must have shape \[\d+\], got \[3\]"),
        (dict(packed_info=torch.zeros(200, 2)), {}, "packed_info must be int64, got float32"),
        (dict(rays_d=torch.zeros(9, 3)), {}, r"packed_info must have shape \[9, 2\], got \[200, 2\]"),
        ({}, dict(cond=None), "cond must be given for a network with conditions"),
        ({}, dict(background=torch.zeros(9, 3)), r"background must have shape \[200, 3\], got \[9, 3\]"),
        ({}, dict(sigma_spec=(wide := dataclasses.replace(SIGMA, d_in=9)), sigma_params=wide.init()),
         r"sigma_spec.d_in \(the cache's features\) must be 8, got 9"),
        ({}, dict(color_params=torch.zeros(3)), rf"color_params must have shape \[{COLOR.n_params}\]"),
    ],
)  # fmt: skip
def test_rejects(of_cache, of_networks, message):
    cache, networks = split(make_inputs())
    with pytest.raises(RuntimeError, match=f"render_cached: {message}"):
        render_cached(dataclasses.replace(cache, **of_cache), **{**networks, **of_networks})
