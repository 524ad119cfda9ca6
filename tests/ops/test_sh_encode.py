"""sh_encode: against the reference, gradients, opcheck, rejections, edges and orthonormality."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from nerfad import _native
from nerfad.ops import sh_encode
from nerfad.ops.reference import sh_encode as reference


def make_dirs(n=37, dtype=torch.float32, seed=0, device="cpu"):
    g = torch.Generator().manual_seed(seed)
    dirs = torch.nn.functional.normalize(torch.randn(n, 3, generator=g, dtype=torch.float64), dim=-1)
    return dirs.to(dtype).to(device)


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_matches_reference(kernel_device, degree):
    dirs = make_dirs(device=kernel_device)
    torch.testing.assert_close(
        sh_encode(dirs, degree), reference.sh_encode(dirs, degree), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_gradients_match_reference(kernel_device, degree):
    dirs = make_dirs(device=kernel_device)
    grad = torch.randn(37, degree**2, generator=torch.Generator().manual_seed(1)).to(kernel_device)
    results = []
    for fn in (sh_encode, reference.sh_encode):
        leaf = dirs.clone().requires_grad_()
        fn(leaf * 1.0, degree).backward(grad)
        results.append(leaf.grad)
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def test_matches_reference_float64():
    dirs = make_dirs(dtype=torch.float64)
    torch.testing.assert_close(sh_encode(dirs, 4), reference.sh_encode(dirs, 4), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_gradcheck(degree):
    assert gradcheck(lambda d: sh_encode(d, degree), make_dirs(5, torch.float64).requires_grad_())


def test_opcheck():
    torch.library.opcheck(_native.ops().sh_encode_fwd.default, (make_dirs().requires_grad_(), 4))


@pytest.mark.parametrize(
    ("dirs", "degree", "message"),
    [
        (torch.zeros(4, 2), 4, r"sh_encode: dirs must have shape \[\*, 3\], got \[4, 2\]"),
        (torch.zeros(4, 3), 5, "sh_encode: degree must be in 1..4, got 5"),
        (torch.zeros(4, 3), 0, "sh_encode: degree must be in 1..4, got 0"),
        (torch.zeros(4, 3, dtype=torch.int64), 4, "dirs must be float32 .*, got int64"),
        (torch.zeros(3, 4).t(), 4, "dirs must be contiguous"),
    ],
)
def test_rejects(dirs, degree, message):
    with pytest.raises(RuntimeError, match=message):
        sh_encode(dirs, degree)


@pytest.mark.parametrize("n", [0, 1, 129])
def test_any_number_of_directions(kernel_device, n):
    dirs = make_dirs(n, device=kernel_device)
    torch.testing.assert_close(sh_encode(dirs, 4), reference.sh_encode(dirs, 4), rtol=1e-5, atol=1e-6)


def test_basis_is_orthonormal():
    """On a Fibonacci sphere the mean of Y_i Y_j over all directions is delta_ij / (4 pi)."""
    n = 20000
    k = torch.arange(n, dtype=torch.float64) + 0.5
    z = 1 - 2 * k / n
    angle = math.pi * (1 + math.sqrt(5)) * k
    r = torch.sqrt(1 - z * z)
    dirs = torch.stack([r * torch.cos(angle), r * torch.sin(angle), z], 1)
    values = sh_encode(dirs, 4)
    gram = values.t() @ values * (4 * math.pi / n)
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-3)
