"""composite: against the reference, gradients, opcheck, rejections, edges, properties and closed forms."""

import pytest
import torch
from torch.autograd import gradcheck

from nerfad import _native
from nerfad.ops import composite
from nerfad.ops.reference import composite as reference

COUNTS = [5, 0, 1, 17, 0, 3]


def make_inputs(counts=COUNTS, dtype=torch.float32, seed=0, density=4.0, device="cpu"):
    g = torch.Generator().manual_seed(seed)
    counts = torch.tensor(counts, dtype=torch.int64)
    n = int(counts.sum())
    packed_info = torch.stack([torch.cumsum(counts, 0) - counts, counts], 1)
    t_starts = torch.rand(n, generator=g, dtype=dtype) + torch.arange(n, dtype=dtype)
    inputs = dict(
        sigmas=torch.rand(n, generator=g, dtype=dtype) * density,
        rgbs=torch.rand(n, 3, generator=g, dtype=dtype),
        t_starts=t_starts,
        t_ends=t_starts + 0.1 + torch.rand(n, generator=g, dtype=dtype),
        packed_info=packed_info.reshape(-1, 2),
        background=torch.rand(len(counts), 3, generator=g, dtype=dtype),
    )
    return {k: v.to(device).contiguous() for k, v in inputs.items()}


@pytest.mark.parametrize("with_background", [True, False])
def test_matches_reference(kernel_device, with_background):
    inputs = make_inputs(device=kernel_device)
    if not with_background:
        inputs["background"] = None
    for got, expected in zip(composite(**inputs), reference.composite(**inputs), strict=True):
        torch.testing.assert_close(got, expected, rtol=2e-5, atol=2e-6)


def test_matches_reference_float64():
    inputs = make_inputs(dtype=torch.float64)
    for got, expected in zip(composite(**inputs), reference.composite(**inputs), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)


def gradients(fn, inputs, seed=1):
    names = [k for k in ("sigmas", "rgbs", "background") if inputs[k] is not None]
    leaves = {k: inputs[k].detach().clone().requires_grad_() for k in names}
    outputs = fn(**{**inputs, **leaves})
    g = torch.Generator().manual_seed(seed)
    loss = sum((o * torch.rand(o.shape, generator=g, dtype=o.dtype).to(o.device)).sum() for o in outputs)
    return torch.autograd.grad(loss, list(leaves.values()))


def test_gradients_match_reference(kernel_device):
    inputs = make_inputs(device=kernel_device)
    for got, expected in zip(
        gradients(composite, inputs), gradients(reference.composite, inputs), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_gradients_match_reference_where_rays_stop_early(kernel_device):
    inputs = make_inputs(counts=[200, 64], density=30.0, device=kernel_device)
    assert int((composite(**inputs)[3] == 0).sum()) > 50
    for got, expected in zip(
        gradients(composite, inputs), gradients(reference.composite, inputs), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_gradcheck():
    inputs = make_inputs(dtype=torch.float64, density=1.0)
    packed, t0, t1 = inputs["packed_info"], inputs["t_starts"], inputs["t_ends"]
    leaves = [inputs[k].requires_grad_() for k in ("sigmas", "rgbs", "background")]
    assert gradcheck(lambda s, c, b: composite(s, c, t0, t1, packed, b, 0.0), leaves)


def test_opcheck():
    inputs = make_inputs()
    inputs["sigmas"].requires_grad_()
    torch.library.opcheck(_native.ops().composite_fwd.default, (*inputs.values(), 1e-4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rgbs=torch.zeros(26, 2)), r"composite: rgbs must have shape \[26, 3\], got \[26, 2\]"),
        (dict(t_ends=torch.zeros(25)), r"composite: t_ends must have shape \[26\], got \[25\]"),
        (dict(sigmas=torch.zeros(26, dtype=torch.int32)), "sigmas must be float32 .*, got int32"),
        (dict(rgbs=torch.zeros(26, 3, dtype=torch.float64)), "rgbs must be float32, got float64"),
        (dict(packed_info=torch.zeros(6, 2, dtype=torch.int32)), "packed_info must be int64, got int32"),
        (dict(background=torch.zeros(5, 3)), r"background must have shape \[6, 3\], got \[5, 3\]"),
        (dict(rgbs=torch.zeros(3, 26).t()), "rgbs must be contiguous"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(RuntimeError, match=message):
        composite(**{**make_inputs(), **change})


def test_no_rays_and_no_samples(kernel_device):
    for counts in ([], [0, 0]):
        inputs = make_inputs(counts=counts, device=kernel_device)
        colors, opacities, _, weights = composite(**inputs)
        torch.testing.assert_close(colors, inputs["background"])
        assert opacities.sum() == 0 and weights.numel() == 0


def test_more_rays_than_one_block(kernel_device):
    inputs = make_inputs(counts=[3] * 1001, device=kernel_device)
    for got, expected in zip(composite(**inputs), reference.composite(**inputs), strict=True):
        torch.testing.assert_close(got, expected, rtol=2e-5, atol=2e-6)


def test_permuting_rays_permutes_outputs(kernel_device):
    inputs = make_inputs(device=kernel_device)
    order = torch.randperm(len(COUNTS), generator=torch.Generator().manual_seed(3)).to(kernel_device)
    permuted = {
        **inputs,
        "packed_info": inputs["packed_info"][order],
        "background": inputs["background"][order],
    }
    for got, expected in zip(composite(**permuted)[:3], composite(**inputs)[:3], strict=True):
        assert torch.equal(got, expected[order])


def test_weights_sum_to_at_most_one_and_stay_finite_at_huge_densities(kernel_device):
    inputs = make_inputs(density=1e4, device=kernel_device)
    opacities = composite(**inputs)[1]
    assert bool((opacities <= 1 + 1e-6).all())
    assert all(torch.isfinite(g).all() for g in gradients(composite, inputs))


def test_constant_density_has_the_closed_form():
    n, sigma = 400, 1.7
    edges = torch.linspace(0.0, 2.0, n + 1, dtype=torch.float64)
    sigmas, rgbs = torch.full((n,), sigma, dtype=torch.float64), torch.full((n, 3), 0.6, dtype=torch.float64)
    packed = torch.tensor([[0, n]])
    colors, opacities, depths, _ = composite(
        sigmas, rgbs, edges[:-1].clone(), edges[1:].clone(), packed, None, 0.0
    )
    absorbed = 1 - torch.exp(torch.tensor(-2.0 * sigma, dtype=torch.float64))
    torch.testing.assert_close(opacities[0], absorbed)
    torch.testing.assert_close(colors[0, 0], 0.6 * absorbed)
    mean_depth = (1 - (1 + 2 * sigma) * (1 - absorbed)) / sigma
    torch.testing.assert_close(depths[0], mean_depth, rtol=1e-4, atol=0)
