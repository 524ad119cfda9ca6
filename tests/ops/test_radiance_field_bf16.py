"""radiance_field with bfloat16 operands: the reference's rounding on every instruction set, and float64."""

import dataclasses

import pytest
import torch
from test_radiance_field import FIELDS, GRID, LEAVES, gradients, make_grads, make_inputs

from nerfad import _native, ops
from nerfad.ops import radiance_field
from nerfad.ops.radiance_field import grid_numbers, mlp_numbers
from nerfad.ops.reference import radiance_field as reference

PER_SAMPLE = ("positions", "ray_indices", "cond_index")


def kernels_in_bf16(**inputs):
    return radiance_field(**inputs, precision="bfloat16")


def reference_in_bf16(**inputs):
    return reference.radiance_field(**inputs, precision="bfloat16")


def relative_error(got, expected):
    """NaN where anything is; 0 where nothing is expected and nothing is there."""
    difference = (got.double() - expected.double()).norm()
    return float(difference / expected.double().norm()) if bool(expected.any()) else float(difference)


def in_float64(inputs, grads):
    exact = {
        k: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v
        for k, v in inputs.items()
    }
    return exact, [g.double() for g in grads]


@pytest.fixture(params=_native.ISAS)
def isa(request):
    detected = _native.detected_isa()
    if _native.ISAS.index(request.param) > _native.ISAS.index(detected):
        pytest.skip(f"this machine has {detected}")
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(detected)


# Another order of the same sum may round to the neighbouring bfloat16, a part in 256, and so move all that
# follows: most outputs are equal to float32, a few are off. Nine layers and more multiply the few.
@pytest.mark.parametrize("name", FIELDS)
def test_matches_reference(isa, name):
    inputs = make_inputs(FIELDS[name], n=1000)
    deep = inputs["sigma_spec"].n_hidden + inputs["color_spec"].n_hidden > 5
    for got, expected in zip(kernels_in_bf16(**inputs), reference_in_bf16(**inputs), strict=True):
        error = (got - expected).abs() / expected.abs().max()
        assert (error > 1e-5).float().mean() < (0.2 if deep else 0.05)
        assert error.max() < 2e-2
    grads = make_grads(inputs)
    names = [k for k in LEAVES if k in inputs]
    ours, theirs = (gradients(fn, inputs, grads) for fn in (kernels_in_bf16, reference_in_bf16))
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert relative_error(a, b) < (3e-2 if deep else 5e-3), name


# The budget of the precision itself: 8 bits of mantissa in every product of seven layers, and units of hidden
# layers on the other side of zero. The gradients of noise cancel in their sums, the errors do not.
def test_budget_against_float64(isa):
    inputs = make_inputs(FIELDS["the bench's networks"], n=3000)
    grads = make_grads(inputs)
    exact, exact_grads = in_float64(inputs, grads)
    for got, expected in zip(kernels_in_bf16(**inputs), reference.radiance_field(**exact), strict=True):
        assert relative_error(got, expected) < 1e-2
    ours, rounded = (gradients(fn, inputs, grads) for fn in (kernels_in_bf16, reference_in_bf16))
    theirs = gradients(reference.radiance_field, exact, exact_grads)
    for name, a, b, c in zip(LEAVES, ours, theirs, rounded, strict=True):
        assert relative_error(a, b) < 0.12, name
        assert relative_error(a, b) < 1.05 * relative_error(c, b), name


def test_it_does_round(isa):
    inputs = make_inputs()
    assert not torch.equal(kernels_in_bf16(**inputs)[0], radiance_field(**inputs)[0])


@pytest.mark.parametrize("n", [0, 1, 47, 48, 49, 96, 97, 16 * 48 + 5])
def test_any_number_of_samples(isa, n):
    inputs = make_inputs(n=n)
    for got, expected in zip(kernels_in_bf16(**inputs), reference_in_bf16(**inputs), strict=True):
        torch.testing.assert_close(got, expected, rtol=2e-2, atol=1e-2)
    grads = make_grads(inputs)
    for a, b in zip(
        gradients(kernels_in_bf16, inputs, grads), gradients(reference_in_bf16, inputs, grads), strict=True
    ):
        assert relative_error(a, b) < 2e-2


def test_results_do_not_depend_on_the_number_of_threads():
    inputs = make_inputs(n=70_000, n_rays=6000)
    grads, before, results = make_grads(inputs, share=0.97), torch.get_num_threads(), []
    for n_threads in (1, 2, 3, 3):
        torch.set_num_threads(n_threads)
        results.append([*kernels_in_bf16(**inputs), *gradients(kernels_in_bf16, inputs, grads)])
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


# Kept features are what the networks multiply, on every instruction set; without them, vectors read the
# features level by level.
@pytest.mark.parametrize("n_features", [2, 4])
@pytest.mark.parametrize("share", [0.9, 1.0])
def test_the_backward_pass_is_the_same_whether_features_are_kept_or_not(isa, share, n_features):
    grid, *networks = FIELDS["the bench's networks"]
    grid = dataclasses.replace(grid, n_levels=32 // n_features, n_features=n_features)
    inputs = make_inputs((grid, *networks), n=1000)
    grads = make_grads(inputs, share=share)
    sigma, color = (inputs[k] for k in ("sigma_spec", "color_spec"))
    field = (
        *(inputs["positions"], inputs["table"], grid_numbers(grid), inputs["sigma_params"]),
        *(mlp_numbers(sigma), inputs["color_params"], [15, 16, *mlp_numbers(color)[2:]]),
        *(inputs[k] for k in ("views", "ray_indices", "cond", "cond_index", "density_bias")),
        True,
    )
    *_, kept = _native.ops().radiance_field_fwd(*field, True)
    assert torch.equal(kept, ops.grid_encode(inputs["positions"], inputs["table"], grid).bfloat16())
    results = [
        _native.ops().radiance_field_bwd(*grads, *field, features, True, True)
        for features in (kept, kept[:0])
    ]
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_many_samples_are_what_few_are(isa, precision):
    inputs = make_inputs(FIELDS["the bench's networks"], n=1001)
    parts = [
        radiance_field(
            **{k: v[i : i + 600] if k in PER_SAMPLE else v for k, v in inputs.items()}, precision=precision
        )
        for i in (0, 600)
    ]
    for whole, *pieces in zip(radiance_field(**inputs, precision=precision), *parts, strict=True):
        assert torch.equal(whole, torch.cat(pieces))


def test_dense_samples_have_finite_gradients(isa):
    inputs = {**make_inputs(), "density_bias": 9.2}  # densities of about 1e4
    assert all(g.isfinite().all() for g in gradients(kernels_in_bf16, inputs, make_grads(inputs)))


def test_a_nan_reaches_its_samples_only(isa):
    inputs = make_inputs()
    inputs["cond"][1, 0] = float("nan")
    hit = inputs["cond_index"] == 1
    for out in kernels_in_bf16(**inputs):
        assert out[hit].isnan().all() and out[~hit].isfinite().all()


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
            *(True, False),
        ),
    )


def test_rejects_float64():
    with pytest.raises(RuntimeError, match="radiance_field: precision bfloat16 needs float32 tensors"):
        kernels_in_bf16(**make_inputs(dtype=torch.float64))


def test_cuda_kernels_reject_it():
    if not _native.LIBRARY.with_name("libnerfad_emu.so").is_file():
        pytest.skip("the emulated kernels are not built (needs the CUDA headers)")
    with ops.emulated_cuda(), pytest.raises(RuntimeError, match="bfloat16 runs on the CPU only"):
        kernels_in_bf16(**make_inputs())
