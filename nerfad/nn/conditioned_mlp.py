"""A small fused network whose first layer also sees a condition shared by many samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nerfad.ops import MLPSpec, conditioned_mlp


class ConditionedMLP(nn.Module):
    """Linear layers with ReLU between them; all parameters lie in one flat vector, as the op takes them.

    Args:
        spec: sizes and output activation.
        output_scale: factor on the initial weights of the last layer, below 1 for outputs near zero.

    Example:
        >>> import torch
        >>> from nerfad.nn import ConditionedMLP
        >>> from nerfad.ops import MLPSpec
        >>> mlp = ConditionedMLP(MLPSpec(d_in=8, d_cond=3, d_hidden=16, n_hidden=2, d_out=4))
        >>> mlp(torch.zeros(5, 8), torch.zeros(1, 3)).shape
        torch.Size([5, 4])
    """

    def __init__(self, spec: MLPSpec, output_scale: float = 1.0) -> None:
        super().__init__()
        self.spec = spec
        sizes = self._layer_sizes(spec)
        parts = []
        for k, (n_out, n_in) in enumerate(sizes):
            last = k == len(sizes) - 1
            bound = math.sqrt(6.0 / n_in) * (output_scale * math.sqrt(0.5) if last else 1.0)
            parts += [torch.empty(n_out * n_in).uniform_(-bound, bound), torch.zeros(n_out)]
        self.params = nn.Parameter(torch.cat(parts))

    @staticmethod
    def _layer_sizes(spec: MLPSpec) -> list[tuple[int, int]]:
        """(outputs, inputs) of every layer."""
        widths = [spec.d_in + spec.d_cond, *[spec.d_hidden] * spec.n_hidden, spec.d_out]
        return list(zip(widths[1:], widths[:-1], strict=True))

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """(weight [out, in], bias [out]) of every layer, views of `params`."""
        views, start = [], 0
        for n_out, n_in in self._layer_sizes(self.spec):
            weight = self.params[start : start + n_out * n_in].view(n_out, n_in)
            start += n_out * n_in
            views.append((weight, self.params[start : start + n_out]))
            start += n_out
        return views

    def forward(self, x: Tensor, cond: Tensor | None = None, cond_index: Tensor | None = None) -> Tensor:
        """[n, d_out] of x [n, d_in]; sample i sees `cond[cond_index[i]]` (`cond[0]` without an index)."""
        return conditioned_mlp(x, self.params, self.spec, cond, cond_index)
