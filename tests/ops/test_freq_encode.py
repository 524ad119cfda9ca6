"""freq_encode: against the reference, gradients, opcheck, rejections, edges and accuracy."""

import pytest
import torch
from torch.autograd import gradcheck

from nerfad import _native
from nerfad.ops import freq_encode
from nerfad.ops.reference import freq_encode as reference


def make_x(n=37, d=3, dtype=torch.float32, scale=3.0, device="cpu"):
    g = torch.Generator().manual_seed(0)
    return (torch.randn(n, d, generator=g, dtype=dtype) * scale).to(device)


@pytest.mark.parametrize("n_octaves", [0, 1, 6])
@pytest.mark.parametrize("include_input", [True, False])
@pytest.mark.parametrize("d", [1, 3, 6])
def test_matches_reference(kernel_device, n_octaves, include_input, d):
    x = make_x(d=d, device=kernel_device)
    torch.testing.assert_close(
        freq_encode(x, n_octaves, include_input),
        reference.freq_encode(x, n_octaves, include_input),
        rtol=1e-5,
        atol=2e-6,
    )


@pytest.mark.parametrize("include_input", [True, False])
def test_gradients_match_reference(kernel_device, include_input):
    x = make_x(device=kernel_device)
    results = []
    for fn in (freq_encode, reference.freq_encode):
        leaf = x.clone().requires_grad_()
        out = fn(leaf, 5, include_input)
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(kernel_device)
        out.backward(grad)
        results.append(leaf.grad)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("isa", ["avx512", "avx2", "portable"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0, 1e6])
def test_accuracy_on_every_instruction_set(isa, scale):
    before = _native.isa()
    try:
        _native.set_isa(isa)
        x = make_x(n=501, scale=scale)
        got = freq_encode(x, 12)
    finally:
        _native.set_isa(before)
    exact = reference.freq_encode(x.double(), 12)  # x * 2^k is exact in float32, too
    assert float((got - exact)[:, 3:].abs().max()) < 1.5e-7


def test_infinities_and_nan_give_nan():
    x = torch.tensor([[float("inf")], [float("nan")], [1.0]])
    out = freq_encode(x, 2, include_input=False)
    assert out[:2].isnan().all() and out[2].isfinite().all()


def test_matches_reference_float64():
    x = make_x(dtype=torch.float64)
    torch.testing.assert_close(freq_encode(x, 8), reference.freq_encode(x, 8), rtol=1e-12, atol=1e-13)


def test_gradcheck():
    assert gradcheck(lambda x: freq_encode(x, 3), make_x(4, 2, torch.float64, 0.5).requires_grad_())


def test_opcheck():
    torch.library.opcheck(_native.ops().freq_encode_fwd.default, (make_x().requires_grad_(), 4, True))


@pytest.mark.parametrize(
    ("x", "n_octaves", "message"),
    [
        (torch.zeros(4), 2, r"freq_encode: x must have shape \[\*, \*\], got \[4\]"),
        (torch.zeros(4, 3), 25, "freq_encode: n_octaves must be in 0..24, got 25"),
        (torch.zeros(4, 3), -1, "freq_encode: n_octaves must be in 0..24, got -1"),
        (torch.zeros(4, 3, dtype=torch.int32), 2, "x must be float32 .*, got int32"),
        (torch.zeros(3, 4).t(), 2, "x must be contiguous"),
    ],
)
def test_rejects(x, n_octaves, message):
    with pytest.raises(RuntimeError, match=message):
        freq_encode(x, n_octaves)


@pytest.mark.parametrize(("n", "d"), [(0, 3), (1, 1), (129, 2), (5, 0)])
def test_any_shape(kernel_device, n, d):
    x = make_x(n, d, device=kernel_device)
    torch.testing.assert_close(freq_encode(x, 3), reference.freq_encode(x, 3), rtol=1e-5, atol=1e-6)
