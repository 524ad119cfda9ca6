"""morton_encode, morton_decode: against the reference, round trip, opcheck, rejections and edges."""

import pytest
import torch

from nerfad import _native
from nerfad.ops import morton_decode, morton_encode
from nerfad.ops.reference import morton as reference


def coords(n=3000, device="cpu"):
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 1024, (n, 3), generator=g, dtype=torch.int32).to(device)


def test_matches_reference(kernel_device):
    points = coords(device=kernel_device)
    codes = morton_encode(points)
    assert torch.equal(codes, reference.morton_encode(points))
    assert torch.equal(morton_decode(codes), reference.morton_decode(codes))


def test_decode_inverts_encode(kernel_device):
    points = coords(device=kernel_device)
    assert torch.equal(morton_decode(morton_encode(points)), points)


def test_codes_of_a_small_cube_are_a_permutation(kernel_device):
    axis = torch.arange(8, dtype=torch.int32)
    cells = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3).to(kernel_device)
    codes = morton_encode(cells).sort().values
    assert torch.equal(codes, torch.arange(512, dtype=torch.int32, device=kernel_device))


def test_known_codes(kernel_device):
    points = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [5, 9, 1], [1023, 1023, 1023]], dtype=torch.int32)
    x_y_z = 1 + (1 << 6) + 2 + (1 << 10) + 4  # x = 101, y = 1001, z = 1 in binary
    expected = [1, 2, 4, x_y_z, 2**30 - 1]
    assert morton_encode(points.to(kernel_device)).tolist() == expected


def test_nothing_in_nothing_out(kernel_device):
    assert morton_encode(coords(0, kernel_device)).shape == (0,)
    assert morton_decode(torch.zeros(0, dtype=torch.int32, device=kernel_device)).shape == (0, 3)


def test_opcheck():
    torch.library.opcheck(_native.ops().morton_encode.default, (coords(9),))
    torch.library.opcheck(_native.ops().morton_decode.default, (morton_encode(coords(9)),))


@pytest.mark.parametrize(
    ("call", "argument", "message"),
    [
        (
            morton_encode,
            torch.zeros(4, 2, dtype=torch.int32),
            r"coords must have shape \[\*, 3\], got \[4, 2\]",
        ),
        (morton_encode, torch.zeros(4, 3, dtype=torch.int64), "coords must be int32, got int64"),
        (morton_encode, torch.zeros(3, 4, dtype=torch.int32).t(), "coords must be contiguous"),
        (morton_decode, torch.zeros(4, 3, dtype=torch.int32), r"codes must have shape \[\*\], got \[4, 3\]"),
        (morton_decode, torch.zeros(4), "codes must be int32, got float32"),
    ],
)
def test_rejects(call, argument, message):
    with pytest.raises(RuntimeError, match=f"{call.__name__}: {message}"):
        call(argument)
