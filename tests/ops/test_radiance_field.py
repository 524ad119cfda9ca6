"""radiance_field: against the reference, gradients, opcheck, rejections, edges, threads, instruction sets."""

import dataclasses

import pytest
import torch
from torch.autograd import gradcheck

from nerfad import _native
from nerfad.ops import GridSpec, MLPSpec, grid_encode, radiance_field
from nerfad.ops.radiance_field import grid_numbers, mlp_numbers
from nerfad.ops.reference import radiance_field as reference

GRID = GridSpec(n_levels=4, base_resolution=4, finest_resolution=32, log2_table_size=10)
SIGMA = MLPSpec(8, 5, 32, 2, 16)
COLOR = MLPSpec(15, 16, 32, 1, 3, "sigmoid")
FIELDS = {
    "usual": (GRID, SIGMA, COLOR),
    "the bench's networks": (
        dataclasses.replace(GRID, n_levels=16),
        MLPSpec(32, 12, 64, 3, 16),
        MLPSpec(31, 0, 64, 2, 3, "sigmoid"),
    ),
    "features that are kept": (
        dataclasses.replace(GRID, n_levels=4, n_features=4),
        MLPSpec(16, 5, 32, 2, 16),
        MLPSpec(15, 16, 32, 1, 3, "sigmoid"),
    ),
    "no condition, no activation": (GRID, MLPSpec(8, 0, 64, 3, 2), MLPSpec(1, 16, 16, 1, 3)),
    "odd widths": (
        dataclasses.replace(GRID, n_levels=3, n_features=4, kind="tiled", interpolation="smoothstep"),
        MLPSpec(12, 3, 37, 1, 18),
        MLPSpec(17, 16, 80, 4, 3, "sigmoid"),
    ),
    "too deep for shared memory": (GRID, MLPSpec(8, 3, 128, 8, 4), MLPSpec(3, 16, 16, 1, 3, "sigmoid")),
    "a wide code": (GRID, MLPSpec(8, 3, 128, 1, 33), MLPSpec(48, 0, 24, 3, 3, "sigmoid")),
}
LEAVES = ("positions", "table", "sigma_params", "color_params", "views", "cond")


@pytest.fixture(params=FIELDS)
def field(request):
    return FIELDS[request.param]


def make_inputs(field=FIELDS["usual"], n=150, n_rays=20, n_cond=3, dtype=torch.float32, seed=0, device="cpu"):
    grid, sigma, color = field
    g = torch.Generator().manual_seed(seed)

    def params(spec):
        flat = spec.init(g).to(dtype)
        for _, bias in spec.split(flat):
            bias.uniform_(-0.2, 0.2, generator=g)
        return flat

    tensors = dict(
        positions=torch.rand(n, 3, generator=g, dtype=dtype),
        table=torch.rand(grid.n_entries, grid.n_features, generator=g, dtype=dtype) * 2 - 1,
        sigma_params=params(sigma),
        color_params=params(color),
        views=torch.randn(n_rays, 16, generator=g, dtype=dtype) * 0.5,
        ray_indices=torch.randint(n_rays, (n,), generator=g, dtype=torch.int32).sort().values,
    )
    if sigma.d_cond:
        tensors["cond"] = torch.randn(n_cond, sigma.d_cond, generator=g, dtype=dtype)
        tensors["cond_index"] = torch.randint(n_cond, (n,), generator=g, dtype=torch.int32)
    return dict(
        grid_spec=grid,
        sigma_spec=sigma,
        color_spec=color,
        density_bias=0.5,
        **{k: v.to(device) for k, v in tensors.items()},
    )


def make_grads(inputs, seed=1, share=1.0):
    """Gradients of the outputs; only about `share` of the samples have any."""
    g = torch.Generator().manual_seed(seed)
    x = inputs["positions"]
    n = x.shape[0]
    seen = (torch.rand(n, generator=g) < share).to(x)
    sigmas, rgbs = (torch.randn(shape, generator=g, dtype=x.dtype).to(x) for shape in [(n,), (n, 3)])
    return sigmas * seen, rgbs * seen[:, None]


def gradients(fn, inputs, grads):
    leaves = {k: inputs[k].detach().clone().requires_grad_() for k in LEAVES if k in inputs}
    return torch.autograd.grad(fn(**{**inputs, **leaves}), list(leaves.values()), grads)


def assert_matches_reference(inputs, rtol, atol):
    for name, a, b in zip(
        ("sigmas", "rgbs"), radiance_field(**inputs), reference.radiance_field(**inputs), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


def assert_gradients_match(inputs, relative, share=1.0):
    """Errors in proportion to each gradient's largest element: sums of many terms cancel."""
    grads = make_grads(inputs, share=share)
    got = gradients(radiance_field, inputs, grads)
    expected = gradients(reference.radiance_field, inputs, grads)
    for name, a, b in zip([k for k in LEAVES if k in inputs], got, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        scale = b.abs().max() if b.numel() else 0
        assert bool(((a - b).abs() <= relative * scale).all()), name


@pytest.fixture
def native(kernel_device, request):
    return request.node.callspec.params["kernel_device"] == "native"


def tolerance(native):
    """The CUDA kernels multiply in half precision."""
    return dict(rtol=2e-5, atol=2e-5) if native else dict(rtol=2e-2, atol=6e-3)


def test_matches_reference(kernel_device, native, field):
    assert_matches_reference(make_inputs(field, device=kernel_device), **tolerance(native))


def test_matches_reference_float64(field):
    assert_matches_reference(make_inputs(field, dtype=torch.float64), 1e-12, 1e-13)


def relative(native):
    # In half precision a relu near zero may flip: a sample's whole gradient then differs.
    return 3e-5 if native else 0.2


def test_gradients_match_reference(kernel_device, native, field):
    assert_gradients_match(make_inputs(field, device=kernel_device), relative(native))


def test_gradients_match_reference_float64(field):
    assert_gradients_match(make_inputs(field, dtype=torch.float64), 1e-11)


@pytest.mark.parametrize("isa", _native.ISAS)
def test_every_instruction_set_matches_reference(isa, field):
    detected = _native.detected_isa()
    if _native.ISAS.index(isa) > _native.ISAS.index(detected):
        pytest.skip(f"this machine has {detected}")
    _native.set_isa(isa)
    try:
        inputs = make_inputs(field)
        assert_matches_reference(inputs, **tolerance(True))
        assert_gradients_match(inputs, relative(True))
    finally:
        _native.set_isa(detected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_table_of_half_precision(kernel_device, native, dtype):
    inputs = make_inputs(device=kernel_device)
    inputs["table"] = inputs["table"].to(dtype)
    assert_matches_reference(inputs, **tolerance(native))
    assert_gradients_match(inputs, 1e-2 if native else relative(native))


def test_gradcheck():
    field = (
        GridSpec(n_levels=2, base_resolution=2, finest_resolution=4, log2_table_size=4),
        MLPSpec(4, 2, 16, 2, 4),
        MLPSpec(3, 2, 16, 1, 3, "sigmoid"),
    )
    inputs = make_inputs(field, n=5, n_rays=2, n_cond=2, dtype=torch.float64)
    inputs["views"] = inputs["views"][:, :2].contiguous()
    leaves = [inputs.pop(k).requires_grad_() for k in LEAVES]
    assert gradcheck(
        lambda *values: radiance_field(**inputs, **dict(zip(LEAVES, values, strict=True))), leaves
    )


def test_opcheck():
    inputs = make_inputs()
    for name in LEAVES:
        inputs[name].requires_grad_()
    torch.library.opcheck(
        _native.ops().radiance_field_fwd.default,
        (
            *(inputs["positions"], inputs["table"], [*GRID.resolutions, 10, 0, 0]),
            *(inputs["sigma_params"], [8, 5, 32, 2, 16, 0], inputs["color_params"], [15, 16, 32, 1, 3, 1]),
            *(inputs[k] for k in ("views", "ray_indices", "cond", "cond_index", "density_bias")),
            *(False, False),
        ),
    )


def int32(*values):
    return torch.tensor(values, dtype=torch.int32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(positions=torch.zeros(150, 2)), r"radiance_field: positions must have shape \[\*, 3\]"),
        (dict(positions=torch.zeros(150, 3).half()), "positions must be float32 .*, got float16"),
        (dict(positions=torch.zeros(3, 150).t()), "positions must be contiguous"),
        (dict(table=torch.zeros(7, 2)), rf"table must have shape \[{GRID.n_entries}, 2\], got \[7, 2\]"),
        (dict(table=torch.zeros(GRID.n_entries, 3)), "table must have 1, 2, 4 or 8 columns, got 3"),
        (dict(table=torch.zeros(GRID.n_entries, 2).double()), "table must be .*, got float64"),
        (dict(table=torch.zeros(GRID.n_entries, 1)), r"sigma_spec.d_in \(the grid's outputs\) must be 4"),
        (dict(sigma_params=torch.zeros(7)), rf"sigma_params must have shape \[{SIGMA.n_params}\], got \[7\]"),
        (dict(color_params=torch.zeros(COLOR.n_params).double()), "color_params must be float32"),
        (dict(views=torch.zeros(20, 9)), r"color_spec.d_in \+ d_cond \(code and view\) must be 24, got 31"),
        (dict(views=torch.zeros(0, 16)), "views must hold at least one view"),
        (dict(ray_indices=int32(0)), r"ray_indices must have shape \[150\], got \[1\]"),
        (dict(ray_indices=torch.zeros(150)), "ray_indices must be int32, got float32"),
        (dict(ray_indices=torch.full_like(int32(0), 20).repeat(150)), r"ray_indices must be in \[0, 20\)"),
        (dict(cond=None), "cond must be given for a network with conditions"),
        (dict(cond=torch.zeros(3, 4)), r"cond must have shape \[\*, 5\], got \[3, 4\]"),
        (dict(cond=torch.zeros(0, 5)), "cond must hold at least one condition"),
        (dict(cond_index=int32(-1).repeat(150)), r"cond_index must be in \[0, 3\), got -1"),
        (dict(grid_spec=dataclasses.replace(GRID, n_dims=2)), "grid_spec must have 3 dimensions, got 2"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(RuntimeError, match=message):
        radiance_field(**{**make_inputs(), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(sigma_spec=MLPSpec(8, 5, 32, 2, 1)), r"sigma_spec.d_out \(log density and code\) at least"),
        (
            dict(sigma_spec=MLPSpec(8, 5, 32, 2, 16, "sigmoid")),
            "the density network has no output activation",
        ),
        (dict(color_spec=MLPSpec(15, 16, 32, 1, 4, "sigmoid")), "color_spec.d_out must be 3, got 4"),
    ],
)
def test_rejects_networks(change, message):
    inputs = {**make_inputs(), **change}
    inputs["sigma_params"] = torch.zeros(inputs["sigma_spec"].n_params)
    inputs["color_params"] = torch.zeros(inputs["color_spec"].n_params)
    with pytest.raises(RuntimeError, match=message):
        radiance_field(**inputs)


def test_rejects_an_unknown_precision():
    with pytest.raises(RuntimeError, match="precision must be float32 or bfloat16, got 'float8'"):
        radiance_field(**make_inputs(), precision="float8")


@pytest.mark.parametrize("name", ["usual", "the bench's networks"])
@pytest.mark.parametrize("n", [0, 1, 47, 48, 49, 16 * 48 + 5])
def test_any_number_of_samples(kernel_device, native, n, name):
    inputs = make_inputs(FIELDS[name], n=n, device=kernel_device)
    assert_matches_reference(inputs, **tolerance(native))
    assert_gradients_match(inputs, relative(native))


def test_without_indices_all_samples_use_the_first(kernel_device):
    inputs = make_inputs(device=kernel_device)
    first = {**inputs, **{k: torch.zeros_like(inputs[k]) for k in ("ray_indices", "cond_index")}}
    for k in ("ray_indices", "cond_index"):
        inputs.pop(k)
    for a, b in zip(radiance_field(**inputs), radiance_field(**first), strict=True):
        assert torch.equal(a, b)
    grads = make_grads(inputs)
    for a, b in zip(
        gradients(radiance_field, inputs, grads), gradients(radiance_field, first, grads), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["usual", "features that are kept"])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.5])
def test_samples_without_a_gradient_are_left_out_exactly(kernel_device, native, share, name):
    inputs = make_inputs(FIELDS[name], n=2000, device=kernel_device)
    assert_gradients_match(inputs, relative(native), share)
    if native:  # the same as a call on the others alone, for everything that belongs to no sample
        grads = make_grads(inputs, share=share)
        seen = (grads[0] != 0) | (grads[1] != 0).any(1)
        kept = {k: inputs[k][seen] for k in ("positions", "ray_indices", "cond_index")}
        all_of_them = gradients(radiance_field, inputs, grads)
        alone = gradients(radiance_field, {**inputs, **kept}, [g[seen] for g in grads])
        assert torch.equal(all_of_them[0][seen], alone[0]) and not all_of_them[0][~seen].any()
        for a, b in zip(all_of_them[1:], alone[1:], strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(("n_rays", "n_cond"), [(5000, 1), (3, 4000), (200_000, 3)])
def test_many_rays_and_conditions(n_rays, n_cond):
    assert_gradients_match(make_inputs(n=3000, n_rays=n_rays, n_cond=n_cond), 5e-5)


@pytest.mark.parametrize(
    ("name", "share"), [("usual", 1.0), ("features that are kept", 1.0), ("features that are kept", 0.97)]
)
def test_several_chunks_of_samples(name, share):
    """More samples than wait for the scatter at a time; the conditions come in no order."""
    inputs = make_inputs(FIELDS[name], n=(1 << 16) + 5000, n_rays=3000, n_cond=9000)
    assert_gradients_match(inputs, 2e-4, share)


def test_the_backward_pass_is_the_same_whether_features_are_kept_or_not():
    inputs = make_inputs(FIELDS["features that are kept"], n=1000)
    grads = make_grads(inputs, share=0.9)
    grid, sigma, color = (inputs[k] for k in ("grid_spec", "sigma_spec", "color_spec"))
    field = (
        *(inputs["positions"], inputs["table"], grid_numbers(grid), inputs["sigma_params"]),
        *(mlp_numbers(sigma), inputs["color_params"], mlp_numbers(color)),
        *(inputs[k] for k in ("views", "ray_indices", "cond", "cond_index", "density_bias")),
        False,
    )
    *_, kept = _native.ops().radiance_field_fwd(*field, True)
    assert torch.equal(kept, grid_encode(inputs["positions"], inputs["table"], grid))
    results = [
        _native.ops().radiance_field_bwd(*grads, *field, features, True, True)
        for features in (kept, kept[:0])
    ]
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_one_output_is_enough():
    inputs = make_inputs()
    table = inputs["table"].requires_grad_()
    for at in (0, 1):
        (got,) = torch.autograd.grad(radiance_field(**inputs)[at].sum(), [table])
        (expected,) = torch.autograd.grad(reference.radiance_field(**inputs)[at].sum(), [table])
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n_cond", [3, 4000])
def test_results_do_not_depend_on_the_number_of_threads(n_cond):
    inputs = make_inputs(n=70_000, n_rays=6000, n_cond=n_cond)
    grads, before, results = make_grads(inputs, share=0.97), torch.get_num_threads(), []
    for n_threads in (1, 2, 3, 3):
        torch.set_num_threads(n_threads)
        results.append([*radiance_field(**inputs), *gradients(radiance_field, inputs, grads)])
    torch.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_gradients_that_are_not_needed_are_left_out():
    inputs = make_inputs()
    inputs["sigma_params"].requires_grad_()
    grads = make_grads(inputs)
    (got,) = torch.autograd.grad(radiance_field(**inputs), [inputs["sigma_params"]], grads)
    (expected,) = torch.autograd.grad(reference.radiance_field(**inputs), [inputs["sigma_params"]], grads)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)


def test_densities_beyond_the_limit_are_clamped_without_a_gradient(kernel_device, native):
    inputs = {**make_inputs(device=kernel_device), "density_bias": 40.0}
    sigmas, _ = radiance_field(**inputs)
    torch.testing.assert_close(sigmas, torch.full_like(sigmas, torch.e**15), rtol=1e-4, atol=0)
    grads = make_grads(inputs)
    got = gradients(radiance_field, inputs, (grads[0], torch.zeros_like(grads[1])))
    assert not any(g.any() for g in got) and all(g.isfinite().all() for g in got)


def test_dense_samples_have_finite_gradients(kernel_device):
    inputs = {**make_inputs(device=kernel_device), "density_bias": 9.2}  # densities of about 1e4
    grads = gradients(radiance_field, inputs, make_grads(inputs))
    assert all(g.isfinite().all() for g in grads)


def test_a_nan_reaches_the_outputs():
    inputs = make_inputs()
    inputs["cond"][1, 0] = float("nan")
    sigmas, rgbs = radiance_field(**inputs)
    hit = inputs["cond_index"] == 1
    assert sigmas[hit].isnan().all() and rgbs[hit].isnan().all()
    assert sigmas[~hit].isfinite().all() and rgbs[~hit].isfinite().all()
