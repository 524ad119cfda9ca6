"""The groups on rays: march, volume integration, whole frames, a whole training step, and the import."""

from __future__ import annotations

import dataclasses
import functools
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from nerfad import ops
from nerfad.bench import peers
from nerfad.bench.batch import (
    OP_BY_OP,
    Batch,
    Field,
    colors_in_one_pass,
    march_arguments,
    our_fields,
    torch_fields,
)
from nerfad.bench.contender import NOT_CACHED, Contender, Run, Work, Workload, ours
from nerfad.bench.field_groups import (
    BACKWARD_PASSES,
    GATHERS,
    KINK_TOLERANCE,
    MACS,
    backward,
    compiled_fields,
    gradient_seeds,
    under_autocast,
    without_gradient,
)
from nerfad.bench.renderers import chunked, in_torch, op_by_op, rad_style
from nerfad.bench.scene import Counts
from nerfad.ops.conditioned_mlp import Precision
from nerfad.ops.reference.composite import composite as composite_reference
from nerfad.ops.reference.march import march as march_reference
from nerfad.ops.reference.render_rays_fused import render_rays_fused as render_reference
from nerfad.ops.reference.sample_positions import sample_positions as positions_reference

N_GATE_RAYS = 2048  # of a frame, compared with the float64 reference
SMALL_FRAME = 256 * 256  # where all variants of plain torch take part
EAGER_RAYS = 512 * 512  # more take plain torch many seconds
ALL_SAMPLES = "ours, field then integration"
LR, BETAS, EPS = 0.0, (0.9, 0.99), 1e-15  # rate 0: the same arithmetic, and every step the same work


def march(frame: dict[str, Any], counts: Counts, device: str) -> Workload:
    """All samples of all rays of the frame, those behind an early stop as well."""
    arguments = march_arguments(frame)

    def digest(outputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Samples and the mean of their starts of each ray: a few samples at cell walls may round away."""
        packed_info, t_starts = outputs[:2]
        n = packed_info[:, 1]
        ray = torch.repeat_interleave(torch.arange(len(n), device=n.device), n)
        sums = torch.zeros(len(n), dtype=torch.float64, device=n.device).index_add(0, ray, t_starts.double())
        return [n.double(), sums / n.clamp(min=1)]

    reference = functools.partial(march_reference, **arguments)
    contenders = ours("ours", lambda: ops.march(**arguments), device)
    contenders.append(Contender("eager", {"": without_gradient(reference)}, one_run=True))
    contenders += peers.marchers(frame, device)
    written = (
        12.0 * counts.samples + 16.0 * counts.rays
    )  # starts, ends, ray of each sample; counts of each ray
    work = Work(bytes=written + 32.0 * counts.rays)
    return Workload(
        *("march", counts.rays, counts.rays_hit, counts.samples, work),
        *(tuple(digest(reference())), tuple(contenders)),
        digest=digest,
        tolerance=5e-3,
    )


def composite(b: Batch, device: str) -> Workload:
    """Volume integration forward and backward, on all samples of the batch."""
    g = torch.Generator().manual_seed(2)
    sigmas = (torch.rand(b.n_samples, generator=g) * 20).to(device)
    rgbs = torch.rand(b.n_samples, 3, generator=g).to(device)
    packed = (b.t_starts, b.t_ends, b.packed_info)

    def leaves(dtype: torch.dtype) -> list[Tensor]:
        return [x.to(dtype).clone().requires_grad_() for x in (sigmas, rgbs)]

    def step(fn: Callable, own: list[Tensor], seeds: list[Tensor], spans: tuple) -> Run:
        sigmas, rgbs = own
        return lambda: backward(fn(sigmas, rgbs, *spans)[:2], own, seeds)

    exact, spans = leaves(torch.float64), tuple(x.double() if x.is_floating_point() else x for x in packed)
    seeds = gradient_seeds(composite_reference(exact[0], exact[1], spans[0], spans[1], spans[2])[:2])
    own = leaves(torch.float32)
    contenders = ours("ours", step(ops.composite, own, seeds, packed), device)
    eager = {"": step(composite_reference, own, seeds, packed)}
    contenders.append(Contender("eager", eager, one_run=True))
    contenders += peers.compositors(b, own, seeds, device)
    # Forward reads density, colour, start and end and writes a weight; backward reads all of it again.
    work = Work(bytes=(24.0 + 4.0 + 28.0 + 16.0) * b.n_samples)
    expected = tuple(step(composite_reference, exact, seeds, spans)())
    return Workload(
        *("composite", b.n_rays, b.n_rays_hit, b.n_samples, work, expected, tuple(contenders)),
    )


def _render(fn: Callable[[], Tensor]) -> Run:
    return without_gradient(lambda: [fn()])


def _frame_workload(
    group: str,
    frame: dict[str, Any],
    counts: Counts,
    contenders: list[Contender],
    device: str,
    gathers: bool = True,
) -> Workload:
    """What a picture must cost and show: the samples before the early stop, and some of its pixels."""
    rows = torch.linspace(0, counts.rays - 1, min(N_GATE_RAYS, counts.rays)).long()
    per_ray = ("rays_o", "rays_d", "t_min", "t_max", "background")
    some = frame | {k: frame[k][rows] for k in per_ray}
    in_double: dict[str, Any] = {
        k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in some.items()
    }
    evaluated = counts.samples_after_termination
    work = Work(flop=2.0 * MACS * evaluated, gathers=float(GATHERS * evaluated) if gathers else 0.0)
    return Workload(
        *(group, counts.rays, counts.rays_hit, evaluated, work),
        *(tuple(render_reference(**in_double)[:1]), tuple(contenders)),
        digest=lambda outputs: [outputs[0][rows]],
        tolerance=5e-3,
        autocast=under_autocast(lambda: render_reference(**some)[:1], device),
    )


def cached_frame(group: str, frame: dict[str, Any], counts: Counts, device: str) -> Workload:
    """The picture again at the same pose: march and encoding come from a cache, only the networks run."""
    of_networks = (
        "sigma_params",
        "sigma_spec",
        "color_params",
        "color_spec",
        "cond",
        "background",
        "density_bias",
    )
    networks = {k: frame[k] for k in of_networks}
    width = math.isqrt(counts.rays)
    grid = {k: frame[k] for k in ("table", "grid_spec")}
    contenders: list[Contender] = []
    for precision in get_args(Precision):
        dtype = getattr(torch, precision)  # bfloat16 networks round features anyway
        cache = ops.render_cache(**march_arguments(frame), **grid, dtype=dtype, image_width=width)
        cached = functools.partial(ops.render_cached, cache, **networks, precision=precision)
        contenders += ours("ours", _render(lambda f=cached: f()[0]), device, precision, capturable=True)  # type: ignore[misc]
        fused = functools.partial(ops.render_rays_fused, **frame, precision=precision, image_width=width)
        contenders += ours(NOT_CACHED, _render(lambda f=fused: f()[0]), device, precision, capturable=True)  # type: ignore[misc]
    return _frame_workload(group, frame, counts, contenders, device, gathers=False)


def frame(group: str, frame: dict[str, Any], counts: Counts, device: str) -> Workload:
    """A picture of the bench head, from rays to colours, with early termination."""
    width = math.isqrt(counts.rays)
    contenders: list[Contender] = []
    for precision in get_args(Precision):
        fused = functools.partial(ops.render_rays_fused, **frame, precision=precision, image_width=width)
        contenders += ours("ours", _render(lambda f=fused: f()[0]), device, precision, capturable=True)  # type: ignore[misc]
    half = frame | {"table": frame["table"].half()}
    contenders += ours(
        "ours, half table",
        _render(lambda: ops.render_rays_fused(**half, image_width=width)[0]),
        device,
        "float16",
        capturable=True,
        best_only=True,
    )
    cells = ops.expand_cells(frame["table"], frame["grid_spec"])
    from_cells = _render(lambda: ops.render_rays_fused(**frame, image_width=width, cells=cells)[0])
    contenders += ours("ours, cells", from_cells, device, capturable=True, best_only=True)
    best = our_fields()["ours", "float32"]
    portion = 1 << 16
    all_samples = functools.partial(op_by_op, field=best)
    one_by_one = _render(lambda: chunked(all_samples, frame, portion))
    contenders += ours(OP_BY_OP, one_by_one, device, best_only=True)
    plain = our_fields()[OP_BY_OP, "float32"]
    contenders += ours("RAD-style", _render(lambda: rad_style(frame, plain)), device, best_only=True)
    if counts.rays <= EAGER_RAYS:
        variants = {
            f"{name}, {n} steps": _render(functools.partial(in_torch, frame, field, n))
            for name, field in torch_fields().items()
            for n in (4, 8)
            if counts.rays <= SMALL_FRAME or (n == 8 and "level by level" in name)
        }
        contenders.append(Contender("eager", variants, one_run=True))
    contenders += peers.renderers(frame, device)
    return _frame_workload(group, frame, counts, contenders, device)


class TrainStep:
    """March, colours of the rays, squared error, backward, Adam: on our ops or on the reference's."""

    def __init__(self, b: Batch, colors: Callable[[Batch], Tensor], native: bool) -> None:
        self.b, self.colors, self.native = b.with_gradients(), colors, native
        leaves = self.b.leaves()
        if native:
            self.m, self.v = torch.zeros_like(leaves[0]), torch.zeros_like(leaves[0])
            leaves = leaves[1:]
        self.adam = torch.optim.Adam(leaves, lr=LR, betas=BETAS, eps=EPS, fused=True)
        self.steps = 0

    def __call__(self) -> Sequence[Tensor]:
        return self.run(lambda _, stage, *inputs, **options: stage(*inputs, **options))

    def run(self, do: Callable) -> Sequence[Tensor]:
        """A step whose stages are called by do(name, function, *inputs, **options), which may time them."""
        self.steps += 1
        arguments = {k: v for k, v in self.b.rays.items() if k != "target"}
        found = do("march", ops.march if self.native else march_reference, **arguments)
        spans = (found.t_starts, found.t_ends, found.packed_info)
        of_rays = (arguments["rays_o"], arguments["rays_d"], *spans, arguments["aabb"])
        positions = do("positions", ops.sample_positions if self.native else positions_reference, *of_rays)
        colors = do("forward", self.colors, with_samples(self.b, positions, found))
        loss = do("loss", lambda: (colors - self.b.rays["target"]).square().mean())
        gradients = do("backward", torch.autograd.grad, loss, self.b.leaves())
        for leaf, gradient in zip(self.b.leaves(), gradients, strict=True):
            leaf.grad = gradient
        do("Adam, networks", self.adam.step)
        if self.native:
            moments = (self.m, self.v, self.steps, LR, BETAS, EPS)
            do("Adam, table", ops.sparse_adam_, self.b.table, gradients[0], *moments)
        return [colors, *gradients]


def with_samples(b: Batch, positions: Tensor, found: ops.MarchResult) -> Batch:
    """The batch with newly found samples; everything else, the leaves among it, is shared."""
    names = ("ray_indices", "t_starts", "t_ends", "packed_info")
    return dataclasses.replace(b, positions=positions, **{k: getattr(found, k) for k in names})


def field_then_integral(field: Field, composite: Callable) -> Callable[[Batch], Tensor]:
    """Colours of rays from the field at all samples."""

    def colors(b: Batch) -> Tensor:
        return composite(*field(b), b.t_starts, b.t_ends, b.packed_info)[0]

    return colors


def train_step(b: Batch, device: str) -> Workload:
    """4,096 rays, from march to Adam. The work is that of the samples before the early stop alone."""
    exact = b.cast(torch.float64).with_gradients()
    target = b.rays["target"]
    in_torch = {k: field_then_integral(field, composite_reference) for k, field in torch_fields().items()}

    def reference(own: Batch) -> Sequence[Tensor]:
        colors = next(iter(in_torch.values()))(own)
        loss = (colors - target.to(colors.dtype)).square().mean()
        return [colors, *torch.autograd.grad(loss, own.leaves())]

    contenders: list[Contender] = []
    for precision in get_args(Precision):
        one_pass = TrainStep(b, functools.partial(colors_in_one_pass, precision=precision), native=True)
        contenders += ours("ours", one_pass, device, precision)
    for (name, precision), field in our_fields().items():
        step = TrainStep(b, field_then_integral(field, ops.composite), native=True)
        contenders += ours(ALL_SAMPLES if name == "ours" else name, step, device, precision, best_only=True)
    compiled = {k: field_then_integral(field, composite_reference) for k, field in compiled_fields().items()}
    for name, colors in (("eager", in_torch), ("compile", compiled)):
        variants: dict[str, Run] = {k: TrainStep(b, each, native=False) for k, each in colors.items()}
        contenders.append(Contender(name, variants))
    with torch.no_grad():
        weights = ops.composite(*our_fields()["ours", "float32"](b), b.t_starts, b.t_ends, b.packed_info)[3]
    evaluated = float((weights > 0).sum())
    work = Work(flop=2.0 * MACS * BACKWARD_PASSES * evaluated, gathers=2.0 * GATHERS * evaluated)
    return Workload(
        *(
            "train-step",
            b.n_rays,
            b.n_rays_hit,
            b.n_samples,
            work,
            tuple(x.detach() for x in reference(exact)),
            tuple(contenders),
        ),
        tolerance=KINK_TOLERANCE,
        autocast=under_autocast(lambda: reference(b.with_gradients()), device),
    )


def import_time() -> Workload:
    """A new Python that imports a package and ends; "python" imports nothing."""

    def of(code: str) -> Run:
        def run() -> Sequence[Tensor]:
            subprocess.run([sys.executable, "-c", code], check=True)
            return []

        return run

    programs = {
        "python": "",
        "nerfad": "import nerfad",
        "torch": "import torch",
        "nerfad.ops": "import nerfad.ops",
    }
    contenders = tuple(Contender(name, {"": of(code)}) for name, code in programs.items())
    return Workload("import", 0, 0, 0, Work(), (), contenders)
