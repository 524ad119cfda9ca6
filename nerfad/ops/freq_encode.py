"""Frequency encoding of positions, times or codes."""

from torch import Tensor

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
    return reference.freq_encode(x, n_octaves, include_input)
