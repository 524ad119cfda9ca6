"""sparse_adam_: against the reference and torch.optim, opcheck, rejections and edges."""

import pytest
import torch

from nerfad import _native
from nerfad.ops import sparse_adam_
from nerfad.ops.reference import sparse_adam as reference

OPTIONS = dict(step=3, lr=1e-2, betas=(0.9, 0.99), eps=1e-8)


def make_inputs(shape=(1003, 2), dtype=torch.float32, share=0.2, device="cpu", seed=0):
    g = torch.Generator().manual_seed(seed)

    def rand():
        return torch.rand(shape, generator=g, dtype=dtype)

    grad = (rand() - 0.5) * (rand() < share)
    return [t.to(device) for t in (rand() - 0.5, grad, rand() * 0.1, rand() * 0.01)]


def run(fn, inputs, **options):
    copies = [t.clone() for t in inputs]
    fn(*copies, **{**OPTIONS, **options})
    return copies


@pytest.mark.parametrize("options", [{}, dict(weight_decay=0.1), dict(zero_grad=True), dict(step=1000)])
def test_matches_reference(kernel_device, options):
    inputs = make_inputs(device=kernel_device)
    got, expected = (run(f, inputs, **options) for f in (sparse_adam_, reference.sparse_adam_))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert bool((got[1] == 0).all()) == options.get("zero_grad", False)


@pytest.mark.parametrize("isa", ["avx512", "avx2", "portable"])
@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_matches_reference_on_every_instruction_set(isa, share):
    before = _native.isa()
    inputs = make_inputs(share=share)
    try:
        _native.set_isa(isa)
        got = run(sparse_adam_, inputs)
    finally:
        _native.set_isa(before)
    for a, b in zip(got, run(reference.sparse_adam_, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_matches_reference_float64():
    inputs = make_inputs(dtype=torch.float64)
    for a, b in zip(run(sparse_adam_, inputs), run(reference.sparse_adam_, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_untouched_elements_keep_their_bits(kernel_device):
    inputs = make_inputs(device=kernel_device)
    got = run(sparse_adam_, inputs, weight_decay=0.1)
    untouched = inputs[1] == 0
    assert 0 < int(untouched.sum()) < untouched.numel()
    for before, after in zip(inputs, got, strict=True):
        assert torch.equal(before[untouched], after[untouched])
    assert not torch.equal(inputs[0], got[0])


def test_is_adamw_where_every_gradient_is_nonzero():
    g = torch.Generator().manual_seed(0)
    table = torch.randn(50, 4, generator=g, dtype=torch.float64)
    ours, m, v = table.clone(), torch.zeros_like(table), torch.zeros_like(table)
    theirs = torch.nn.Parameter(table.clone())
    adam = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.3)
    for step in range(1, 6):
        grad = torch.randn(table.shape, generator=g, dtype=torch.float64)
        theirs.grad = grad.clone()
        adam.step()
        sparse_adam_(ours, grad, m, v, step, 0.01, (0.9, 0.99), 1e-8, weight_decay=0.3)
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-10, atol=1e-12)


def test_changes_a_parameter_that_requires_a_gradient():
    table = torch.nn.Parameter(torch.ones(4))
    sparse_adam_(table, torch.ones(4), torch.zeros(4), torch.zeros(4), step=1, lr=0.25)
    torch.testing.assert_close(table.detach(), torch.full((4,), 0.75))


def test_opcheck():
    args = (*make_inputs((30, 2)), 1, 1e-2, 0.9, 0.99, 1e-8, 0.0, True)
    torch.library.opcheck(_native.ops().sparse_adam_.default, args)


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (1, lambda t: t[:-1], "sparse_adam_: grad must have the shape of table"),
        (2, lambda t: t.double(), "sparse_adam_: m must be float32, got float64"),
        (3, lambda t: torch.cat([t, t], 1)[:, :2], "sparse_adam_: v must be contiguous"),
        (0, lambda t: t.half(), "sparse_adam_: table must be float32 .*, got float16"),
    ],
)
def test_rejects(index, change, message):
    inputs = make_inputs()
    inputs[index] = change(inputs[index])
    with pytest.raises(RuntimeError, match=message):
        sparse_adam_(*inputs, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(step=0), "step must be at least 1, got 0"),
        (dict(betas=(1.0, 0.9)), r"betas must be in \[0, 1\)"),
    ],
)
def test_rejects_options(options, message):
    with pytest.raises(RuntimeError, match=message):
        sparse_adam_(*make_inputs(), **{**OPTIONS, **options})


@pytest.mark.parametrize("n", [0, 1, 3, 4, 15, 129, 70000])
def test_any_number_of_elements(kernel_device, n):
    inputs = make_inputs((n,), device=kernel_device)
    for a, b in zip(run(sparse_adam_, inputs), run(reference.sparse_adam_, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
