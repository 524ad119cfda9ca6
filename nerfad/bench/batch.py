"""A training batch of the bench head, and its field evaluated by different means."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor

from nerfad import ops
from nerfad.bench import scene
from nerfad.bench.scene import COLOR, GRID, SIGMA
from nerfad.ops.conditioned_mlp import Precision
from nerfad.ops.reference.conditioned_mlp import conditioned_mlp as mlp_reference
from nerfad.ops.reference.grid_encode import grid_encode as encode_reference
from nerfad.ops.reference.radiance_field import LOG_DENSITY_LIMIT

N_RAYS = 4096
BIAS = math.log(scene.ABSORPTION / scene.STEP_SIZE)
VIEW_NET = dataclasses.replace(COLOR, d_in=15, d_cond=16)  # the direction as a condition: once per ray
LOOKUPS = [(lookup, batched) for lookup in ("index", "embedding") for batched in (False, True)]
LEAVES = ("table", "sigma_params", "color_params", "cond")
Field = Callable[["Batch"], tuple[Tensor, Tensor]]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Samples of random rays, in the order of the rays, and the parameters of the field."""

    positions: Tensor  # [n, 3] in [0, 1]
    ray_indices: Tensor  # [n] int32
    t_starts: Tensor
    t_ends: Tensor
    packed_info: Tensor
    views: Tensor  # [n_rays, 16]
    table: Tensor
    sigma_params: Tensor
    color_params: Tensor
    cond: Tensor  # [1, 64]
    rays: dict[str, Any]  # what `march` takes, and the colours to learn as `target`

    @property
    def n_rays(self) -> int:
        return self.views.shape[0]

    @property
    def n_rays_hit(self) -> int:
        return int((self.packed_info[:, 1] > 0).sum())

    @property
    def n_samples(self) -> int:
        return self.positions.shape[0]

    def cast(self, dtype: torch.dtype) -> Batch:
        """The same with all real numbers in `dtype`."""
        tensors = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "rays"}
        return dataclasses.replace(
            self, **{k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
        )

    def with_gradients(self) -> Batch:
        """The same with fresh leaves of autograd for all parameters."""
        fresh = {name: getattr(self, name).detach().clone().requires_grad_() for name in LEAVES}
        return dataclasses.replace(self, **fresh)

    def leaves(self) -> list[Tensor]:
        return [getattr(self, name) for name in LEAVES]

    def first(self, n_samples: int) -> Batch:
        """The first samples; the rays stay."""
        cut = {name: getattr(self, name)[:n_samples] for name in ("positions", "ray_indices")}
        return dataclasses.replace(self, **cut)


def on(device: str, arguments: dict) -> dict[str, Any]:
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in arguments.items()}


def march_arguments(rays: dict) -> dict[str, Any]:
    """The part of a frame's arguments that `march` takes."""
    names = ("rays_o", "rays_d", "t_min", "t_max", "aabb", "density_bitfield", "resolution", "step_size")
    return {name: rays[name] for name in names}


def training_batch(device: str, n_rays: int = N_RAYS, seed: int = 0) -> Batch:
    """Random pixels of the 512 x 512 frame, all their samples. 4,096 rays have about 55,000."""
    g = torch.Generator().manual_seed(seed)
    frame = scene.frame(512)
    pixels = torch.randint(0, 512 * 512, (n_rays,), generator=g)
    rays = {k: v[pixels] if k in ("rays_o", "rays_d", "t_min", "t_max") else v for k, v in frame.items()}
    rays = on(device, rays)
    found = ops.march(**march_arguments(rays))
    spans = (found.t_starts, found.t_ends, found.packed_info)
    positions = ops.sample_positions(rays["rays_o"], rays["rays_d"], *spans, rays["aabb"])
    target = torch.rand(n_rays, 3, generator=g).to(device)
    return Batch(
        positions=positions,
        ray_indices=found.ray_indices,
        t_starts=found.t_starts,
        t_ends=found.t_ends,
        packed_info=found.packed_info,
        views=ops.sh_encode(rays["rays_d"], 4),
        table=rays["table"],
        sigma_params=rays["sigma_params"],
        color_params=rays["color_params"],
        cond=rays["cond"],
        rays=march_arguments(rays) | {"target": target},
    )


def densities(h: Tensor) -> Tensor:
    return (h[:, 0] + BIAS).clamp(-LOG_DENSITY_LIMIT, LOG_DENSITY_LIMIT).exp()


def networks(b: Batch, features: Tensor, precision: str = "float32") -> tuple[Tensor, Tensor]:
    """Both networks on our ops: the density network's outputs, the colours."""
    options: dict[str, Any] = {} if precision == "float32" else {"precision": precision}
    h = ops.conditioned_mlp(features, b.sigma_params, SIGMA, b.cond, **options)
    code = h[:, 1:].contiguous() if h.is_cuda else h[:, 1:]
    return h, ops.conditioned_mlp(code, b.color_params, VIEW_NET, b.views, b.ray_indices, **options)


def networks_in_torch(b: Batch, features: Tensor) -> tuple[Tensor, Tensor]:
    """Both networks in plain torch, with the condition's share once per ray as in our kernels."""
    h = mlp_reference(features, b.sigma_params, SIGMA, b.cond)
    return h, mlp_reference(h[:, 1:], b.color_params, VIEW_NET, b.views, b.ray_indices)


def field_op_by_op(b: Batch, precision: str = "float32") -> tuple[Tensor, Tensor]:
    h, rgbs = networks(b, ops.grid_encode(b.positions, b.table, GRID), precision)
    return densities(h), rgbs


def field_fused(b: Batch, precision: Precision = "float32") -> tuple[Tensor, Tensor]:
    return ops.radiance_field(
        *(b.positions, b.table, GRID, b.sigma_params, SIGMA, b.color_params, VIEW_NET, b.views),
        *(b.ray_indices, b.cond, None, BIAS),
        precision=precision,
    )


def colors_in_one_pass(b: Batch, precision: Precision = "float32") -> Tensor:
    """Colours of the rays; the samples behind an early stop are left out."""
    return ops.render_samples(
        *(b.positions, b.table, GRID, b.sigma_params, SIGMA, b.color_params, VIEW_NET, b.views),
        *(b.t_starts, b.t_ends, b.packed_info, None, b.cond, None, BIAS),
        precision=precision,
    )[0]


def field_in_torch(b: Batch, lookup: str = "index", batched: bool = False) -> tuple[Tensor, Tensor]:
    h, rgbs = networks_in_torch(b, encode_reference(b.positions, b.table, GRID, lookup, batched))
    # Under autocast the networks' outputs are of a smaller type.
    return densities(h).to(b.positions.dtype), rgbs.to(b.positions.dtype)


OP_BY_OP = "ours, op by op"


def our_fields() -> dict[tuple[str, Precision], Field]:
    """(name, precision) of every way that our ops have to evaluate a field; "ours" is the best of them."""
    return {
        (name, precision): functools.partial(field, precision=precision)
        for precision in get_args(Precision)
        for name, field in ((OP_BY_OP, field_op_by_op), ("ours", field_fused))
    }


def torch_fields() -> dict[str, Field]:
    """The plain-torch field in all variants of its encoding."""
    return {
        f"{lookup}, {'all levels at once' if batched else 'level by level'}": functools.partial(
            field_in_torch, lookup=lookup, batched=batched
        )
        for lookup, batched in LOOKUPS
    }
