"""The kernels as functions: each checks its arguments, runs on CPU or CUDA tensors, and is differentiable."""

from nerfad.ops._backend import backend, emulated_cuda, use_backend
from nerfad.ops.composite import composite
from nerfad.ops.conditioned_mlp import MLPSpec, conditioned_mlp
from nerfad.ops.expand_cells import expand_cells
from nerfad.ops.field_conditions import field_conditions
from nerfad.ops.freq_encode import freq_encode
from nerfad.ops.gather_features import gather_features
from nerfad.ops.grid_encode import GridSpec, grid_encode
from nerfad.ops.march import MarchResult, march, march_inference
from nerfad.ops.morton import morton_decode, morton_encode
from nerfad.ops.occupancy import occupancy_update, pack_bitfield
from nerfad.ops.radiance_field import radiance_field
from nerfad.ops.ray_aabb import ray_aabb
from nerfad.ops.render_cached import RenderCache, render_cache, render_cached, render_cached_within
from nerfad.ops.render_rays_fused import render_rays_fused
from nerfad.ops.render_samples import render_samples
from nerfad.ops.sample_positions import sample_positions
from nerfad.ops.sh_encode import sh_encode
from nerfad.ops.sparse_adam import sparse_adam_

__all__ = [
    "GridSpec",
    "MLPSpec",
    "MarchResult",
    "RenderCache",
    "backend",
    "composite",
    "conditioned_mlp",
    "emulated_cuda",
    "expand_cells",
    "field_conditions",
    "freq_encode",
    "gather_features",
    "grid_encode",
    "march",
    "march_inference",
    "morton_decode",
    "morton_encode",
    "occupancy_update",
    "pack_bitfield",
    "radiance_field",
    "ray_aabb",
    "render_cache",
    "render_cached",
    "render_cached_within",
    "render_rays_fused",
    "render_samples",
    "sample_positions",
    "sh_encode",
    "sparse_adam_",
    "use_backend",
]
