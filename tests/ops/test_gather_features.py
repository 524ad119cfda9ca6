"""gather_features: against the reference and grid_sample, gradients, opcheck, rejections, edges."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from nerfad import _native
from nerfad.ops import gather_features
from nerfad.ops.reference import gather_features as reference


def make_inputs(
    n_views=2, size=(6, 9), n_channels=21, n_points=37, dtype=torch.float32, device="cpu", margin=3.0, seed=0
):
    g = torch.Generator().manual_seed(seed)
    height, width = size
    extent = torch.tensor([width - 1 + 2 * margin, height - 1 + 2 * margin], dtype=dtype)
    maps = torch.randn(n_views, height, width, n_channels, generator=g, dtype=dtype)
    pixels = torch.rand(n_views, n_points, 2, generator=g, dtype=dtype) * extent - margin
    return maps.to(device), pixels.to(device)


def gradients(fn, maps, pixels):
    leaves = [maps.clone().requires_grad_(), pixels.clone().requires_grad_()]
    features = fn(*leaves)
    g = torch.Generator().manual_seed(1)
    weights = torch.randn(features.shape, generator=g, dtype=features.dtype).to(features.device)
    return torch.autograd.grad((features * weights).sum(), leaves)


def grid_sample(maps, pixels):
    """The same in torch's terms: channels first, positions in [-1, 1]."""
    sides = torch.tensor([maps.shape[2], maps.shape[1]], dtype=maps.dtype) - 1
    grid = (pixels / sides * 2 - 1)[:, :, None]
    sampled = F.grid_sample(maps.permute(0, 3, 1, 2), grid, padding_mode="border", align_corners=True)
    return sampled[..., 0].transpose(1, 2)


@pytest.mark.parametrize("n_channels", [1, 4, 21, 128])
def test_matches_reference(kernel_device, n_channels):
    maps, pixels = make_inputs(n_channels=n_channels, device=kernel_device)
    torch.testing.assert_close(
        gather_features(maps, pixels), reference.gather_features(maps, pixels), rtol=1e-5, atol=1e-6
    )


def test_matches_reference_float64():
    maps, pixels = make_inputs(dtype=torch.float64)
    torch.testing.assert_close(
        gather_features(maps, pixels), reference.gather_features(maps, pixels), rtol=1e-13, atol=1e-14
    )


def test_reference_is_grid_sample():
    maps, pixels = make_inputs(dtype=torch.float64)
    torch.testing.assert_close(
        reference.gather_features(maps, pixels), grid_sample(maps, pixels), rtol=1e-12, atol=1e-13
    )
    for got, expected in zip(
        gradients(reference.gather_features, maps, pixels), gradients(grid_sample, maps, pixels), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("n_channels", [1, 4, 21, 128])
def test_gradients_match_reference(kernel_device, n_channels):
    maps, pixels = make_inputs(n_channels=n_channels, device=kernel_device)
    for got, expected in zip(
        gradients(gather_features, maps, pixels),
        gradients(reference.gather_features, maps, pixels),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("isa", ["avx512", "avx2", "portable"])
@pytest.mark.parametrize("n_channels", [3, 16, 77])
def test_every_instruction_set(isa, n_channels):
    maps, pixels = make_inputs(n_channels=n_channels)
    before = _native.isa()
    try:
        _native.set_isa(isa)
        got = (gather_features(maps, pixels), *gradients(gather_features, maps, pixels))
    finally:
        _native.set_isa(before)
    expected = (reference.gather_features(maps, pixels), *gradients(reference.gather_features, maps, pixels))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_sums_do_not_depend_on_the_number_of_threads():
    maps, pixels = make_inputs(n_views=3, n_channels=96, n_points=5000)
    before = torch.get_num_threads()
    results = []
    try:
        for n_threads in (1, 2, 5):
            torch.set_num_threads(n_threads)
            results.append(gradients(gather_features, maps, pixels))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_gradcheck():
    maps, pixels = make_inputs(size=(4, 3), n_channels=5, n_points=6, dtype=torch.float64, margin=1.0)
    # Finite differences are wrong across the borders of cells, where the derivative jumps.
    pixels = torch.where((pixels - pixels.round()).abs() < 1e-3, pixels + 0.01, pixels)
    assert gradcheck(gather_features, (maps.requires_grad_(), pixels.requires_grad_()))


@pytest.mark.parametrize("needs_maps", [True, False])
def test_only_the_gradients_that_are_needed(kernel_device, needs_maps):
    maps, pixels = make_inputs(device=kernel_device)
    full = gradients(gather_features, maps, pixels)
    leaf = (maps if needs_maps else pixels).requires_grad_()
    features = gather_features(maps, pixels)
    g = torch.Generator().manual_seed(1)
    features.backward(torch.randn(features.shape, generator=g).to(kernel_device))
    torch.testing.assert_close(leaf.grad, full[0 if needs_maps else 1])


def test_opcheck():
    maps, pixels = make_inputs()
    torch.library.opcheck(
        _native.ops().gather_features_fwd.default, (maps.requires_grad_(), pixels.requires_grad_())
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(maps=torch.zeros(6, 9, 21)), r"maps must have shape \[\*, \*, \*, \*\], got \[6, 9, 21\]"),
        (dict(pixels=torch.zeros(3, 37, 2)), r"pixels must have shape \[2, \*, 2\], got \[3, 37, 2\]"),
        (dict(pixels=torch.zeros(2, 37, 3)), r"pixels must have shape \[2, \*, 2\], got \[2, 37, 3\]"),
        (dict(pixels=torch.zeros(2, 37, 2, dtype=torch.float64)), "pixels must be float32, got float64"),
        (dict(maps=torch.zeros(2, 6, 9, 21, dtype=torch.int32)), "maps must be float32 .*, got int32"),
        (dict(maps=torch.zeros(2, 0, 9, 21)), "maps must have at least one pixel, got 0 rows and 9 columns"),
        (dict(maps=torch.zeros(2, 21, 6, 9).permute(0, 2, 3, 1)), "maps must be contiguous"),
    ],
)
def test_rejects(change, message):
    maps, pixels = make_inputs()
    with pytest.raises(RuntimeError, match=f"gather_features: {message}"):
        gather_features(**{"maps": maps, "pixels": pixels, **change})


@pytest.mark.parametrize(
    "shape",
    [
        dict(n_points=0),
        dict(n_views=0),
        dict(n_channels=0),
        dict(size=(1, 1)),
        dict(size=(1, 7)),
        dict(n_points=1001, n_channels=4),
    ],
)
def test_any_shape(kernel_device, shape):
    maps, pixels = make_inputs(device=kernel_device, **shape)
    torch.testing.assert_close(
        gather_features(maps, pixels), reference.gather_features(maps, pixels), rtol=1e-5, atol=1e-6
    )
    for got, expected in zip(
        gradients(gather_features, maps, pixels),
        gradients(reference.gather_features, maps, pixels),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_maps_at_an_unaligned_address(kernel_device):
    maps, pixels = make_inputs(n_channels=4, device=kernel_device)
    shifted = torch.cat([maps.new_zeros(1), maps.flatten()])[1:].view(maps.shape)
    torch.testing.assert_close(gather_features(shifted, pixels), gather_features(maps, pixels))


def test_pixel_centres_read_the_map_itself(kernel_device):
    maps, _ = make_inputs(device=kernel_device)
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    pixels = torch.stack([columns, rows], -1).view(1, -1, 2).expand(2, -1, -1).contiguous()
    assert torch.equal(gather_features(maps, pixels.to(kernel_device)), maps.flatten(1, 2))


def test_positions_that_are_no_places(kernel_device):
    maps, _ = make_inputs(n_views=1, device=kernel_device)
    nan, inf = float("nan"), float("inf")
    pixels = torch.tensor([[[nan, nan], [inf, inf], [-inf, 2.0], [1e30, -1e30]]], device=kernel_device)
    expected = torch.stack([maps[0, 0, 0], maps[0, 5, 8], maps[0, 2, 0], maps[0, 0, 8]])[None]
    for fn in (gather_features, reference.gather_features):
        torch.testing.assert_close(fn(maps, pixels), expected)
    leaf = pixels.requires_grad_()
    gather_features(maps, leaf).sum().backward()
    at_row_two = leaf.grad[0, 2, 1]
    assert at_row_two != 0 and leaf.grad.abs().sum() == at_row_two.abs()
