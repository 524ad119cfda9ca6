"""The kernels as functions: each checks its arguments, runs on CPU or CUDA tensors, and is differentiable."""

from nerfad.ops._backend import backend, emulated_cuda, use_backend
from nerfad.ops.composite import composite
from nerfad.ops.conditioned_mlp import MLPSpec, conditioned_mlp

__all__ = ["MLPSpec", "backend", "composite", "conditioned_mlp", "emulated_cuda", "use_backend"]
