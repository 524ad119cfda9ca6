"""Plain-torch conditioned MLP: the definition that the kernels are tested against. Any device, any float."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear

if TYPE_CHECKING:
    from nerfad.ops.conditioned_mlp import MLPSpec


def conditioned_mlp(
    x: Tensor,
    params: Tensor,
    spec: MLPSpec,
    cond: Tensor | None = None,
    cond_index: Tensor | None = None,
) -> Tensor:
    """See `nerfad.ops.conditioned_mlp`."""
    layers = spec.split(params)
    weight, bias = layers[0]
    if cond is None:
        h = linear(x, weight, bias)
    else:
        # The condition's share of the first layer, once per condition instead of once per sample.
        folded = linear(cond, weight[:, spec.d_in :], bias)
        rows = folded[0] if cond_index is None else folded.index_select(0, cond_index.long())
        h = linear(x, weight[:, : spec.d_in]) + rows
    for weight, bias in layers[1:]:
        h = linear(torch.relu(h), weight, bias)
    return torch.sigmoid(h) if spec.output_activation == "sigmoid" else h
