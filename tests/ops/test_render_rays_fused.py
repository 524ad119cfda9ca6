"""render_rays_fused: against the composition of the reference ops, rejections, edges and instruction sets."""

import dataclasses

import pytest
import torch

from nerfad import _native, ops
from nerfad.ops import GridSpec, MLPSpec, pack_bitfield, ray_aabb, render_rays_fused
from nerfad.ops.reference import render_rays_fused as reference
from nerfad.ops.reference.morton import morton_decode

GRID = GridSpec(n_levels=4, base_resolution=4, finest_resolution=32, log2_table_size=10)
SIGMA = MLPSpec(8, 5, 32, 2, 16)
COLOR = MLPSpec(31, 0, 32, 1, 3, "sigmoid")
RESOLUTION = 16


def bitfield_of_a_ball(radius=0.35):
    """[resolution^3 / 8] uint8: cells whose centre lies in a ball around the middle of the box."""
    codes = torch.arange(RESOLUTION**3, dtype=torch.int32)
    centres = (morton_decode(codes).float() + 0.5) / RESOLUTION
    return pack_bitfield(((centres - 0.5).norm(dim=1) < radius).float(), 0.5)


def make_inputs(n_rays=200, seed=0, sigma=SIGMA, color=COLOR, grid=GRID, device="cpu"):
    g = torch.Generator().manual_seed(seed)

    def params(spec):
        flat = spec.init(g)
        for _, bias in spec.split(flat):
            bias.uniform_(-0.2, 0.2, generator=g)
        return flat

    rays_o = torch.tensor([[0.0, 0.0, 3.0]]) + 0.3 * torch.randn(n_rays, 3, generator=g)
    target = 0.7 * (torch.rand(n_rays, 3, generator=g) * 2 - 1)
    aabb = torch.tensor([-1.0, -0.9, -1.1, 1.0, 1.1, 0.9])
    rays_d = torch.nn.functional.normalize(target - rays_o, dim=1)
    t_min, t_max = ray_aabb(rays_o, rays_d, aabb)
    tensors = dict(
        rays_o=rays_o,
        rays_d=rays_d,
        t_min=t_min,
        t_max=t_max,
        aabb=aabb,
        density_bitfield=bitfield_of_a_ball(),
        table=torch.rand(grid.n_entries, grid.n_features, generator=g) * 2 - 1,
        sigma_params=params(sigma),
        color_params=params(color),
        cond=torch.randn(1, sigma.d_cond, generator=g) if sigma.d_cond else None,
        background=torch.rand(n_rays, 3, generator=g),
    )
    tensors = {k: None if v is None else v.to(device) for k, v in tensors.items()}
    return dict(
        resolution=RESOLUTION,
        step_size=0.05,
        grid_spec=grid,
        sigma_spec=sigma,
        color_spec=color,
        density_bias=2.0,
        **tensors,
    )


def assert_matches_reference(inputs, native=True):
    """Half precision on CUDA; where a ray stops is a decision that rounding may move by one sample."""
    atol = 2e-5 if native else 8e-3
    got, expected = render_rays_fused(**inputs), reference.render_rays_fused(**inputs)
    for name, a, b in zip(("colors", "opacities", "depths"), got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=atol * (4 if name == "depths" else 1), msg=name)


@pytest.fixture
def native(kernel_device, request):
    return request.node.callspec.params["kernel_device"] == "native"


def test_matches_reference(kernel_device, native):
    inputs = make_inputs(device=kernel_device)
    opacities = render_rays_fused(**inputs)[1]
    assert 0.2 < (opacities > 0.5).float().mean() < 0.95, "the scene must hold hits and misses"
    assert_matches_reference(inputs, native)


def test_matches_reference_without_background_and_with_early_stop(kernel_device, native):
    inputs = {**make_inputs(device=kernel_device), "background": None, "density_bias": 4.0}
    assert_matches_reference(inputs, native)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_table_of_half_precision(kernel_device, native, dtype):
    inputs = make_inputs(device=kernel_device)
    assert_matches_reference({**inputs, "table": inputs["table"].to(dtype)}, native)


@pytest.mark.parametrize(
    ("sigma", "color", "grid"),
    [
        (MLPSpec(8, 0, 64, 3, 16), MLPSpec(31, 0, 64, 2, 3, "sigmoid"), GRID),
        (MLPSpec(8, 3, 128, 1, 2), MLPSpec(17, 0, 16, 1, 3), GRID),
        (MLPSpec(8, 3, 128, 8, 4), MLPSpec(19, 0, 16, 1, 3), GRID),
        (
            MLPSpec(12, 3, 48, 1, 33),
            MLPSpec(48, 0, 24, 3, 3, "sigmoid"),
            dataclasses.replace(GRID, n_levels=3, n_features=4, kind="tiled", interpolation="smoothstep"),
        ),
    ],
    ids=["reference net", "narrow code", "too deep for shared memory", "wide code"],
)
def test_shapes_of_networks_and_grid(kernel_device, native, sigma, color, grid):
    inputs = make_inputs(sigma=sigma, color=color, grid=grid, device=kernel_device)
    assert_matches_reference(inputs, native)


def test_the_view_may_be_the_colour_networks_condition(kernel_device):
    inputs = make_inputs(device=kernel_device)
    as_condition = dataclasses.replace(COLOR, d_in=15, d_cond=16)
    for a, b in zip(
        render_rays_fused(**{**inputs, "color_spec": as_condition}), render_rays_fused(**inputs), strict=True
    ):
        assert torch.equal(a, b)


def test_growing_steps_and_a_bound_on_samples(kernel_device, native):
    inputs = make_inputs(device=kernel_device)
    assert_matches_reference({**inputs, "cone_angle": 0.03}, native)
    assert_matches_reference({**inputs, "max_samples_per_ray": 3}, native)
    assert_matches_reference({**inputs, "max_samples_per_ray": 0}, native)


def test_directions_need_not_be_unit_vectors(kernel_device, native):
    inputs = make_inputs(device=kernel_device)
    for name, factor in (("rays_d", 2.0), ("t_min", 0.5), ("t_max", 0.5)):
        inputs[name] = inputs[name] * factor
    assert_matches_reference({**inputs, "step_size": 0.025}, native)


@pytest.mark.parametrize("n_rays", [0, 1, 63, 1500])
def test_any_number_of_rays(kernel_device, native, n_rays):
    assert_matches_reference(make_inputs(n_rays, device=kernel_device), native)


def test_rays_that_miss_show_the_background(kernel_device):
    inputs = make_inputs(device=kernel_device)
    inputs["t_max"] = inputs["t_min"].clone()
    colors, opacities, depths = render_rays_fused(**inputs)
    assert torch.equal(colors, inputs["background"]) and not opacities.any() and not depths.any()


def test_a_pixel_does_not_depend_on_the_others(kernel_device):
    inputs = make_inputs(300, device=kernel_device)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2)).to(kernel_device)
    names = ("rays_o", "rays_d", "t_min", "t_max", "background")
    permuted = {**inputs, **{k: inputs[k][order].contiguous() for k in names}}
    for a, b in zip(render_rays_fused(**permuted), render_rays_fused(**inputs), strict=True):
        torch.testing.assert_close(a, b[order], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("width", "n_rays"), [(20, 300), (20, 313), (8, 64), (7, 70), (500, 300)])
def test_the_order_of_pixels_changes_nothing(kernel_device, width, n_rays):
    inputs = make_inputs(n_rays, device=kernel_device)
    for a, b in zip(render_rays_fused(**inputs, image_width=width), render_rays_fused(**inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_the_condition_matters(kernel_device):
    inputs = make_inputs(device=kernel_device)
    other = render_rays_fused(**{**inputs, "cond": inputs["cond"] + 1})[0]
    assert (other - render_rays_fused(**inputs)[0]).abs().max() > 0.01


@pytest.mark.parametrize("isa", _native.ISAS)
def test_every_instruction_set_matches_reference(isa):
    detected = _native.detected_isa()
    if _native.ISAS.index(isa) > _native.ISAS.index(detected):
        pytest.skip(f"this machine has {detected}")
    _native.set_isa(isa)
    try:
        assert_matches_reference(make_inputs(500))
    finally:
        _native.set_isa(detected)


def psnr(got, expected):
    return float(-10 * torch.log10((got - expected).square().mean()))


@pytest.mark.parametrize("isa", _native.ISAS)
def test_bfloat16_matches_reference_and_float32(isa):
    detected = _native.detected_isa()
    if _native.ISAS.index(isa) > _native.ISAS.index(detected):
        pytest.skip(f"this machine has {detected}")
    inputs = make_inputs(500)
    exact = render_rays_fused(**inputs)
    _native.set_isa(isa)
    try:
        got = render_rays_fused(**inputs, precision="bfloat16")
    finally:
        _native.set_isa(detected)
    expected = reference.render_rays_fused(**inputs, precision="bfloat16")
    for a, b, c in zip(got, expected, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-3)
        assert not torch.equal(a, c)
    assert psnr(got[0], expected[0]) > 70
    assert psnr(got[0], exact[0]) > 50


def test_rejects_another_precision():
    with pytest.raises(RuntimeError, match="precision must be float32 or bfloat16, got 'half'"):
        render_rays_fused(**make_inputs(5), precision="half")


def test_cuda_kernels_reject_bfloat16():
    if not _native.LIBRARY.with_name("libnerfad_emu.so").is_file():
        pytest.skip("the emulated kernels are not built (needs the CUDA headers)")
    inputs = make_inputs(5)
    with ops.emulated_cuda(), pytest.raises(RuntimeError, match="bfloat16 runs on the CPU only"):
        render_rays_fused(**inputs, precision="bfloat16")


def test_a_ray_does_not_depend_on_its_neighbours():
    """Rays share blocks, vectors and tiles; what is drawn of one must not show it."""
    inputs = make_inputs(1000)
    together = render_rays_fused(**inputs)
    per_ray = ("rays_o", "rays_d", "t_min", "t_max", "background")
    for rows in (torch.arange(999, -1, -3), torch.arange(17), torch.tensor([500])):
        alone = render_rays_fused(**inputs | {k: inputs[k][rows] for k in per_ray})
        assert all(torch.equal(a, t[rows]) for a, t in zip(alone, together, strict=True))


def test_does_not_depend_on_the_number_of_threads():
    inputs, before, results = make_inputs(1000), torch.get_num_threads(), []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        results.append(render_rays_fused(**inputs))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_opcheck():
    i = make_inputs(20)
    arguments = (
        *(i[k] for k in ("rays_o", "rays_d", "t_min", "t_max", "aabb", "density_bitfield")),
        *(RESOLUTION, 0.05, i["table"], [*GRID.resolutions, 10, 0, 0]),
        *(i["sigma_params"], [8, 5, 32, 2, 16, 0], i["color_params"], [31, 0, 32, 1, 3, 1]),
        *(i["cond"], i["background"], 1e-4, 1024, 1.0, 0.0, 0, False),
    )
    torch.library.opcheck(_native.ops().render_rays_fused.default, arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rays_d=torch.zeros(9, 3)), r"rays_d must have shape \[200, 3\], got \[9, 3\]"),
        (dict(rays_o=torch.zeros(200, 3).double()), "rays_o must be float32, got float64"),
        (dict(t_max=torch.zeros(200, 1)), r"t_max must have shape \[200\], got \[200, 1\]"),
        (
            dict(density_bitfield=torch.zeros(8, dtype=torch.uint8)),
            r"density_bitfield must have shape \[512\]",
        ),
        (dict(resolution=17), "resolution must be a power of two from 4 to 256, got 17"),
        (dict(step_size=0.0), "step_size must be positive"),
        (dict(cone_angle=-1.0), "cone_angle must not be negative"),
        (dict(table=torch.zeros(7, 2)), r"table must have shape \[\d+, 2\], got \[7, 2\]"),
        (dict(sigma_params=torch.zeros(3)), rf"sigma_params must have shape \[{SIGMA.n_params}\], got \[3\]"),
        (dict(color_params=torch.zeros(3)), rf"color_params must have shape \[{COLOR.n_params}\], got \[3\]"),
        (dict(cond=None), "cond must be given for a network with conditions"),
        (dict(cond=torch.zeros(2, 5)), r"cond must have shape \[1, 5\], got \[2, 5\]"),
        (dict(background=torch.zeros(200, 4)), r"background must have shape \[200, 3\], got \[200, 4\]"),
        (dict(max_samples_per_ray=-1), r"max_samples_per_ray must be in \[0, 2\^24\], got -1"),
        (dict(image_width=-1), r"image_width must be in \[0, 2\^31\), got -1"),
        (dict(grid_spec=dataclasses.replace(GRID, n_dims=2)), "grid_spec must have 3 dimensions, got 2"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(RuntimeError, match=f"render_rays_fused: {message}"):
        render_rays_fused(**{**make_inputs(), **change})


def test_rejects_networks_that_do_not_fit_together():
    wrong = MLPSpec(30, 0, 32, 1, 3, "sigmoid")
    inputs = {**make_inputs(), "color_spec": wrong, "color_params": wrong.init()}
    with pytest.raises(RuntimeError, match=r"color_spec.d_in \(code and view\) must be 31, got 30"):
        render_rays_fused(**inputs)
