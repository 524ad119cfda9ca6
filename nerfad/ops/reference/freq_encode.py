"""Plain-torch frequency encoding: the definition that the kernels are tested against."""

import torch
from torch import Tensor


def freq_encode(x: Tensor, n_octaves: int, include_input: bool = True) -> Tensor:
    """See `nerfad.ops.freq_encode`."""
    parts = [x] if include_input else [x[:, :0]]
    for octave in range(n_octaves):
        parts += [torch.sin(x * 2**octave), torch.cos(x * 2**octave)]
    return torch.cat(parts, -1)
