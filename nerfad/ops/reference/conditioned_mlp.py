"""Plain-torch conditioned MLP: the definition that the kernels are tested against. Any device, any float."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear

if TYPE_CHECKING:
    from nerfad.ops.conditioned_mlp import MLPSpec, Precision


def rounded(x: Tensor) -> Tensor:
    """The nearest bfloat16 numbers, in the type of x."""
    return x.bfloat16().to(x.dtype)


class RoundedProduct(torch.autograd.Function):
    """x weight^T of operands rounded to bfloat16, also in backward; sums are exact to float32."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = rounded(x), rounded(weight)
        ctx.save_for_backward(x, weight)
        return linear(x, weight)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        grad = rounded(grad)
        return grad @ weight, grad.t() @ x


def _rounded_layer(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = RoundedProduct.apply(x, weight)
    return product if bias is None else product + bias


def conditioned_mlp(
    x: Tensor,
    params: Tensor,
    spec: MLPSpec,
    cond: Tensor | None = None,
    cond_index: Tensor | None = None,
    precision: Precision = "float32",
) -> Tensor:
    """See `nerfad.ops.conditioned_mlp`."""
    layer = _rounded_layer if precision == "bfloat16" else linear
    (weight, bias), *layers = spec.split(params)
    if cond is None:
        h = layer(x, weight, bias)
    else:
        # The condition's share of the first layer, once per condition instead of once per sample.
        folded = linear(cond, weight[:, spec.d_in :], bias)
        rows = folded[0] if cond_index is None else folded.index_select(0, cond_index.long())
        h = layer(x, weight[:, : spec.d_in]) + rows
    for weight, bias in layers:
        h = layer(torch.relu(h), weight, bias)
    return torch.sigmoid(h) if spec.output_activation == "sigmoid" else h
