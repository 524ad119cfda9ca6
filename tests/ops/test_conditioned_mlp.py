"""conditioned_mlp: against the reference, gradients, opcheck, rejections, edges and instruction sets."""

import dataclasses

import pytest
import torch
from torch.autograd import gradcheck

from nerfad import _native
from nerfad.ops import MLPSpec, conditioned_mlp
from nerfad.ops.reference import conditioned_mlp as reference

SPEC = MLPSpec(d_in=32, d_cond=12, d_hidden=64, n_hidden=3, d_out=16)
SPECS = {
    "density": SPEC,
    "colour": MLPSpec(31, 0, 64, 2, 3, "sigmoid"),
    "narrow": MLPSpec(8, 5, 16, 1, 1),
    "wide": MLPSpec(40, 7, 128, 2, 65, "sigmoid"),
    "odd": MLPSpec(3, 2, 80, 2, 17),
    "unaligned": MLPSpec(5, 1, 37, 4, 6),
    "too deep for shared memory": MLPSpec(9, 2, 128, 8, 4),
}


@pytest.fixture(params=SPECS)
def spec(request):
    return SPECS[request.param]


def make_inputs(spec, n_samples=150, n_cond=3, dtype=torch.float32, seed=0, device="cpu"):
    g = torch.Generator().manual_seed(seed)
    params = spec.init(g).to(dtype)
    for _, bias in spec.split(params):
        bias.uniform_(-0.3, 0.3, generator=g)
    inputs = dict(x=torch.rand(n_samples, spec.d_in, generator=g, dtype=dtype) * 2 - 1, params=params)
    if spec.d_cond:
        inputs["cond"] = torch.randn(n_cond, spec.d_cond, generator=g, dtype=dtype)
        inputs["cond_index"] = torch.randint(n_cond, (n_samples,), generator=g, dtype=torch.int32)
    return {k: v.to(device) for k, v in inputs.items()}


def tolerance(device_name):
    """The CUDA kernels multiply in half precision."""
    return dict(rtol=2e-5, atol=2e-5) if device_name == "native" else dict(rtol=2e-2, atol=6e-3)


def test_matches_reference(kernel_device, spec, request):
    inputs = make_inputs(spec, device=kernel_device)
    backend = request.node.callspec.params["kernel_device"]
    torch.testing.assert_close(
        conditioned_mlp(spec=spec, **inputs),
        reference.conditioned_mlp(spec=spec, **inputs),
        **tolerance(backend),
    )


def test_matches_reference_float64(spec):
    inputs = make_inputs(spec, dtype=torch.float64)
    got, expected = conditioned_mlp(spec=spec, **inputs), reference.conditioned_mlp(spec=spec, **inputs)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_x_may_be_columns_of_a_wider_matrix(spec, precision, every_isa):
    inputs = make_inputs(spec, n_samples=200)
    wide = torch.full((200, spec.d_in + 3), torch.nan)
    wide[:, 1:-2] = inputs["x"]

    def outputs(x):
        leaves = [t.detach().requires_grad_() for t in (x, inputs["params"])]
        run = inputs | dict(x=leaves[0], params=leaves[1])
        y = conditioned_mlp(spec=spec, precision=precision, **run)
        return y, *torch.autograd.grad(y.square().sum(), leaves)

    for isa in every_isa:
        _native.set_isa(isa)
        for got, expected in zip(outputs(wide[:, 1:-2]), outputs(inputs["x"]), strict=True):
            assert torch.equal(got, expected), isa


def is_decided(spec, inputs, band=4e-3):
    """[n_samples, 1] 1 where no hidden unit is so near zero that half precision may flip its relu, else 0."""
    decided = torch.ones(inputs["x"].shape[0], 1)
    for n_hidden in range(spec.n_hidden):
        cut = dataclasses.replace(
            spec, n_hidden=max(n_hidden, 1), d_out=spec.d_hidden, output_activation="none"
        )
        if n_hidden == 0:
            weight, bias = spec.split(inputs["params"])[0]
            z = inputs["x"] @ weight[:, : spec.d_in].t() + bias
            if spec.d_cond:
                z = z + (inputs["cond"] @ weight[:, spec.d_in :].t())[inputs["cond_index"].long()]
        else:
            z = reference.conditioned_mlp(spec=cut, **{**inputs, "params": inputs["params"][: cut.n_params]})
        decided *= (z.abs().amin(1, keepdim=True) > band).cpu()
    return decided


def gradients(fn, spec, inputs, weight=1.0, seed=1):
    leaves = {k: v.detach().clone().requires_grad_() for k, v in inputs.items() if k != "cond_index"}
    out = fn(spec=spec, **{**inputs, **leaves})
    g = torch.Generator().manual_seed(seed)
    grad_out = torch.randn(out.shape, generator=g, dtype=out.dtype) * weight
    return torch.autograd.grad(out, list(leaves.values()), grad_out.to(out.device))


def assert_gradients_match(spec, inputs, relative, weight=1.0):
    """Errors in proportion to each gradient's largest element: sums of many terms cancel."""
    got = gradients(conditioned_mlp, spec, inputs, weight)
    expected = gradients(reference.conditioned_mlp, spec, inputs, weight)
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        scale = b.abs().max() if b.numel() else 0
        assert bool(((a - b).abs() <= relative * scale).all())


def assert_gradients_match_on(backend, spec, inputs):
    if backend == "native":
        assert_gradients_match(spec, inputs, 2e-5)
    else:
        assert_gradients_match(spec, inputs, 4e-3, is_decided(spec, inputs))


def test_gradients_match_reference(kernel_device, spec, request):
    backend = request.node.callspec.params["kernel_device"]
    assert_gradients_match_on(backend, spec, make_inputs(spec, device=kernel_device))


def test_gradients_match_reference_float64(spec):
    assert_gradients_match(spec, make_inputs(spec, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("isa", _native.ISAS)
def test_every_instruction_set_matches_reference(isa, spec):
    detected = _native.detected_isa()
    if _native.ISAS.index(isa) > _native.ISAS.index(detected):
        pytest.skip(f"this machine has {detected}")
    _native.set_isa(isa)
    try:
        inputs = make_inputs(spec)
        torch.testing.assert_close(
            conditioned_mlp(spec=spec, **inputs),
            reference.conditioned_mlp(spec=spec, **inputs),
            **tolerance("native"),
        )
        assert_gradients_match(spec, inputs, 2e-5)
    finally:
        _native.set_isa(detected)


def test_gradcheck():
    small = MLPSpec(3, 2, 16, 2, 3, "sigmoid")
    inputs = make_inputs(small, n_samples=5, n_cond=2, dtype=torch.float64)
    index = inputs.pop("cond_index")
    leaves = [v.requires_grad_() for v in inputs.values()]
    assert gradcheck(lambda x, params, cond: conditioned_mlp(x, params, small, cond, index), leaves)


def test_opcheck():
    inputs = make_inputs(SPEC)
    for name in ("x", "params", "cond"):
        inputs[name].requires_grad_()
    torch.library.opcheck(
        _native.ops().conditioned_mlp_fwd.default, (*inputs.values(), 12, 64, 3, 16, False, False)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=torch.zeros(150)), r"^conditioned_mlp: x must have shape \[\*, \*\], got \[150\]"),
        (dict(x=torch.zeros(150, 32, dtype=torch.int32)), "x must be float32 .*, got int32"),
        (dict(x=torch.zeros(32, 150).t()), "x must be contiguous"),
        (dict(x=torch.zeros(150, 31)), r"conditioned_mlp: x must have shape \[\*, 32\], got \[150, 31\]"),
        (dict(params=torch.zeros(7)), rf"params must have shape \[{SPEC.n_params}\], got \[7\]"),
        (dict(params=torch.zeros(SPEC.n_params).double()), "params must be float32, got float64"),
        (dict(cond=torch.zeros(3, 11)), r"cond must have shape \[\*, 12\], got \[3, 11\]"),
        (dict(cond=None), "cond must be given for a network with conditions"),
        (dict(cond=torch.zeros(0, 12)), "cond must hold at least one condition"),
        (dict(cond_index=torch.zeros(150, dtype=torch.int64)), "cond_index must be int32, got int64"),
        (
            dict(cond_index=torch.zeros(9, dtype=torch.int32)),
            r"cond_index must have shape \[150\], got \[9\]",
        ),
        (dict(cond_index=torch.full((150,), 3, dtype=torch.int32)), r"cond_index must be in \[0, 3\), got 3"),
        (
            dict(cond_index=torch.full((150,), -1, dtype=torch.int32)),
            r"cond_index must be in \[0, 3\), got -1",
        ),
    ],
)
def test_rejects(change, message):
    with pytest.raises(RuntimeError, match=message):
        conditioned_mlp(spec=SPEC, **{**make_inputs(SPEC), **change})


def test_rejects_a_condition_that_has_no_place():
    colour = SPECS["colour"]
    with pytest.raises(RuntimeError, match="cond must be None for a network without conditions"):
        conditioned_mlp(spec=colour, **make_inputs(colour), cond=torch.zeros(1, 1))


@pytest.mark.parametrize(
    "change",
    [dict(d_hidden=8), dict(d_hidden=256), dict(n_hidden=0), dict(d_in=0), dict(output_activation="tanh")],
)
def test_spec_rejects(change):
    with pytest.raises(ValueError, match=f"MLPSpec: .*{next(iter(change))}"):
        dataclasses.replace(SPEC, **change)


@pytest.mark.parametrize("n_samples", [0, 1, 47, 48, 49, 16 * 9])
def test_any_number_of_samples(kernel_device, n_samples, request):
    backend = request.node.callspec.params["kernel_device"]
    inputs = make_inputs(SPEC, n_samples=n_samples, device=kernel_device)
    got, expected = conditioned_mlp(spec=SPEC, **inputs), reference.conditioned_mlp(spec=SPEC, **inputs)
    torch.testing.assert_close(got, expected, **tolerance(backend))
    assert_gradients_match_on(backend, SPEC, inputs)


def test_without_an_index_all_samples_use_the_first_condition(kernel_device):
    inputs = make_inputs(SPEC, device=kernel_device)
    first = dict(inputs, cond_index=torch.zeros_like(inputs["cond_index"]))
    inputs.pop("cond_index")
    assert torch.equal(conditioned_mlp(spec=SPEC, **inputs), conditioned_mlp(spec=SPEC, **first))
    for got, expected in zip(
        gradients(conditioned_mlp, SPEC, inputs), gradients(conditioned_mlp, SPEC, first), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("n_cond", [1, 150, 5000])
def test_any_number_of_conditions(n_cond):
    assert_gradients_match(SPEC, make_inputs(SPEC, n_samples=3000, n_cond=n_cond), 5e-5)


def conditions_of_rays(spec, n_samples, n_cond):
    """A condition per ray, samples in the order of rays: how a colour network sees its directions."""
    inputs = make_inputs(spec, n_samples, n_cond)
    inputs["cond_index"] = inputs["cond_index"].sort().values
    return inputs


def test_a_condition_per_ray(kernel_device, request):
    spec = MLPSpec(15, 16, 64, 2, 3, "sigmoid")
    inputs = conditions_of_rays(spec, 6000, 3000)
    inputs = {k: v.to(kernel_device) for k, v in inputs.items()}
    assert_gradients_match_on(request.node.callspec.params["kernel_device"], spec, inputs)


def test_gradients_are_the_same_in_every_run(kernel_device):
    """So many conditions, each in many tiles, that CUDA blocks add to the same sums, in any order."""
    spec = MLPSpec(5, 3, 16, 1, 2)
    inputs = {k: v.to(kernel_device) for k, v in make_inputs(spec, 12_000, 2100).items()}
    first, *others = (gradients(conditioned_mlp, spec, inputs) for _ in range(3))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_gradient_that_is_not_finite_shows(kernel_device):
    spec = MLPSpec(5, 3, 16, 1, 2)
    inputs = {k: v.to(kernel_device) for k, v in make_inputs(spec, 12_000, 2100).items()}
    weight = torch.ones(12_000, 1)
    weight[77] = float("nan")
    assert all(grad.isnan().any() for grad in gradients(conditioned_mlp, spec, inputs, weight))


@pytest.mark.parametrize("n_cond", [3, 4000])
def test_gradients_do_not_depend_on_the_number_of_threads(n_cond):
    inputs, before, results = conditions_of_rays(SPEC, 20_000, n_cond), torch.get_num_threads(), []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        results.append(gradients(conditioned_mlp, SPEC, inputs))
    torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_input_gradient_can_be_left_out():
    inputs = make_inputs(SPEC)
    inputs["params"].requires_grad_()
    (grad,) = torch.autograd.grad(conditioned_mlp(spec=SPEC, **inputs).sum(), inputs["params"])
    (expected,) = torch.autograd.grad(reference.conditioned_mlp(spec=SPEC, **inputs).sum(), inputs["params"])
    torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-3)


def test_a_nan_reaches_the_output():
    inputs = make_inputs(SPEC)
    inputs["x"][3, 0] = float("nan")
    out = conditioned_mlp(spec=SPEC, **inputs)
    assert out[3].isnan().all() and out.isnan().sum() == SPEC.d_out


def test_split_covers_the_parameters():
    params = torch.arange(SPEC.n_params, dtype=torch.float32)
    pieces = [piece.flatten() for layer in SPEC.split(params) for piece in layer]
    assert torch.equal(torch.cat(pieces), params)
