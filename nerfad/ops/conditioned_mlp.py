"""A small MLP whose first layer also sees a condition that many samples share (speech, blink, appearance)."""

import dataclasses
import itertools
import math
from typing import Literal

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.reference import conditioned_mlp as reference

MIN_HIDDEN, MAX_HIDDEN, MAX_LAYERS = 16, 128, 16

Precision = Literal["float32", "bfloat16"]


def is_bfloat16(op: str, precision: str) -> bool:
    """Whether to round operands; RuntimeError if `precision` is neither float32 nor bfloat16."""
    if precision not in ("float32", "bfloat16"):
        raise RuntimeError(f"{op}: precision must be float32 or bfloat16, got {precision!r}")
    return precision == "bfloat16"


@dataclasses.dataclass(frozen=True)
class MLPSpec:
    """Shape of a conditioned MLP: (d_in + d_cond) -> n_hidden ReLU layers of d_hidden -> d_out.

    Args:
        d_in: columns of the samples.
        d_cond: columns of a condition; 0: the network has none.
        d_hidden: width of the hidden layers, 16 to 128.
        n_hidden: hidden layers, 1 to 16.
        d_out: columns of the output.
        output_activation: "none" or "sigmoid".

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> from nerfad.ops import MLPSpec
        >>> spec = MLPSpec(d_in=32, d_cond=8, d_hidden=64, n_hidden=2, d_out=4)
        >>> spec.layer_shapes, spec.n_params
        ([(64, 40), (64, 64), (4, 64)], 7044)
    """

    d_in: int
    d_cond: int
    d_hidden: int
    n_hidden: int
    d_out: int
    output_activation: Literal["none", "sigmoid"] = "none"

    def __post_init__(self) -> None:
        if self.d_in < 1 or self.d_out < 1 or self.d_cond < 0 or not 1 <= self.n_hidden <= MAX_LAYERS:
            raise ValueError(
                f"MLPSpec: d_in, d_out must be >= 1, d_cond >= 0, n_hidden in [1, {MAX_LAYERS}], got {self}"
            )
        if not MIN_HIDDEN <= self.d_hidden <= MAX_HIDDEN:
            raise ValueError(
                f"MLPSpec: d_hidden must be in [{MIN_HIDDEN}, {MAX_HIDDEN}], got {self.d_hidden}"
            )
        if self.output_activation not in ("none", "sigmoid"):
            raise ValueError(
                f"MLPSpec: output_activation must be none or sigmoid, got {self.output_activation!r}"
            )

    @property
    def layer_shapes(self) -> list[tuple[int, int]]:
        """(out, in) of each weight; the first layer's columns are the input's, then the condition's."""
        widths = [self.d_in + self.d_cond, *[self.d_hidden] * self.n_hidden, self.d_out]
        return [(out, into) for into, out in itertools.pairwise(widths)]

    @property
    def n_params(self) -> int:
        """Length of the flat parameter vector."""
        return sum(out * into + out for out, into in self.layer_shapes)

    def split(self, params: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views (weight [out, in], bias [out]) of each layer in the flat vector, in its order."""
        layers, start = [], 0
        for out, into in self.layer_shapes:
            weight = params[start : start + out * into].view(out, into)
            start += out * into
            layers.append((weight, params[start : start + out]))
            start += out
        return layers

    def init(self, generator: torch.Generator | None = None) -> Tensor:
        """A flat float32 parameter vector: He-uniform weights (Glorot for the last layer), zero biases."""
        params = torch.zeros(self.n_params)
        layers = self.split(params)
        for i, (weight, _) in enumerate(layers):
            out, into = weight.shape
            bound = math.sqrt(6 / into) if i + 1 < len(layers) else math.sqrt(6 / (into + out))
            weight.uniform_(-bound, bound, generator=generator)
        return params


def conditioned_mlp(
    x: Tensor,
    params: Tensor,
    spec: MLPSpec,
    cond: Tensor | None = None,
    cond_index: Tensor | None = None,
    precision: Precision = "float32",
) -> Tensor:
    r"""Evaluates a ReLU MLP on samples that share conditions.

    .. math::
        h_1 = \mathrm{relu}(W_x x_i + (W_c c_{k(i)} + b_1)),\quad
        h_{l+1} = \mathrm{relu}(W_{l+1} h_l + b_{l+1}),\quad y_i = \phi(W_{out} h_n + b_{out})

    The bracket is a bias that is computed once per condition, so a condition costs nothing per sample, and no
    tensor of n_samples x d_cond exists in forward or backward.

    Args:
        x: [n_samples, d_in] float32 (float64 on the CPU). On the CPU it may be columns of a wider matrix.
        params: [spec.n_params] flat parameters: for each layer the weight [out, in] row by row, then the bias
            [out].
        spec: the network's shape.
        cond: [n_cond, d_cond] conditions; None exactly if spec.d_cond is 0.
        cond_index: [n_samples] int32, which condition each sample uses, in [0, n_cond) (not checked on CUDA);
            None: all use the first.
        precision: of what is multiplied on the CPU. "bfloat16": x, hidden layers, weights and, in backward,
            the gradients of layers are rounded to bfloat16 (to nearest, ties to even), and products are added
            up in float32; folded conditions, biases, outputs and gradients stay float32. Needs float32
            tensors. Twice as fast with AVX512-BF16; without it the rounding is emulated and no faster. CUDA
            kernels always multiply in half precision and add up in float32: they take "float32" only.

    Returns:
        [n_samples, d_out].

    Differentiable in x, params and cond.

    Raises:
        RuntimeError: a shape, dtype or device is wrong, or an index is out of range; the message names the
            argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import MLPSpec, conditioned_mlp
        >>> spec = MLPSpec(d_in=2, d_cond=1, d_hidden=16, n_hidden=1, d_out=1)
        >>> params = torch.zeros(spec.n_params)
        >>> first, last = spec.split(params)
        >>> first[0][0] = torch.tensor([1.0, 2.0, 10.0])  # first hidden unit: x0 + 2 x1 + 10 c
        >>> last[0][0, 0] = 1.0
        >>> x = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
        >>> cond, index = torch.tensor([[0.0], [0.5]]), torch.tensor([0, 1], dtype=torch.int32)
        >>> conditioned_mlp(x, params, spec, cond, index).flatten().tolist()
        [3.0, 8.0]
    """
    # The kernels take d_in from x; without this a wrong x would be called wrong params.
    if x.dim() == 2 and x.shape[1] != spec.d_in:
        raise RuntimeError(f"conditioned_mlp: x must have shape [*, {spec.d_in}], got {list(x.shape)}")
    if not _backend.is_native():
        return reference.conditioned_mlp(x, params, spec, cond, cond_index, precision)
    sigmoid, bfloat16 = spec.output_activation == "sigmoid", is_bfloat16("conditioned_mlp", precision)
    return _native.ops().conditioned_mlp_fwd(
        *(x, params, cond, cond_index, spec.d_cond, spec.d_hidden, spec.n_hidden, spec.d_out),
        *(sigmoid, bfloat16),
    )


def _fake_fwd(x, params, cond, cond_index, d_cond, d_hidden, n_hidden, d_out, sigmoid, bfloat16):
    return x.new_empty((x.shape[0], d_out))


def _fake_bwd(
    grad_out,
    x,
    params,
    cond,
    cond_index,
    d_cond,
    d_hidden,
    n_hidden,
    d_out,
    sigmoid,
    bfloat16,
    needs_grad_x,
):
    return (
        x.new_empty((x.shape[0] if needs_grad_x else 0, x.shape[1])),
        torch.empty_like(params),
        x.new_empty((0 if cond is None else cond.shape[0], d_cond)),
    )


def _setup_context(ctx, inputs, output):
    *tensors, ctx.d_cond, ctx.d_hidden, ctx.n_hidden, ctx.d_out, ctx.sigmoid, ctx.bfloat16 = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad_out):
    needs_grad_x = ctx.needs_input_grad[0]
    grad_x, grad_params, grad_cond = _native.ops().conditioned_mlp_bwd(
        grad_out.contiguous(),
        *ctx.saved_tensors,
        *(ctx.d_cond, ctx.d_hidden, ctx.n_hidden, ctx.d_out, ctx.sigmoid, ctx.bfloat16, needs_grad_x),
    )
    has_cond = ctx.saved_tensors[2] is not None
    no_grads = (None,) * 7
    return grad_x if needs_grad_x else None, grad_params, grad_cond if has_cond else None, *no_grads


if _native.available():
    torch.library.register_fake("nerfad::conditioned_mlp_fwd", _fake_fwd)
    torch.library.register_fake("nerfad::conditioned_mlp_bwd", _fake_bwd)
    torch.library.register_autograd("nerfad::conditioned_mlp_fwd", _backward, setup_context=_setup_context)
