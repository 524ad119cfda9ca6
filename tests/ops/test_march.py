"""march: against a look at every step, across backends, bounds, opcheck, rejections and edges."""

import pytest
import torch

from nerfad import _native
from nerfad.ops import emulated_cuda, march, march_inference, morton_encode, pack_bitfield, ray_aabb
from nerfad.ops.reference import march as reference

AABB = torch.tensor([-1.0, -0.5, -1.0, 1.0, 1.5, 0.5])


def head_bitfield(resolution: int, fill: float = 0.0) -> torch.Tensor:
    """A hollow ball with some noise: empty, mixed and full blocks all occur."""
    g = torch.Generator().manual_seed(1)
    axis = torch.arange(resolution, dtype=torch.int32)
    cells = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    radius = ((cells + 0.5) / resolution - 0.5).norm(dim=1)
    density = ((radius > 0.2) & (radius < 0.42)).float()
    density += (torch.rand(len(cells), generator=g) < fill).float()
    grid = torch.zeros(resolution**3)
    grid[morton_encode(cells).long()] = density
    return pack_bitfield(grid, 0.5)


def make_inputs(n_rays=300, resolution=32, step_size=0.02, fill=0.01, seed=0, jittered=True, device="cpu"):
    g = torch.Generator().manual_seed(seed)
    rays_o = torch.randn(n_rays, 3, generator=g) * torch.tensor([2.0, 2.0, 2.0])
    target = AABB[:3] + torch.rand(n_rays, 3, generator=g) * (AABB[3:] - AABB[:3])
    rays_d = torch.nn.functional.normalize(target - rays_o, dim=1)
    t_min, t_max = ray_aabb(rays_o, rays_d, AABB)
    inputs = dict(
        rays_o=rays_o,
        rays_d=rays_d,
        t_min=t_min,
        t_max=t_max,
        aabb=AABB,
        density_bitfield=head_bitfield(resolution, fill),
        resolution=resolution,
        step_size=step_size,
        jitter=torch.rand(n_rays, generator=g) if jittered else None,
    )
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}


def samples_by_ray(result) -> list[list[float]]:
    return [
        [round(t, 4) for t in result.t_starts[start : start + count].tolist()]
        for start, count in result.packed_info.tolist()
    ]


def assert_same_samples(got, expected, tolerated=0.002):
    """Equal but for samples within rounding of a cell's wall: the reference rounds differently."""
    differing = total = 0
    for mine, theirs in zip(samples_by_ray(got), samples_by_ray(expected), strict=True):
        total += len(theirs)
        unmatched = [t for t in mine if not any(abs(t - u) < 2e-4 for u in theirs)]
        differing += len(unmatched) + abs(len(mine) - len(unmatched) - len(theirs))
    assert differing <= tolerated * total, (differing, total)


@pytest.mark.parametrize("resolution", [4, 8, 32, 64])
@pytest.mark.parametrize("step_size", [0.003, 0.02, 0.2])
def test_matches_reference(kernel_device, resolution, step_size):
    inputs = make_inputs(n_rays=60, resolution=resolution, step_size=step_size, device=kernel_device)
    got, expected = march(**inputs), reference.march(**inputs)
    assert got.t_starts.numel() > 50
    assert_same_samples(got, expected)
    torch.testing.assert_close(
        got.t_ends - got.t_starts, torch.full_like(got.t_ends, step_size), atol=1e-6, rtol=0
    )
    assert got.packed_info.dtype == torch.int64 and got.ray_indices.dtype == torch.int32


def test_growing_steps_match_reference(kernel_device):
    inputs = make_inputs(cone_step := 100, step_size=0.01, device=kernel_device)
    got, expected = march(**inputs, cone_angle=0.02), reference.march(**inputs, cone_angle=0.02)
    assert_same_samples(got, expected)
    length = got.t_ends - got.t_starts
    torch.testing.assert_close(length, (got.t_starts * 0.02).clamp(min=0.01), rtol=1e-4, atol=1e-6)
    assert cone_step == len(got.packed_info)


def test_packs_samples_in_the_order_of_the_rays(kernel_device):
    result = march(**make_inputs(device=kernel_device))
    starts, counts = result.packed_info.unbind(1)
    assert torch.equal(starts, counts.cumsum(0) - counts)
    ids = torch.arange(len(counts), dtype=torch.int32, device=kernel_device)
    assert torch.equal(result.ray_indices, torch.repeat_interleave(ids, counts))
    assert int(result.n_dropped) == 0


@pytest.mark.parametrize("resolution", [4, 16, 128])
@pytest.mark.parametrize("step_size", [0.0011, 0.013, 0.3])
@pytest.mark.parametrize("fill", [0.0, 0.02])
def test_every_instruction_set_finds_the_same_samples_bit_for_bit(every_isa, resolution, step_size, fill):
    inputs = make_inputs(n_rays=77, resolution=resolution, step_size=step_size, fill=fill)
    results = []
    for isa in every_isa:
        _native.set_isa(isa)
        results.append(march(**inputs))
    assert results[0].t_starts.numel() > 50
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            assert torch.equal(got, expected)


def test_cuda_sources_find_the_same_samples_bit_for_bit():
    if not _native.LIBRARY.with_name("libnerfad_emu.so").is_file():
        pytest.skip("the emulated kernels are not built (needs the CUDA headers)")
    inputs = make_inputs(n_rays=200, resolution=64)
    with emulated_cuda():
        emulated = march(**inputs)
    for got, expected in zip(emulated, march(**inputs), strict=True):
        assert torch.equal(got, expected)


def test_skipping_finds_what_a_look_at_every_step_finds():
    """At resolution 4 there is no brick to skip; a bitfield blown up to 64 must give the same samples."""
    coarse = make_inputs(n_rays=100, resolution=4, step_size=0.007)
    axis = torch.arange(64, dtype=torch.int32)
    cells = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    codes = morton_encode((cells // 16).contiguous()).long()
    grid = torch.zeros(64**3)
    grid[morton_encode(cells).long()] = (
        coarse["density_bitfield"][codes >> 3] >> (codes & 7).byte() & 1
    ).float()
    fine = {**coarse, "resolution": 64, "density_bitfield": pack_bitfield(grid, 0.5)}
    assert_same_samples(march(**fine), march(**coarse), tolerated=0.001)


def test_bound_on_a_ray_drops_its_last_samples_and_reports_them(kernel_device):
    inputs = make_inputs(device=kernel_device)
    free, bound = march(**inputs), march(**inputs, max_samples_per_ray=7)
    assert torch.equal(bound.packed_info[:, 1], free.packed_info[:, 1].clamp(max=7))
    assert int(bound.n_dropped) == free.t_starts.numel() - bound.t_starts.numel() > 0
    assert [r[:7] for r in samples_by_ray(free)] == samples_by_ray(bound)


@pytest.mark.parametrize("padded", [False, True])
def test_bound_on_all_samples_drops_the_last_rays_and_reports_them(kernel_device, padded):
    inputs = make_inputs(n_rays=1500, device=kernel_device)
    free = march(**inputs)
    limit = free.t_starts.numel() // 2
    bound = march(**inputs, max_samples=limit, padded=padded)
    assert torch.equal(bound.t_starts, free.t_starts[:limit])
    assert torch.equal(bound.ray_indices, free.ray_indices[:limit])
    assert int(bound.n_dropped) == free.t_starts.numel() - limit
    ends = bound.packed_info.sum(1)
    assert int(ends.max()) == limit and int(bound.packed_info[:, 1].sum()) == limit
    assert_same_samples(bound, reference.march(**inputs, max_samples=limit, padded=padded))


def test_padding_fills_up_with_zeros(kernel_device):
    inputs = make_inputs(device=kernel_device)
    free = march(**inputs)
    n = free.t_starts.numel()
    padded = march(**inputs, max_samples=n + 100, padded=True)
    assert padded.t_starts.shape == padded.ray_indices.shape == (n + 100,)
    assert torch.equal(padded.t_starts[:n], free.t_starts) and int(padded.n_dropped) == 0
    assert not padded.t_starts[n:].any() and not padded.t_ends[n:].any()


def test_rounds_of_inference_give_the_samples_of_march(kernel_device):
    inputs = make_inputs(jittered=False, device=kernel_device)
    inputs.pop("jitter")
    whole = samples_by_ray(march(**inputs))
    for cone_angle in (0.0, 0.03):
        if cone_angle:
            whole = samples_by_ray(march(**inputs, cone_angle=cone_angle))
        n_rays = len(whole)
        cursors = torch.zeros(n_rays, device=kernel_device)
        alive = torch.arange(n_rays, dtype=torch.int32, device=kernel_device)
        found = [[] for _ in range(n_rays)]
        n_steps = 1
        while len(alive):
            part = march_inference(
                **inputs, alive=alive, cursors=cursors, n_steps=n_steps, cone_angle=cone_angle
            )
            for ray, samples in zip(alive.tolist(), samples_by_ray(part), strict=True):
                found[ray] += samples
            rays = part.ray_indices.reshape(-1, n_steps)
            filled = torch.arange(n_steps, device=kernel_device) < part.packed_info[:, 1:]
            assert torch.equal(rays[filled], alive[:, None].expand_as(rays)[filled])
            alive = alive[torch.isfinite(cursors[alive.long()])]
            n_steps = min(2 * n_steps, 16)
        assert found == whole


def test_reference_inference_gives_the_samples_of_march():
    inputs = make_inputs(n_rays=20, jittered=False)
    inputs.pop("jitter")
    whole = samples_by_ray(reference.march(**inputs))
    cursors, alive = torch.zeros(20), torch.arange(20, dtype=torch.int32)
    found = [[] for _ in range(20)]
    while len(alive):
        part = reference.march_inference(**inputs, alive=alive, cursors=cursors, n_steps=4)
        for ray, samples in zip(alive.tolist(), samples_by_ray(part), strict=True):
            found[ray] += samples
        alive = alive[torch.isfinite(cursors[alive.long()])]
    assert found == whole


def test_rays_without_samples(kernel_device):
    inputs = make_inputs(n_rays=6, device=kernel_device)
    inputs["rays_o"][0, 1] = float("nan")
    inputs["rays_d"][1, 2] = float("inf")
    inputs["t_min"][2] = float("nan")
    inputs["t_max"][3] = inputs["t_min"][3]
    inputs["rays_d"][4] = 0.0
    inputs["jitter"][5] = float("nan")
    assert not march(**inputs).packed_info[:, 1].any()
    march(**{**inputs, "t_max": inputs["t_max"] * float("inf")})


def test_rays_from_afar_and_along_the_axes(kernel_device):
    """t_min and t_max need not be the box's; rays along an axis divide by zero."""
    rays_o = torch.tensor([[0.0, 0.5, 30.0], [0.1, 0.6, -40.0], [-50.0, 0.5, -0.3], [0.0, 9.0, 0.0]])
    rays_d = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    inputs = make_inputs(n_rays=4, device=kernel_device) | dict(
        rays_o=rays_o.to(kernel_device), rays_d=rays_d.to(kernel_device)
    )
    inputs["t_min"], inputs["t_max"] = inputs["t_min"] * 0, inputs["t_max"] * 0 + 100
    got = march(**inputs)
    assert_same_samples(got, reference.march(**inputs), tolerated=0.01)
    assert bool((got.packed_info[:3, 1] > 20).all()) and int(got.packed_info[3, 1]) == 0


def test_more_runs_than_are_noted(kernel_device):
    """A grid of alternating slabs: a ray meets 32 runs."""
    axis = torch.arange(64, dtype=torch.int32)
    cells = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    grid = torch.zeros(64**3)
    grid[morton_encode(cells).long()] = (cells[:, 0] % 2).float()
    inputs = make_inputs(n_rays=50, resolution=64, step_size=0.003, device=kernel_device)
    inputs["density_bitfield"] = pack_bitfield(grid, 0.5).to(kernel_device)
    got = march(**inputs)
    assert_same_samples(got, reference.march(**inputs), tolerated=0.01)
    assert int(got.packed_info[:, 1].max()) > 100


def test_empty_and_full_grids(kernel_device):
    inputs = make_inputs(n_rays=40, device=kernel_device)
    empty = {**inputs, "density_bitfield": torch.zeros_like(inputs["density_bitfield"])}
    assert march(**empty).t_starts.numel() == 0
    full = {**inputs, "density_bitfield": torch.full_like(inputs["density_bitfield"], 255)}
    result = march(**full)
    assert_same_samples(result, reference.march(**full))
    covered = result.packed_info[:, 1] * inputs["step_size"]
    torch.testing.assert_close(covered, inputs["t_max"] - inputs["t_min"], atol=0.031, rtol=0)


def test_no_rays(kernel_device):
    inputs = make_inputs(n_rays=1, device=kernel_device)
    none = {
        k: v[:0] if k in ("rays_o", "rays_d", "t_min", "t_max", "jitter") else v for k, v in inputs.items()
    }
    result = march(**none)
    assert result.packed_info.shape == (0, 2) and result.t_starts.numel() == 0 and int(result.n_dropped) == 0


def test_permuting_rays_permutes_samples():
    inputs = make_inputs()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    names = ("rays_o", "rays_d", "t_min", "t_max", "jitter")
    permuted = {k: v[order].contiguous() if k in names else v for k, v in inputs.items()}
    rays = samples_by_ray(march(**inputs))
    assert samples_by_ray(march(**permuted)) == [rays[i] for i in order.tolist()]


def test_opcheck():
    inputs = make_inputs(n_rays=20)
    jitter = inputs.pop("jitter")
    ops = _native.ops()
    arguments = (*inputs.values(), 0.0, jitter)
    counts, runs = ops.march_count(*arguments)
    packed_info, totals = ops.march_pack(counts, 10**6, 1024)
    alive = torch.arange(20, dtype=torch.int32)
    torch.library.opcheck(ops.march_count.default, arguments)
    torch.library.opcheck(ops.march_pack.default, (counts, 10**6, 1024))
    torch.library.opcheck(ops.march_write.default, (*arguments, packed_info, runs, int(totals[0]), False))
    torch.library.opcheck(
        ops.march_inference.default, (*inputs.values(), alive, torch.zeros(20), 4, 0.0), atol=0, rtol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rays_d=torch.zeros(299, 3)), r"march: rays_d must have shape \[300, 3\], got \[299, 3\]"),
        (dict(t_max=torch.zeros(300, dtype=torch.float64)), "march: t_max must be float32, got float64"),
        (dict(rays_o=torch.zeros(300, 3, dtype=torch.float64)), "march: rays_o must be float32, got float64"),
        (dict(resolution=48), "march: resolution must be a power of two from 4 to 256, got 48"),
        (dict(resolution=64), r"march: density_bitfield must have shape \[32768\], got \[4096\]"),
        (dict(density_bitfield=torch.zeros(4096)), "march: density_bitfield must be uint8, got float32"),
        (dict(step_size=0.0), "march: step_size must be positive, got 0"),
        (dict(cone_angle=-1.0), "march: cone_angle must not be negative"),
        (dict(jitter=torch.zeros(3)), r"march: jitter must have shape \[300\], got \[3\]"),
        (dict(rays_o=torch.zeros(3, 300).t()), "march: rays_o must be contiguous"),
        (dict(max_samples=-1), "march: max_samples must not be negative, got -1"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(RuntimeError, match=message):
        march(**{**make_inputs(), **change})


def test_rejects_padding_without_a_size():
    with pytest.raises(ValueError, match="march: padded=True needs max_samples"):
        march(**make_inputs(n_rays=1), padded=True)


def test_inference_rejects():
    inputs = make_inputs(n_rays=5, jittered=False)
    inputs.pop("jitter")
    alive = torch.tensor([0, 5], dtype=torch.int32)
    with pytest.raises(RuntimeError, match=r"march_inference: alive must lie in \[0, 5\), got 5"):
        march_inference(**inputs, alive=alive, cursors=torch.zeros(5), n_steps=2)
    with pytest.raises(RuntimeError, match="march_inference: n_steps must be at least 1, got 0"):
        march_inference(**inputs, alive=alive[:1], cursors=torch.zeros(5), n_steps=0)
