"""The kernels as functions: each checks its arguments, runs on CPU or CUDA tensors, and is differentiable."""

from nerfad.ops._backend import backend, emulated_cuda, use_backend
from nerfad.ops.composite import composite

__all__ = ["backend", "composite", "emulated_cuda", "use_backend"]
