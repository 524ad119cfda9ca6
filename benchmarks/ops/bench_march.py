"""March and its neighbours, kernels against the plain-torch reference, on the bench head's grid.

    pytest benchmarks/ops/bench_march.py --benchmark-group-by=group

An ellipsoid head (half-axes 0.25 / 0.345 / 0.30) as a dilated density shell in a 128^3 grid over [-1, 1]^3,
seen from 3.35 with a field of view of 21.24 degrees; one step is a cell's side.
"""

import contextlib
import math

import pytest
import torch

from nerfad import _native, ops

RESOLUTION = 128
STEP_SIZE = 2 / RESOLUTION
AABB = torch.tensor([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0])
HALF_AXES = torch.tensor([0.25, 0.345, 0.30])
BACKENDS = ["native", "reference"]
ISAS = [*_native.ISAS[: min(2, _native.ISAS.index(_native.detected_isa())) + 1], "reference"]


def head_density() -> torch.Tensor:
    axis = torch.arange(RESOLUTION, dtype=torch.int32)
    cells = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    points = (cells + 0.5) / RESOLUTION * 2 - 1
    distance = ((points / HALF_AXES).norm(dim=1) - 1).abs() * HALF_AXES.min()
    grid = torch.zeros(RESOLUTION**3)
    grid[ops.morton_encode(cells).long()] = (distance < 2 * STEP_SIZE).float() * 10
    return grid


def camera_rays(n_rays: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pixels of a square picture of the head."""
    g = torch.Generator().manual_seed(seed)
    half = math.tan(math.radians(21.24 / 2))
    pixels = (torch.rand(n_rays, 2, generator=g) * 2 - 1) * half
    rays_d = torch.nn.functional.normalize(torch.cat([pixels, -torch.ones(n_rays, 1)], 1), dim=1)
    return torch.tensor([[0.0, 0.0, 3.35]]).repeat(n_rays, 1), rays_d


@contextlib.contextmanager
def running_on(isa: str):
    """The kernels of an instruction set, or the reference."""
    before = _native.isa()
    with ops.use_backend("reference" if isa == "reference" else "native"):
        if isa != "reference":
            _native.set_isa(isa)
        yield
    _native.set_isa(before)


@pytest.fixture(scope="module")
def grid():
    density = head_density()
    return density, ops.pack_bitfield(density, 1.0)


def march_inputs(bitfield: torch.Tensor, n_rays: int) -> dict:
    rays_o, rays_d = camera_rays(n_rays)
    t_min, t_max = ops.ray_aabb(rays_o, rays_d, AABB)
    jitter = torch.rand(n_rays, generator=torch.Generator().manual_seed(1))
    return dict(
        rays_o=rays_o,
        rays_d=rays_d,
        t_min=t_min,
        t_max=t_max,
        aabb=AABB,
        density_bitfield=bitfield,
        resolution=RESOLUTION,
        step_size=STEP_SIZE,
        jitter=jitter,
    )


@pytest.mark.benchmark(group="march")
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n_rays", [4096, 65536])
def test_march(benchmark, grid, isa, n_rays):
    inputs = march_inputs(grid[1], n_rays)
    expected = ops.march(**inputs)
    hits = float((expected.packed_info[:, 1] > 0).float().mean())
    with running_on(isa):
        result = benchmark(lambda: ops.march(**inputs))
    # Correct before fast: walls round differently in the reference, samples do not come and go otherwise.
    assert abs(result.t_starts.numel() - expected.t_starts.numel()) <= 1e-3 * expected.t_starts.numel()
    benchmark.extra_info.update(n_samples=expected.t_starts.numel(), rays_hit=round(hits, 3), n_rays=n_rays)


@pytest.mark.benchmark(group="march-inference")
@pytest.mark.parametrize("backend", BACKENDS)
def test_march_inference(benchmark, grid, backend):
    inputs = march_inputs(grid[1], 65536)
    inputs.pop("jitter")
    alive = torch.arange(65536, dtype=torch.int32)
    with ops.use_backend(backend):
        benchmark(lambda: ops.march_inference(**inputs, alive=alive, cursors=torch.zeros(65536), n_steps=8))


@pytest.mark.benchmark(group="ray-aabb")
@pytest.mark.parametrize("isa", ISAS)
def test_ray_aabb(benchmark, isa):
    rays = camera_rays(65536)
    with running_on(isa):
        benchmark(lambda: ops.ray_aabb(*rays, AABB))


@pytest.mark.benchmark(group="sample-positions-fwdbwd")
@pytest.mark.parametrize("backend", BACKENDS)
def test_sample_positions(benchmark, grid, backend):
    inputs = march_inputs(grid[1], 4096)
    samples = ops.march(**inputs)
    leaves = [inputs[k].requires_grad_() for k in ("rays_o", "rays_d")]
    grad = torch.ones(samples.t_starts.numel(), 3)

    def run():
        positions = ops.sample_positions(*leaves, samples.t_starts, samples.t_ends, samples.packed_info, AABB)
        return torch.autograd.grad(positions, leaves, grad)

    with ops.use_backend(backend):
        benchmark(run)


@pytest.mark.benchmark(group="occupancy-update")
@pytest.mark.parametrize("isa", ISAS)
def test_occupancy_update(benchmark, grid, isa):
    g = torch.Generator().manual_seed(0)
    n_cells = RESOLUTION**3
    indices = torch.randint(0, n_cells, (n_cells // 4,), generator=g, dtype=torch.int32)
    densities = torch.rand(4, len(indices), generator=g)
    density = grid[0].clone()
    with running_on(isa):
        benchmark(lambda: ops.occupancy_update(density, indices, densities, 0.95))


@pytest.mark.benchmark(group="pack-bitfield")
@pytest.mark.parametrize("isa", ISAS)
def test_pack_bitfield(benchmark, grid, isa):
    with running_on(isa):
        benchmark(lambda: ops.pack_bitfield(grid[0], 1.0))


@pytest.mark.benchmark(group="morton")
@pytest.mark.parametrize("backend", BACKENDS)
def test_morton_encode(benchmark, backend):
    g = torch.Generator().manual_seed(0)
    cells = torch.randint(0, RESOLUTION, (RESOLUTION**3 // 4, 3), generator=g, dtype=torch.int32)
    with ops.use_backend(backend):
        benchmark(lambda: ops.morton_encode(cells))
