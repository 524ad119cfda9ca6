"""A small fused network whose first layer also sees a condition shared by many samples."""

from __future__ import annotations

from torch import Tensor, nn

from nerfad.ops import MLPSpec, conditioned_mlp
from nerfad.ops.conditioned_mlp import Precision


class ConditionedMLP(nn.Module):
    """Linear layers with ReLU between them; all parameters lie in one flat vector, as the op takes them.

    Args:
        spec: sizes and output activation.
        output_scale: factor on the initial weights of the last layer, below 1 for outputs near zero.
        cond_scale: factor on the initial weights of the condition, below 1 where the input should lead.

    Example:
        >>> import torch
        >>> from nerfad.nn import ConditionedMLP
        >>> from nerfad.ops import MLPSpec
        >>> mlp = ConditionedMLP(MLPSpec(d_in=8, d_cond=3, d_hidden=16, n_hidden=2, d_out=4))
        >>> mlp(torch.zeros(5, 8), torch.zeros(1, 3)).shape
        torch.Size([5, 4])
    """

    def __init__(self, spec: MLPSpec, output_scale: float = 1.0, cond_scale: float = 1.0) -> None:
        super().__init__()
        self.spec = spec
        params = spec.init()
        layers = spec.split(params)
        # With zero biases and a grid that starts near zero, every unit would sit on the kink of its ReLU.
        for weight, bias in layers[:-1]:
            bias.uniform_(-1.0, 1.0).div_(weight.shape[1] ** 0.5)
        layers[0][0][:, spec.d_in :].mul_(cond_scale)
        layers[-1][0].mul_(output_scale)
        self.params = nn.Parameter(params)

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """(weight [out, in], bias [out]) of every layer, views of `params`."""
        return self.spec.split(self.params)

    def forward(
        self,
        x: Tensor,
        cond: Tensor | None = None,
        cond_index: Tensor | None = None,
        precision: Precision = "float32",
    ) -> Tensor:
        """[n, d_out] of x [n, d_in]; sample i sees `cond[cond_index[i]]` (`cond[0]` without an index)."""
        return conditioned_mlp(x, self.params, self.spec, cond, cond_index, precision)
