"""conditioned_mlp with bfloat16 operands: the reference on every instruction set, and torch autocast."""

import pytest
import torch
from test_conditioned_mlp import SPECS, gradients, make_inputs

from nerfad import _native, ops
from nerfad.ops import MLPSpec, conditioned_mlp
from nerfad.ops.reference import conditioned_mlp as reference


def kernels_in_bf16(**inputs):
    return conditioned_mlp(**inputs, precision="bfloat16")


def reference_in_bf16(**inputs):
    return reference.conditioned_mlp(**inputs, precision="bfloat16")


def relative_error(got, expected):
    return float((got - expected).norm() / expected.norm())


@pytest.fixture(params=_native.ISAS)
def isa(request):
    detected = _native.detected_isa()
    if _native.ISAS.index(request.param) > _native.ISAS.index(detected):
        pytest.skip(f"this machine has {detected}")
    _native.set_isa(request.param)
    yield request.param
    _native.set_isa(detected)


# Another order of the same sum may round to the neighbouring bfloat16, a part in 256, and so flip a unit or
# move all that follows: most samples are equal to float32, a few are off. Eight layers multiply the few. One
# sample of a thousand whose unit is flipped moves the norm of a gradient by a hundredth.
@pytest.mark.parametrize("name", SPECS)
def test_matches_reference(isa, name):
    spec = SPECS[name]
    inputs = make_inputs(spec, n_samples=1000)
    got, expected = kernels_in_bf16(spec=spec, **inputs), reference_in_bf16(spec=spec, **inputs)
    error = (got - expected).abs() / expected.abs().max()
    assert (error > 1e-5).float().mean() < (0.05 if spec.n_hidden > 4 else 0.01)
    assert error.max() < 2e-2
    ours, theirs = gradients(kernels_in_bf16, spec, inputs), gradients(reference_in_bf16, spec, inputs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b) < 2e-2
    samples_off = (ours[0] - theirs[0]).norm(dim=1) > 1e-4 * theirs[0].norm(dim=1).mean()
    assert samples_off.float().mean() < (0.05 if spec.n_hidden > 4 else 0.01)


@pytest.mark.parametrize("n_samples", [0, 1, 47, 48, 49, 95, 96, 97])
def test_any_number_of_samples(isa, n_samples):
    spec = SPECS["density"]
    inputs = make_inputs(spec, n_samples)
    got, expected = kernels_in_bf16(spec=spec, **inputs), reference_in_bf16(spec=spec, **inputs)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-2)
    for a, b in zip(
        gradients(kernels_in_bf16, spec, inputs), gradients(reference_in_bf16, spec, inputs), strict=True
    ):
        assert float((a - b).norm()) <= 1e-2 * float(b.norm())


def test_operands_are_rounded_to_nearest_even_and_sums_are_not(isa):
    spec = MLPSpec(d_in=3, d_cond=1, d_hidden=16, n_hidden=1, d_out=1)
    params = torch.zeros(spec.n_params)
    (first, bias), (last, _) = spec.split(params)
    first[0] = torch.tensor([1.0, 1.0, 0.0, 1.0])  # unit 0: x0 + x1 + c + b
    bias[0] = 2.0**-12
    last[0, 0] = 1.0
    ulp = 2.0**-7  # of bfloat16 at 1
    x = torch.tensor([[1 + ulp / 2, 0, 0], [1 + 3 * ulp / 2, 0, 0], [1.0, 2.0**-12, 0]])
    cond = torch.tensor([[2.0**-20]])  # folded in float32: kept until the hidden unit is rounded
    got = kernels_in_bf16(x=x, params=params, spec=spec, cond=cond).flatten()
    assert got.tolist() == [1.0, 1 + 2 * ulp, 1.0]
    bias[0] = -1.0
    got = kernels_in_bf16(x=x, params=params, spec=spec, cond=cond).flatten()
    assert got.tolist() == [2.0**-20, 2 * ulp, 2.0**-12]


def test_a_nan_reaches_the_output_of_its_sample_only(isa):
    spec = SPECS["density"]
    inputs = make_inputs(spec)
    inputs["x"][3, 0] = float("nan")
    out = kernels_in_bf16(spec=spec, **inputs)
    assert out[3].isnan().all() and out.isnan().sum() == spec.d_out


def autocast(**inputs):
    with torch.autocast("cpu", torch.bfloat16):
        return reference.conditioned_mlp(**inputs).float()


# What others call bfloat16 training rounds also every layer's output and gradient. Against float32 we must be
# no worse than that, with the condition's gradient, which we sum in float32, included.
@pytest.mark.parametrize("name", ["density", "colour", "wide"])
def test_gradients_are_no_worse_than_those_of_autocast(name):
    spec = SPECS[name]
    inputs = make_inputs(spec, n_samples=4000)
    exact = gradients(reference.conditioned_mlp, spec, inputs)
    ours = gradients(kernels_in_bf16, spec, inputs)
    theirs = gradients(autocast, spec, inputs)
    for a, b, c in zip(exact, ours, theirs, strict=True):
        assert relative_error(b, a) < 1.1 * relative_error(c, a) + 1e-3
        assert relative_error(b, c) < 0.1


def test_gradients_do_not_depend_on_the_number_of_threads():
    spec, before, results = SPECS["density"], torch.get_num_threads(), []
    inputs = make_inputs(spec, 20_000, 100)
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        results.append(gradients(kernels_in_bf16, spec, inputs))
    torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_opcheck():
    spec = SPECS["density"]
    inputs = make_inputs(spec)
    for name in ("x", "params", "cond"):
        inputs[name].requires_grad_()
    arguments = (*inputs.values(), spec.d_cond, spec.d_hidden, spec.n_hidden, spec.d_out, False, True)
    torch.library.opcheck(_native.ops().conditioned_mlp_fwd.default, arguments)


def test_rejects_what_has_no_such_precision():
    spec = SPECS["density"]
    with pytest.raises(RuntimeError, match="precision must be float32 or bfloat16, got 'half'"):
        conditioned_mlp(spec=spec, **make_inputs(spec), precision="half")
    with pytest.raises(RuntimeError, match="precision bfloat16 needs float32 tensors"):
        kernels_in_bf16(spec=spec, **make_inputs(spec, dtype=torch.float64))


def test_cuda_kernels_reject_it():
    if not _native.LIBRARY.with_name("libnerfad_emu.so").is_file():
        pytest.skip("the emulated kernels are not built (needs the CUDA headers)")
    spec = SPECS["density"]
    with ops.emulated_cuda(), pytest.raises(RuntimeError, match="bfloat16 runs on the CPU only"):
        kernels_in_bf16(spec=spec, **make_inputs(spec))
