"""Frequency encoding of positions, times or codes."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.reference import freq_encode as reference


def freq_encode(x: Tensor, n_octaves: int, include_input: bool = True) -> Tensor:
    r"""Sines and cosines of octaves, :math:`[x,] \sin(2^0 x), \cos(2^0 x), \dots, \sin(2^{k-1} x),
    \cos(2^{k-1} x)`.

    As in NeRF's code (no factor pi); each block holds all d dimensions.

    Args:
        x: [n, d] float32 (float64 on the CPU).
        n_octaves: k, 0 to 24.
        include_input: whether x itself comes first.

    Returns:
        [n, d * (2 * n_octaves + include_input)].

    Differentiable in x.

    Raises:
        RuntimeError: a shape or dtype is wrong, or n_octaves is not in 0..24.

    Example:
        >>> import torch
        >>> from nerfad.ops import freq_encode
        >>> freq_encode(torch.zeros(1, 2), n_octaves=1).tolist()
        [[0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]
    """
    if not _backend.is_native():
        return reference.freq_encode(x, n_octaves, include_input)
    return _native.ops().freq_encode_fwd(x, n_octaves, include_input)


def _fake_fwd(x, n_octaves, include_input):
    return x.new_empty((x.shape[0], x.shape[1] * (2 * n_octaves + include_input)))


def _fake_bwd(x, n_octaves, include_input, values, grad):
    return torch.empty_like(x)


def _setup_context(ctx, inputs, output):
    x, ctx.n_octaves, ctx.include_input = inputs
    ctx.save_for_backward(x, output)


def _backward(ctx, grad):
    x, values = ctx.saved_tensors
    grad_x = _native.ops().freq_encode_bwd(x, ctx.n_octaves, ctx.include_input, values, grad.contiguous())
    return grad_x, None, None


if _native.available():
    torch.library.register_fake("nerfad::freq_encode_fwd", _fake_fwd)
    torch.library.register_fake("nerfad::freq_encode_bwd", _fake_bwd)
    torch.library.register_autograd("nerfad::freq_encode_fwd", _backward, setup_context=_setup_context)
