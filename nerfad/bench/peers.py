"""Other people's kernels as contenders, where there is a GPU and they are installed: tiny-cuda-nn, nerfacc.

Each adapter gives a peer our weights, rays and occupancy. tiny-cuda-nn's grid has another lattice (vertices
are shifted by half a cell), so it is held against the float64 reference of its own lattice, on our numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nerfad import ops
from nerfad.bench.batch import Batch, densities, march_arguments
from nerfad.bench.contender import Contender, Run
from nerfad.bench.scene import COLOR, GRID, RESOLUTION, SIGMA, STEP_SIZE
from nerfad.ops import MLPSpec
from nerfad.ops.reference.conditioned_mlp import conditioned_mlp as mlp_reference
from nerfad.ops.reference.grid_encode import PRIMES
from nerfad.ops.reference.morton import morton_encode

GROWTH = math.exp(math.log(GRID.finest_resolution / GRID.base_resolution) / (GRID.n_levels - 1))


def has(package: str, device: str) -> bool:
    return device == "cuda" and importlib.util.find_spec(package) is not None


# ---- tiny-cuda-nn


def tcnn_levels() -> list[tuple[float, int, int, bool]]:
    """(scale, vertices per axis, entries, dense?) of each level, as tiny-cuda-nn's grid.h computes them."""
    levels = []
    for level in range(GRID.n_levels):
        scale = 2 ** (level * math.log2(GROWTH)) * GRID.base_resolution - 1
        side = math.ceil(scale) + 1
        entries = min((side**3 + 7) // 8 * 8, 1 << GRID.log2_table_size)
        levels.append((scale, side, entries, side**3 <= entries))
    return levels


def tcnn_grid_reference(positions: Tensor, table: Tensor) -> Tensor:
    """tiny-cuda-nn's hash grid in plain torch: x * scale + 0.5, dense where it fits, else hashed."""
    corners = torch.tensor([[(c >> a) & 1 for a in range(3)] for c in range(8)], device=positions.device)
    features, offset = [], 0
    for scale, side, entries, dense in tcnn_levels():
        place = positions * scale + 0.5
        cell = place.floor()
        fraction = (place - cell)[:, None]
        x, y, z = (cell.long()[:, None] + corners).unbind(-1)
        index = x + side * (y + side * z) if dense else x * PRIMES[0] ^ y * PRIMES[1] ^ z * PRIMES[2]
        weights = torch.where(corners.bool(), fraction, 1 - fraction).prod(-1)
        features.append((table[offset + index % entries] * weights[..., None]).sum(1))
        offset += entries
    return torch.cat(features, 1)


def tcnn_table(b: Batch) -> Tensor:
    """Our table's numbers, as many as tiny-cuda-nn's lattice has entries."""
    n = sum(entries for _, _, entries, _ in tcnn_levels())
    repeated = b.table.detach().repeat(-(-n // len(b.table)), 1)
    return repeated[:n].contiguous()


def tcnn_encoding(b: Batch) -> Any:
    import tinycudann as tcnn  # type: ignore[import-not-found]

    encoding = tcnn.Encoding(
        3,
        {
            "otype": "HashGrid",
            "n_levels": GRID.n_levels,
            "n_features_per_level": GRID.n_features,
            "log2_hashmap_size": GRID.log2_table_size,
            "base_resolution": GRID.base_resolution,
            "per_level_scale": GROWTH,
        },
    )
    with torch.no_grad():
        encoding.params.copy_(tcnn_table(b).flatten())
    return encoding


def tcnn_network(spec: MLPSpec, params: Tensor) -> Any:
    """A fully fused MLP with our weights. It has no biases; those of the bench head are zero."""
    import tinycudann as tcnn  # type: ignore[import-not-found]

    network = tcnn.Network(
        spec.d_in + spec.d_cond,
        spec.d_out,
        {
            "otype": "FullyFusedMLP",
            "activation": "ReLU",
            "output_activation": "Sigmoid" if spec.output_activation == "sigmoid" else "None",
            "n_neurons": spec.d_hidden,
            "n_hidden_layers": spec.n_hidden,
        },
    )
    flat = []
    for weight, _ in spec.split(params.detach()):
        rows, columns = (-(-n // 16) * 16 for n in weight.shape)  # both sides are padded to multiples of 16
        padded = weight.new_zeros(rows, columns)
        padded[: weight.shape[0], : weight.shape[1]] = weight
        flat.append(padded.flatten())
    with torch.no_grad():
        network.params.copy_(torch.cat(flat))
    return network


class TcnnField(torch.nn.Module):
    """The bench head's networks on tiny-cuda-nn; condition and direction are copied into every row."""

    def __init__(self, b: Batch, with_grid: bool) -> None:
        super().__init__()
        self.b = b
        self.grid = tcnn_encoding(b) if with_grid else None
        self.sigma = tcnn_network(SIGMA, b.sigma_params)
        self.color = tcnn_network(dataclasses.replace(COLOR, d_in=31, d_cond=0), b.color_params)

    def networks(self, features: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        h = self.sigma(torch.cat([features, cond.expand(len(features), -1).to(features.dtype)], 1))
        views = self.b.views[self.b.ray_indices.long()].to(h.dtype)
        return h.float(), self.color(torch.cat([h[:, 1:], views], 1)).float()

    def field(self, cond: Tensor) -> tuple[Tensor, Tensor]:
        assert self.grid is not None
        h, rgbs = self.networks(self.grid(self.b.positions), cond)
        return densities(h), rgbs


def _gradients(outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> Sequence[Tensor]:
    from nerfad.bench.field_groups import gradient_seeds

    return torch.autograd.grad(list(outputs), list(leaves), gradient_seeds(outputs))


def _tcnn(variants: dict[str, Run], expected: Sequence[Tensor]) -> list[Contender]:
    exact = tuple(x.detach().double() for x in expected)
    return [Contender("tiny-cuda-nn", variants, precision="float16", expected=exact, capturable=False)]


def encoders(b: Batch, device: str, backward: bool) -> list[Contender]:
    if not has("tinycudann", device):
        return []
    encoding = tcnn_encoding(b)
    table = tcnn_table(b).double().requires_grad_(backward)
    exact = tcnn_grid_reference(b.positions.double(), table)
    if not backward:
        with torch.no_grad():
            return _tcnn({"": lambda: [encoding(b.positions)]}, [exact])
    features = encoding(b.positions)
    from nerfad.bench.field_groups import gradient_seeds

    seed = gradient_seeds([exact])[0]
    expected = torch.autograd.grad(exact, table, seed)[0].flatten()
    half = seed.to(features.dtype)
    return _tcnn(
        {"": lambda: torch.autograd.grad(features, encoding.params, half, retain_graph=True)}, [expected]
    )


def networks(b: Batch, features: Tensor, device: str, backward: bool) -> list[Contender]:
    if not has("tinycudann", device):
        return []
    field = TcnnField(b, with_grid=False)
    x, cond = features.clone().requires_grad_(), b.cond.clone().requires_grad_()
    exact_x, exact_cond = features.double().requires_grad_(), b.cond.double().requires_grad_()
    exact = _exact_networks(b, exact_x, exact_cond)
    if backward:
        run: Run = lambda: _gradients(field.networks(x, cond), [x, cond])  # noqa: E731
        return _tcnn({"": run}, _gradients(exact, [exact_x, exact_cond]))
    return _tcnn({"": _without_gradient(lambda: field.networks(features, b.cond))}, exact)


def fields(b: Batch, device: str, backward: bool) -> list[Contender]:
    if not has("tinycudann", device):
        return []
    field = TcnnField(b, with_grid=True)
    assert field.grid is not None
    table, exact_cond = tcnn_table(b).double().requires_grad_(), b.cond.double().requires_grad_()
    h, rgbs = _exact_networks(b, tcnn_grid_reference(b.positions.double(), table), exact_cond)
    exact = (densities(h), rgbs)
    if backward:
        cond = b.cond.clone().requires_grad_()
        leaves = [field.grid.params, cond]
        grads = _gradients(exact, [table, exact_cond])
        return _tcnn({"": lambda: _gradients(field.field(cond), leaves)}, [grads[0].flatten(), grads[1]])
    return _tcnn({"": _without_gradient(lambda: field.field(b.cond))}, exact)


def _exact_networks(b: Batch, features: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
    h = mlp_reference(features, b.sigma_params.double(), SIGMA, cond)
    views = b.views[b.ray_indices.long()].double()
    return h, mlp_reference(torch.cat([h[:, 1:], views], 1), b.color_params.double(), COLOR)


def _without_gradient(fn: Callable[[], Sequence[Tensor]]) -> Run:
    def run() -> Sequence[Tensor]:
        with torch.no_grad():
            return fn()

    return run


# ---- nerfacc


def nerfacc_estimator(frame: dict) -> Any:
    from nerfacc import OccGridEstimator  # type: ignore[import-not-found]

    aabb = frame["aabb"]
    estimator = OccGridEstimator(aabb.tolist(), resolution=RESOLUTION, levels=1).to(aabb.device)
    axis = torch.arange(RESOLUTION, dtype=torch.int32)
    cells = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    codes = morton_encode(cells).long()
    bits = frame["density_bitfield"].cpu()[codes >> 3] >> (codes & 7).to(torch.uint8) & 1
    estimator.binaries = bits.bool().reshape(1, RESOLUTION, RESOLUTION, RESOLUTION).to(aabb.device)
    return estimator


def nerfacc_march(estimator: Any, frame: dict) -> tuple[Tensor, Tensor, Tensor]:
    """(ray_indices, t_starts, t_ends) of all samples."""
    span = dict(t_min=frame["t_min"], t_max=torch.maximum(frame["t_min"], frame["t_max"]))
    return estimator.sampling(
        frame["rays_o"],
        frame["rays_d"],
        render_step_size=STEP_SIZE,
        early_stop_eps=0.0,
        alpha_thre=0.0,
        **span,
    )


def _packed(ray_indices: Tensor, n_rays: int) -> Tensor:
    counts = torch.bincount(ray_indices.long(), minlength=n_rays)
    return torch.stack([counts.cumsum(0) - counts, counts], 1)


def marchers(frame: dict, device: str) -> list[Contender]:
    if not has("nerfacc", device):
        return []
    estimator, n_rays = nerfacc_estimator(frame), len(frame["rays_o"])

    def run() -> Sequence[Tensor]:
        ray_indices, t_starts, _ = nerfacc_march(estimator, frame)
        return [_packed(ray_indices, n_rays), t_starts]

    return [Contender("nerfacc", {"": run})]


def nerfacc_integrate(
    sigmas: Tensor, rgbs: Tensor, t0: Tensor, t1: Tensor, ray: Tensor, n_rays: int
) -> list[Tensor]:
    import nerfacc  # type: ignore[import-not-found]

    weights, _, _ = nerfacc.render_weight_from_density(t0, t1, sigmas, ray_indices=ray, n_rays=n_rays)
    along = functools.partial(nerfacc.accumulate_along_rays, weights, ray_indices=ray, n_rays=n_rays)
    return [along(values=rgbs), along(values=None)[:, 0]]


def compositors(b: Batch, leaves: list[Tensor], seeds: list[Tensor], device: str) -> list[Contender]:
    if not has("nerfacc", device):
        return []
    ray = b.ray_indices.long()

    def run() -> Sequence[Tensor]:
        outputs = nerfacc_integrate(leaves[0], leaves[1], b.t_starts, b.t_ends, ray, b.n_rays)
        return torch.autograd.grad(outputs, leaves, [s.float() for s in seeds])

    return [Contender("nerfacc", {"": run})]


def renderers(frame: dict, device: str) -> list[Contender]:
    """nerfacc's march and integration around our networks as tiny-cuda-nn or as plain kernels.

    tiny-cuda-nn's lattice differs, so its picture does; it is gated in `field-fwd`, and the frame on our own
    field, whose exact picture we have.
    """
    if not has("nerfacc", device):
        return []
    from nerfad.bench.batch import field_op_by_op
    from nerfad.bench.renderers import field_inputs

    estimator, n_rays = nerfacc_estimator(frame), len(frame["rays_o"])
    arguments = march_arguments(frame)

    def run() -> Sequence[Tensor]:
        with torch.no_grad():
            ray, t0, t1 = nerfacc_march(estimator, frame)
            rays = (arguments["rays_o"], arguments["rays_d"])
            positions = ops.sample_positions(*rays, t0, t1, _packed(ray, n_rays), arguments["aabb"])
            views = ops.sh_encode(arguments["rays_d"], 4)
            sigmas, rgbs = field_op_by_op(field_inputs(frame, positions, ray.int(), views))
            colors, opacities = nerfacc_integrate(sigmas, rgbs, t0, t1, ray, n_rays)
            return [colors + (1 - opacities)[:, None] * frame["background"]]

    return [Contender("nerfacc and our field", {"": run})]
