"""ray_aabb: against the reference, opcheck, rejections, edges and closed forms."""

import pytest
import torch

from nerfad import _native
from nerfad.ops import ray_aabb
from nerfad.ops.reference import ray_aabb as reference

AABB = [-1.0, -0.5, -1.0, 1.0, 1.5, 0.5]


def make_inputs(n_rays=1000, dtype=torch.float32, device="cpu", seed=0):
    g = torch.Generator().manual_seed(seed)
    inputs = dict(
        rays_o=torch.randn(n_rays, 3, generator=g, dtype=dtype) * 2,
        rays_d=torch.randn(n_rays, 3, generator=g, dtype=dtype),
        aabb=torch.tensor(AABB, dtype=dtype),
    )
    return {k: v.to(device) for k, v in inputs.items()}


def assert_matches_reference(inputs, **bounds):
    for got, expected in zip(
        ray_aabb(**inputs, **bounds), reference.ray_aabb(**inputs, **bounds), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bounds", [{}, dict(near=0.5, far=3.0)])
def test_matches_reference(kernel_device, bounds):
    inputs = make_inputs(device=kernel_device)
    assert_matches_reference(inputs, **bounds)
    n_hits = int((ray_aabb(**inputs)[0] < 1e10).sum())
    assert 100 < n_hits < 900


def test_matches_reference_float64():
    assert_matches_reference(make_inputs(dtype=torch.float64))


@pytest.mark.parametrize("n_rays", [3, 61, 5000])
def test_every_instruction_set_gives_the_same_bits(every_isa, n_rays):
    inputs = make_inputs(n_rays)
    g = torch.Generator().manual_seed(1)
    for rays in (inputs["rays_o"], inputs["rays_d"]):
        for odd in (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf")):
            rays[torch.rand(rays.shape, generator=g) < 0.05] = odd
    results = []
    for isa in every_isa:
        _native.set_isa(isa)
        results.append(torch.stack(ray_aabb(**inputs, near=0.1)))
    assert n_rays < 10 or 0 < int((results[0][0] < 1e10).sum()) < n_rays
    for other in results[1:]:
        assert torch.equal(other, results[0])


def test_hits_lie_on_the_box(kernel_device):
    inputs = make_inputs(device=kernel_device)
    t_min, t_max = ray_aabb(**inputs)
    hit = t_min < 1e10
    leaving = (inputs["rays_o"] + t_max[:, None] * inputs["rays_d"])[hit]
    low, high = inputs["aabb"][:3], inputs["aabb"][3:]
    distance = torch.minimum((leaving - low).abs(), (leaving - high).abs()).amin(1)
    assert float(distance.max()) < 1e-5
    assert bool(((leaving > low - 1e-5) & (leaving < high + 1e-5)).all())


def test_rays_along_axes_and_broken_rays(kernel_device):
    nan, inf = float("nan"), float("inf")
    rays_o = [
        [0, 0, 3],
        [2, 0, 3],
        [0, 0, 0],
        [1, 0, 3],
        [nan, 0, 3],
        [0, 0, 3],
        [0, 0, 3],
        [0, 0, 3],
        [9, 9, 9],
    ]
    rays_d = [[0, 0, -1], [0, 0, -1], [0, 0, -1], [0, 0, -1], [0, 0, -1], [0, nan, -1], [0, 0, 1], [0, 0, 0]]
    inputs = dict(
        rays_o=torch.tensor(rays_o, dtype=torch.float32, device=kernel_device),
        rays_d=torch.tensor([*rays_d, [inf, 0, 0]], dtype=torch.float32, device=kernel_device),
        aabb=torch.tensor(AABB, device=kernel_device),
    )
    t_min, t_max = ray_aabb(**inputs, far=100.0)
    assert t_min.tolist() == [2.5, 100.0, 0.0, 2.5, 100.0, 100.0, 100.0, 100.0, 100.0]
    assert t_max.tolist() == [4.0, 100.0, 1.0, 4.0, 100.0, 100.0, 100.0, 100.0, 100.0]
    assert_matches_reference(inputs, far=100.0)


def test_no_rays(kernel_device):
    t_min, t_max = ray_aabb(**make_inputs(n_rays=0, device=kernel_device))
    assert t_min.shape == t_max.shape == (0,)


def test_opcheck():
    torch.library.opcheck(_native.ops().ray_aabb.default, (*make_inputs(n_rays=10).values(), 0.0, 1e10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rays_o=torch.zeros(3)), r"ray_aabb: rays_o must have shape \[\*, 3\], got \[3\]"),
        (dict(rays_d=torch.zeros(10, 3)), r"ray_aabb: rays_d must have shape \[1000, 3\], got \[10, 3\]"),
        (dict(aabb=torch.zeros(2, 3)), r"ray_aabb: aabb must have shape \[6\], got \[2, 3\]"),
        (dict(aabb=torch.zeros(6, dtype=torch.float64)), "ray_aabb: aabb must be float32, got float64"),
        (dict(rays_o=torch.zeros(1000, 3, dtype=torch.half)), "rays_o must be float32 .*, got float16"),
        (dict(rays_d=torch.zeros(3, 1000).t()), "ray_aabb: rays_d must be contiguous"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(RuntimeError, match=message):
        ray_aabb(**{**make_inputs(), **change})
