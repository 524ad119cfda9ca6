"""The bench head: one synthetic scene and one network for every table of timings, made from a seed.

An ellipsoid head in front of a camera of 21.24 degrees: 21 % of the rays hit, and a ray that hits is opaque
after 6.8 samples. A result on other counts is not comparable, so `checked_counts` measures and checks them.
"""

import dataclasses
import math

import torch
from torch import Tensor

from nerfad.errors import BackendError
from nerfad.ops import (
    GridSpec,
    MLPSpec,
    composite,
    conditioned_mlp,
    grid_encode,
    march,
    pack_bitfield,
    ray_aabb,
    sample_positions,
)
from nerfad.ops.reference.morton import morton_decode

GRID = GridSpec(
    n_dims=3, n_levels=16, n_features=2, base_resolution=16, finest_resolution=2048, log2_table_size=16
)
SIGMA = MLPSpec(d_in=32, d_cond=64, d_hidden=64, n_hidden=3, d_out=16)
COLOR = MLPSpec(d_in=31, d_cond=0, d_hidden=64, n_hidden=2, d_out=3, output_activation="sigmoid")
HALF_AXES = (0.25, 0.345, 0.30)
CAMERA_DISTANCE, FIELD_OF_VIEW = 3.35, math.radians(21.24)
RESOLUTION = 128
STEP_SIZE = math.sqrt(3) / 256
DILATION = 3.5 / RESOLUTION  # of the occupancy, in world units
ABSORPTION = 1.6  # optical depth of a sample
HIT_SHARE, SAMPLES_PER_HIT = 0.21, 6.8
TOLERANCE = 0.03  # of both; small pictures are coarse
RAYS_AT_ONCE = 1 << 17  # samples that are not drawn take memory too when the ops run one by one


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a frame costs: everything that makes timings comparable."""

    rays: int
    rays_hit: int
    samples: int
    samples_after_termination: int


def occupancy() -> Tensor:
    """[128^3 / 8] uint8: the dilated ellipsoid in the box [-0.5, 0.5]^3."""
    codes = torch.arange(RESOLUTION**3, dtype=torch.int32)
    centres = (morton_decode(codes).float() + 0.5) / RESOLUTION - 0.5
    radius = (centres / (torch.tensor(HALF_AXES) + DILATION)).norm(dim=1)
    return pack_bitfield((radius < 1).float(), 0.5)


def rays(size: int) -> tuple[Tensor, Tensor]:
    """Origins and unit directions of all pixels of a square picture, row by row."""
    extent = math.tan(FIELD_OF_VIEW / 2)
    edge = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-edge * extent, edge * extent, indexing="ij")
    directions = torch.stack([x, y, -torch.ones_like(x)], -1).reshape(-1, 3)
    origins = torch.tensor([0.0, 0.0, CAMERA_DISTANCE]).expand_as(directions)
    return origins.contiguous(), torch.nn.functional.normalize(directions, dim=1)


def frame(size: int, seed: int = 0) -> dict:
    """The arguments of `render_rays_fused` for a picture of size x size pixels."""
    g = torch.Generator().manual_seed(seed)
    rays_o, rays_d = rays(size)
    aabb = torch.tensor([-0.5, -0.5, -0.5, 0.5, 0.5, 0.5])
    t_min, t_max = ray_aabb(rays_o, rays_d, aabb)
    sigma_params = SIGMA.init(g)
    last_weight, _ = SIGMA.split(sigma_params)[-1]
    last_weight[0] *= 0.1  # nearly the same density everywhere: the counts then follow from the shape
    return dict(
        rays_o=rays_o,
        rays_d=rays_d,
        t_min=t_min,
        t_max=t_max,
        aabb=aabb,
        density_bitfield=occupancy(),
        resolution=RESOLUTION,
        step_size=STEP_SIZE,
        table=torch.rand(GRID.n_entries, GRID.n_features, generator=g) * 2 - 1,
        grid_spec=GRID,
        sigma_params=sigma_params,
        sigma_spec=SIGMA,
        color_params=COLOR.init(g),
        color_spec=COLOR,
        cond=torch.randn(1, SIGMA.d_cond, generator=g) * 0.3,
        background=torch.rand(size * size, 3, generator=g),
        density_bias=math.log(ABSORPTION / STEP_SIZE),
    )


def talking_frame(size: int, seed: int = 0) -> dict:
    """`frame`, but of a head whose condition acts on its lower third alone, as speech does on a face.

    The grid's first feature says where: 1 below, 0 above. One hidden unit of the density network computes
    relu(4 feature + w c - 2), which is 0 above as long as w c < 2; no other unit sees either. A ray that hits
    is opaque after 6.3 samples: timings are for comparison among themselves.
    """
    arguments = frame(size, seed)
    n = GRID.base_resolution + 1
    height = (torch.arange(n**3) // n % n) / GRID.base_resolution
    arguments["table"][: n**3, 0] = (height < 0.5 - HALF_AXES[1] / 3).float()
    weight, bias = SIGMA.split(arguments["sigma_params"])[0]
    weight[:, 0] = 0
    weight[:, SIGMA.d_in :] = 0
    weight[0] = 0
    weight[0, 0], weight[0, SIGMA.d_in :], bias[0] = 4.0, 0.1, -2.0
    return arguments


def counts(arguments: dict) -> Counts:
    """Rays and samples of a frame, from the unfused ops."""
    names = ("rays_o", "rays_d", "t_min", "t_max")
    n_rays = arguments["rays_o"].shape[0]
    found = [
        _counts_of_some(arguments | {k: arguments[k][first : first + RAYS_AT_ONCE] for k in names})
        for first in range(0, n_rays, RAYS_AT_ONCE)
    ]
    return Counts(*(sum(column) for column in zip(*map(dataclasses.astuple, found), strict=True)))


def _counts_of_some(arguments: dict) -> Counts:
    rays = (arguments["rays_o"], arguments["rays_d"])
    names = ("t_min", "t_max", "aabb", "density_bitfield", "resolution", "step_size")
    samples = march(*rays, *(arguments[k] for k in names))
    spans = (samples.t_starts, samples.t_ends, samples.packed_info)
    positions = sample_positions(*rays, *spans, arguments["aabb"])
    features = grid_encode(positions, arguments["table"], arguments["grid_spec"])
    h = conditioned_mlp(features, arguments["sigma_params"], arguments["sigma_spec"], arguments["cond"])
    sigmas = (h[:, 0] + arguments["density_bias"]).clamp(-15, 15).exp()
    weights = composite(sigmas, torch.zeros_like(positions), *spans)[3]
    return Counts(
        rays=samples.packed_info.shape[0],
        rays_hit=int((samples.packed_info[:, 1] > 0).sum()),
        samples=weights.shape[0],
        samples_after_termination=int((weights > 0).sum()),
    )


def checked_counts(arguments: dict) -> Counts:
    """`counts`, or an error if they are not those that all published figures were measured on."""
    found = counts(arguments)
    hit_share = found.rays_hit / found.rays
    per_hit = found.samples_after_termination / max(found.rays_hit, 1)
    if abs(hit_share / HIT_SHARE - 1) > TOLERANCE or abs(per_hit / SAMPLES_PER_HIT - 1) > TOLERANCE:
        raise BackendError(
            f"the bench head has {hit_share:.1%} rays that hit and {per_hit:.2f} samples per hit instead of "
            f"{HIT_SHARE:.0%} and {SAMPLES_PER_HIT}: an op computes something else, run the tests"
        )
    return found
