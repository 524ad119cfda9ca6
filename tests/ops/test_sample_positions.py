"""sample_positions: against the reference, gradients, opcheck, rejections, edges and properties."""

import pytest
import torch
from torch.autograd import gradcheck

from nerfad import _native
from nerfad.ops import sample_positions
from nerfad.ops.reference import sample_positions as reference

COUNTS = [5, 0, 1, 17, 0, 3]
AABB = [-1.0, -0.5, -1.0, 1.0, 1.5, 0.5]


def make_inputs(counts=COUNTS, dtype=torch.float32, device="cpu", extent=0.4, seed=0, spare=0):
    g = torch.Generator().manual_seed(seed)
    counts = torch.tensor(counts, dtype=torch.int64)
    n = int(counts.sum()) + spare
    t_starts = torch.rand(n, generator=g, dtype=dtype)
    inputs = dict(
        rays_o=torch.rand(len(counts), 3, generator=g, dtype=dtype) * extent,
        rays_d=torch.rand(len(counts), 3, generator=g, dtype=dtype) * extent - extent / 2,
        t_starts=t_starts,
        t_ends=t_starts + 0.1,
        packed_info=torch.stack([torch.cumsum(counts, 0) - counts, counts], 1),
        aabb=torch.tensor(AABB, dtype=dtype),
    )
    return {k: v.to(device).contiguous() for k, v in inputs.items()}


def gradients(fn, inputs):
    leaves = {k: inputs[k].clone().requires_grad_() for k in ("rays_o", "rays_d")}
    positions = fn(**{**inputs, **leaves})
    g = torch.Generator().manual_seed(1)
    weights = torch.rand(positions.shape, generator=g, dtype=positions.dtype).to(positions.device)
    return torch.autograd.grad((positions * weights).sum(), list(leaves.values()))


@pytest.mark.parametrize("extent", [0.4, 4.0])  # all inside; some clamped
def test_matches_reference(kernel_device, extent):
    inputs = make_inputs(device=kernel_device, extent=extent)
    expected = reference.sample_positions(**inputs)
    assert bool(((expected == 0) | (expected == 1)).any()) == (extent == 4.0)
    torch.testing.assert_close(sample_positions(**inputs), expected, rtol=1e-6, atol=1e-6)


def test_matches_reference_float64():
    inputs = make_inputs(dtype=torch.float64)
    expected = reference.sample_positions(**inputs)
    torch.testing.assert_close(sample_positions(**inputs), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("extent", [0.4, 4.0])
def test_gradients_match_reference(kernel_device, extent):
    inputs = make_inputs(device=kernel_device, extent=extent)
    expected = gradients(reference.sample_positions, inputs)
    for got, wanted in zip(gradients(sample_positions, inputs), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_gradcheck():
    inputs = make_inputs(dtype=torch.float64)
    leaves = [inputs[k].requires_grad_() for k in ("rays_o", "rays_d")]
    rest = [inputs[k] for k in ("t_starts", "t_ends", "packed_info", "aabb")]
    assert gradcheck(lambda o, d: sample_positions(o, d, *rest), leaves)


def test_samples_of_no_ray_are_at_zero(kernel_device):
    inputs = make_inputs(device=kernel_device, spare=7)
    positions = sample_positions(**inputs)
    assert positions.shape == (33, 3) and not positions[26:].any() and bool(positions[:26].all())
    assert all(torch.isfinite(g).all() for g in gradients(sample_positions, inputs))


def test_corners_of_the_box_are_the_unit_cube(kernel_device):
    aabb = torch.tensor(AABB, device=kernel_device)
    positions = sample_positions(
        aabb[None, :3].contiguous(),
        (aabb[3:] - aabb[:3])[None].contiguous(),
        torch.tensor([0.0, 0.5, 1.0], device=kernel_device),
        torch.tensor([0.0, 0.5, 1.0], device=kernel_device),
        torch.tensor([[0, 3]], device=kernel_device),
        aabb,
    )
    assert torch.equal(positions, torch.tensor([[0.0], [0.5], [1.0]], device=kernel_device).expand(3, 3))


def test_no_rays_and_no_samples(kernel_device):
    for counts in ([], [0, 0]):
        inputs = make_inputs(counts=counts, device=kernel_device)
        inputs["packed_info"] = inputs["packed_info"].reshape(-1, 2)
        assert sample_positions(**inputs).shape == (0, 3)
        assert not any(g.any() for g in gradients(sample_positions, inputs))


def test_opcheck():
    inputs = make_inputs()
    inputs["rays_o"].requires_grad_()
    torch.library.opcheck(_native.ops().sample_positions_fwd.default, tuple(inputs.values()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rays_d=torch.zeros(5, 3)), r"rays_d must have shape \[6, 3\], got \[5, 3\]"),
        (dict(t_ends=torch.zeros(25)), r"t_ends must have shape \[26\], got \[25\]"),
        (dict(packed_info=torch.zeros(5, 2, dtype=torch.int64)), r"packed_info must have shape \[6, 2\]"),
        (dict(packed_info=torch.zeros(6, 2, dtype=torch.int32)), "packed_info must be int64, got int32"),
        (dict(aabb=torch.zeros(6, dtype=torch.float64)), "aabb must be float32, got float64"),
        (dict(rays_o=torch.zeros(6, 3, dtype=torch.int32)), "rays_o must be float32 .*, got int32"),
        (dict(rays_o=torch.zeros(3, 6).t()), "rays_o must be contiguous"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(RuntimeError, match=f"sample_positions: {message}"):
        sample_positions(**{**make_inputs(), **change})
