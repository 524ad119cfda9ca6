"""render_samples: against the reference and its parts, gradients, opcheck, rejections, edges, early stop."""

import dataclasses

import pytest
import torch
from test_radiance_field import FIELDS, GRID, make_inputs
from torch.autograd import gradcheck

from nerfad import _native
from nerfad.bench.batch import BIAS, VIEW_NET, training_batch
from nerfad.bench.scene import GRID as BENCH_GRID
from nerfad.bench.scene import SIGMA as BENCH_SIGMA
from nerfad.ops import GridSpec, MLPSpec, composite, radiance_field, render_samples
from nerfad.ops.reference import render_samples as reference

COUNTS = [5, 0, 1, 60, 0, 3, 33, 49]
LEAVES = ("positions", "table", "sigma_params", "color_params", "views", "background", "cond")
NAMES = ("colors", "opacities", "depths", "weights")


def make_rays(counts=COUNTS, field=FIELDS["usual"], dtype=torch.float32, device="cpu", length=0.3, **options):
    """Rays with so many samples each, of about that length."""
    counts = torch.tensor(counts, dtype=torch.int64)
    n, n_rays = int(counts.sum()), len(counts)
    inputs = make_inputs(field, n, n_rays, dtype=dtype, **options)
    del inputs["ray_indices"]
    g = torch.Generator().manual_seed(2)
    first = torch.cumsum(counts, 0) - counts
    step = torch.arange(n) - torch.repeat_interleave(first, counts)
    t_starts = step.to(dtype) + torch.rand(n, generator=g, dtype=dtype) / 4
    inputs |= dict(
        t_starts=t_starts,
        t_ends=t_starts + length * (0.5 + torch.rand(n, generator=g, dtype=dtype)),
        packed_info=torch.stack([first, counts], 1),
        background=torch.rand(n_rays, 3, generator=g, dtype=dtype),
    )
    if "cond_index" in inputs:
        inputs["cond_index"] = torch.randint(3, (n_rays,), generator=g, dtype=torch.int32)
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}


def by_parts(packed_info, t_starts, t_ends, background=None, early_stop_eps=1e-4, cond_index=None, **field):
    """What the op replaces."""
    ray_indices = reference.rays_of_samples(packed_info, len(t_starts))
    sample_cond = None if cond_index is None else cond_index[ray_indices]
    sigmas, rgbs = radiance_field(**field, ray_indices=ray_indices, cond_index=sample_cond)
    return composite(sigmas, rgbs, t_starts, t_ends, packed_info, background, early_stop_eps)


def make_grads(inputs):
    g = torch.Generator().manual_seed(3)
    n, n_rays = len(inputs["positions"]), len(inputs["packed_info"])
    shapes = [(n_rays, 3), (n_rays,), (n_rays,), (n,)]
    return [torch.randn(s, generator=g, dtype=inputs["positions"].dtype) for s in shapes]


def gradients(fn, inputs):
    leaves = {k: inputs[k].detach().clone().requires_grad_() for k in LEAVES if inputs.get(k) is not None}
    grads = [g.to(inputs["positions"].device) for g in make_grads(inputs)]
    return dict(
        zip(leaves, torch.autograd.grad(fn(**{**inputs, **leaves}), [*leaves.values()], grads), strict=True)
    )


def assert_outputs_match(inputs, rtol, atol, **options):
    got, expected = render_samples(**inputs, **options), reference.render_samples(**inputs, **options)
    for name, a, b in zip(NAMES, got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


def assert_gradients_match(inputs, relative):
    """Errors in proportion to each gradient's largest element: sums of many terms cancel. The background
    shows through by one less the opacity, which is a rounding error off where the opacity is nearly one."""
    got, expected = gradients(render_samples, inputs), gradients(reference.render_samples, inputs)
    one = 8 * torch.finfo(inputs["positions"].dtype).eps
    for name, b in expected.items():
        a, scale = got[name], b.abs().max() if b.numel() else 0
        assert a.shape == b.shape and a.dtype == b.dtype
        assert bool(((a - b).abs() <= relative * scale + (one if name == "background" else 0)).all()), name


def assert_equals_parts(inputs, **options):
    """Bit for bit, gradients to every input included."""
    for name, a, b in zip(
        NAMES, render_samples(**inputs, **options), by_parts(**inputs, **options), strict=True
    ):
        assert torch.equal(a, b), name
    one_pass = gradients(lambda **k: render_samples(**k, **options), inputs)
    for name, b in gradients(lambda **k: by_parts(**k, **options), inputs).items():
        assert torch.equal(one_pass[name], b), name


@pytest.fixture(params=FIELDS)
def field(request):
    return FIELDS[request.param]


@pytest.fixture
def native(kernel_device, request):
    return request.node.callspec.params["kernel_device"] == "native"


def tolerance(native):
    """The CUDA kernels multiply in half precision."""
    return dict(rtol=5e-5, atol=5e-5) if native else dict(rtol=2e-2, atol=2e-2)


def relative(native):
    # In half precision a relu near zero may flip: a sample's whole gradient then differs.
    return 1e-4 if native else 0.2


def test_matches_reference(kernel_device, native, field):
    assert_outputs_match(make_rays(field=field, device=kernel_device), **tolerance(native))


def test_matches_reference_float64(field):
    assert_outputs_match(make_rays(field=field, dtype=torch.float64), 1e-12, 1e-12)


def test_gradients_match_reference(kernel_device, native, field):
    assert_gradients_match(make_rays(field=field, device=kernel_device), relative(native))


def test_gradients_match_reference_float64(field):
    assert_gradients_match(make_rays(field=field, dtype=torch.float64), 1e-10)


def test_gradcheck():
    field = (
        GridSpec(n_levels=2, base_resolution=2, finest_resolution=4, log2_table_size=4),
        MLPSpec(4, 2, 16, 2, 4),
        MLPSpec(3, 2, 16, 1, 3, "sigmoid"),
    )
    inputs = make_rays([3, 0, 2], field, dtype=torch.float64) | dict(early_stop_eps=0.0)
    inputs["views"] = inputs["views"][:, :2].contiguous()
    leaves = [inputs.pop(k).requires_grad_() for k in LEAVES]
    assert gradcheck(lambda *v: render_samples(**inputs, **dict(zip(LEAVES, v, strict=True))), leaves)


def test_opcheck():
    inputs = make_rays()
    for name in LEAVES:
        inputs[name].requires_grad_()
    torch.library.opcheck(
        _native.ops().render_samples_fwd.default,
        (
            *(inputs["positions"], inputs["table"], [*GRID.resolutions, 10, 0, 0]),
            *(inputs["sigma_params"], [8, 5, 32, 2, 16, 0], inputs["color_params"], [15, 16, 32, 1, 3, 1]),
            *(inputs[k] for k in ("views", "t_starts", "t_ends", "packed_info", "background")),
            *(inputs[k] for k in ("cond", "cond_index", "density_bias")),
            *(1e-4, False, False),
        ),
    )


def int32(*values):
    return torch.tensor(values, dtype=torch.int32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(positions=torch.zeros(151, 2)), r"render_samples: positions must have shape \[\*, 3\]"),
        (dict(positions=torch.zeros(151, 3).half()), "positions must be float32 .*, got float16"),
        (dict(table=torch.zeros(GRID.n_entries, 3)), "table must have 1, 2, 4 or 8 columns, got 3"),
        (dict(sigma_params=torch.zeros(7)), r"sigma_params must have shape \[\d+\], got \[7\]"),
        (dict(views=torch.zeros(7, 16)), r"views must have shape \[8, \*\], got \[7, 16\]"),
        (dict(views=torch.zeros(8, 9)), r"color_spec.d_in \+ d_cond \(code and view\) must be 24, got 31"),
        (dict(t_starts=torch.zeros(150)), r"t_starts must have shape \[151\], got \[150\]"),
        (dict(t_ends=torch.zeros(151).double()), "t_ends must be float32, got float64"),
        (dict(packed_info=torch.zeros(8, 2).int()), "packed_info must be int64, got int32"),
        (dict(packed_info=torch.zeros(8).long()), r"packed_info must have shape \[\*, 2\], got \[8\]"),
        (dict(background=torch.zeros(7, 3)), r"background must have shape \[8, 3\], got \[7, 3\]"),
        (dict(cond=None), "cond must be given for a network with conditions"),
        (dict(cond_index=int32(0).repeat(151)), r"cond_index must have shape \[8\], got \[151\]"),
        (dict(cond_index=int32(3).repeat(8)), r"cond_index must be in \[0, 3\), got 3"),
        (dict(grid_spec=dataclasses.replace(GRID, n_dims=2)), "grid_spec must have 3 dimensions, got 2"),
        (dict(precision="float8"), "render_samples: precision must be float32 or bfloat16, got 'float8'"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(RuntimeError, match=message):
        render_samples(**{**make_rays(), **change})


@pytest.mark.parametrize("counts", [[0, 0], [1], [0, 0, 7, 0], [1000], [47] * 70, [3] * 900 + [400]])
def test_any_number_of_rays_and_samples(kernel_device, native, counts):
    inputs = make_rays(counts, device=kernel_device, length=0.02)  # most rays do not stop
    assert_outputs_match(inputs, **tolerance(native))
    assert_gradients_match(inputs, 3 * relative(native))
    if native:
        assert_equals_parts(inputs)


def test_no_rays():
    inputs = make_rays([0])
    inputs |= {k: inputs[k][:0] for k in ("views", "packed_info", "background", "cond_index")}
    colors, _, _, weights = render_samples(**inputs)
    assert colors.shape == (0, 3) and weights.shape == (0,)
    assert not any(g.any() for g in gradients(render_samples, inputs).values())


def test_without_background_and_index(kernel_device, native):
    inputs = make_rays(device=kernel_device) | dict(background=None, cond_index=None)
    assert_outputs_match(inputs, **tolerance(native))
    assert_gradients_match(inputs, relative(native))


def test_rays_in_any_order(kernel_device):
    inputs = make_rays(device=kernel_device)
    order = torch.randperm(len(COUNTS), generator=torch.Generator().manual_seed(4)).to(kernel_device)
    per_ray = ("packed_info", "views", "background", "cond_index")
    permuted = render_samples(**inputs | {k: inputs[k][order] for k in per_ray})
    for a, b in zip(permuted[:3], render_samples(**inputs)[:3], strict=True):
        torch.testing.assert_close(a, b[order], rtol=1e-5, atol=1e-6)
    assert torch.equal(permuted[3], render_samples(**inputs)[3])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_instruction_set_equals_its_parts(every_isa, field, precision):
    """Rays that stop and rays that do not; the samples share other tiles than in radiance_field."""
    inputs = make_rays([5, 0, 70, 1, 300, 49] * 30, field, length=0.5)
    for isa in every_isa:
        _native.set_isa(isa)
        assert_equals_parts(inputs, precision=precision)
    stopped = render_samples(**inputs)[3] == 0
    assert 0.05 < stopped.float().mean() < 0.99


@pytest.mark.parametrize("eps", [0.0, 0.01, 0.5, 1.5])
def test_early_stop_threshold(eps):
    assert_equals_parts(make_rays([200, 0, 64, 3]), early_stop_eps=eps)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_batch_equals_its_parts(every_isa, precision):
    """Its grid's features are kept in either precision."""
    b = training_batch("cpu")
    inputs = dict(
        positions=b.positions,
        table=b.table,
        grid_spec=BENCH_GRID,
        sigma_params=b.sigma_params,
        sigma_spec=BENCH_SIGMA,
        color_params=b.color_params,
        color_spec=VIEW_NET,
        views=b.views,
        t_starts=b.t_starts,
        t_ends=b.t_ends,
        packed_info=b.packed_info,
        cond=b.cond,
        density_bias=BIAS,
    )
    for isa in every_isa:
        _native.set_isa(isa)
        assert_equals_parts(inputs, precision=precision)


@pytest.mark.parametrize("output", range(4))
def test_the_gradient_of_one_output_alone(output):
    inputs = make_rays(field=FIELDS["features that are kept"])
    leaves = {k: inputs[k].detach().clone().requires_grad_() for k in LEAVES}
    seed = make_grads(inputs)[output]
    one, parts = (
        torch.autograd.grad(fn(**{**inputs, **leaves})[output], leaves.values(), seed, materialize_grads=True)
        for fn in (render_samples, by_parts)
    )
    for name, a, b in zip(leaves, one, parts, strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_samples_behind_the_stop_are_never_evaluated(every_isa, precision):
    """Outputs and what the backward pass reads hold nothing of them, though rounds may look ahead."""
    inputs = make_rays([200] * 20, length=1.0)
    arguments = (
        *(inputs["positions"], inputs["table"], [*GRID.resolutions, 10, 0, 0], inputs["sigma_params"]),
        *([8, 5, 32, 2, 16, 0], inputs["color_params"], [15, 16, 32, 1, 3, 1]),
        *(inputs[k] for k in ("views", "t_starts", "t_ends", "packed_info", "background", "cond")),
        *(inputs["cond_index"], inputs["density_bias"], 1e-4, precision == "bfloat16", False),
    )
    for isa in every_isa:
        _native.set_isa(isa)
        weights, sigmas, rgbs = _native.ops().render_samples_fwd(*arguments)[3:6]
        behind = weights == 0
        assert behind.float().mean() > 0.5
        assert not sigmas[behind].any() and not rgbs[behind].any()
        assert bool((sigmas[~behind] > 0).all()) and bool((rgbs[~behind] > 0).all())


def test_nans_behind_the_stop_reach_nothing():
    inputs = make_rays([200] * 20 + [4], length=1.0)
    behind = render_samples(**inputs)[3] == 0
    assert behind.float().mean() > 0.5
    spoiled = inputs | {k: torch.where(behind, torch.nan, inputs[k]) for k in ("t_starts", "t_ends")}
    spoiled["positions"] = torch.where(behind[:, None], torch.nan, inputs["positions"])
    for name, a, b in zip(NAMES, render_samples(**spoiled), render_samples(**inputs), strict=True):
        assert torch.equal(a, b), name
    expected = gradients(render_samples, inputs)
    for name, a in gradients(render_samples, spoiled).items():
        assert torch.equal(a, expected[name]), name


def test_a_nan_reaches_its_rays_only():
    inputs = make_rays()
    inputs["cond"][1, 0] = float("nan")
    hit = (inputs["cond_index"] == 1) & (inputs["packed_info"][:, 1] > 0)
    assert 0 < int(hit.sum()) < len(hit)
    for out in render_samples(**inputs)[:3]:
        assert out[hit].isnan().all() and out[~hit].isfinite().all()


def test_results_do_not_depend_on_the_number_of_threads():
    inputs = make_rays([200, 0, 64, 3, 30] * 300, length=0.2)
    before, results = torch.get_num_threads(), []
    for n_threads in (1, 2, 3, 3):
        torch.set_num_threads(n_threads)
        results.append([*render_samples(**inputs), *gradients(render_samples, inputs).values()])
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_table_of_half_precision(kernel_device, native, dtype):
    inputs = make_rays(device=kernel_device)
    inputs["table"] = inputs["table"].to(dtype)
    assert_outputs_match(inputs, **tolerance(native))
    assert_gradients_match(inputs, 1e-2 if native else relative(native))
