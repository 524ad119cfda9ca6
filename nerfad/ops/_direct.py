"""Native ops that join autograd without the dispatcher's machinery, which costs 0.1 ms a call."""

from collections.abc import Callable

import torch
from torch import Tensor

from nerfad import _native


def needs_gradient(*leaves: Tensor | None) -> bool:
    """Whether autograd will ask for the gradient of any of an op's inputs."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in leaves)


def direct(name: str, setup_context: Callable, gradient: Callable) -> Callable:
    """The native op with its gradient as `torch.library.register_autograd` joins them; under a compiler,
    which must see it, the op itself."""

    class Direct(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            output = getattr(_native.ops(), name)(*inputs)
            setup_context(ctx, inputs, output)
            return output

        backward = staticmethod(gradient)

    def call(*inputs):
        compiles = torch.compiler.is_compiling()
        return (getattr(_native.ops(), name) if compiles else Direct.apply)(*inputs)

    return call
