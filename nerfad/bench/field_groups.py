"""The groups on a batch of samples: grid encoding, networks, both together, each forward and backward."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import get_args

import torch
from torch import Tensor

from nerfad import ops
from nerfad.bench import peers
from nerfad.bench.batch import (
    LOOKUPS,
    VIEW_NET,
    Batch,
    Field,
    field_in_torch,
    networks,
    networks_in_torch,
    our_fields,
    torch_fields,
)
from nerfad.bench.contender import Contender, Run, Work, Workload, ours
from nerfad.bench.scene import GRID, SIGMA
from nerfad.ops.conditioned_mlp import Precision
from nerfad.ops.reference.grid_encode import grid_encode as encode_reference

# Multiply-adds a sample, with the condition and the direction folded into biases.
MACS = sum(o * i for o, i in SIGMA.layer_shapes + VIEW_NET.layer_shapes) - 64 * SIGMA.d_cond - 64 * 16
GATHERS = GRID.n_levels * 2**GRID.n_dims
BACKWARD_PASSES = 3  # products of forward, of the inputs' gradients, of the weights' gradients
# Backward through ReLU: where float32 rounds a hidden unit to the other side of zero, its gradient comes or
# goes, so that every float32 implementation is off by the root of that share of the units.
KINK_TOLERANCE = 1e-2


def without_gradient(fn: Callable[[], Sequence[Tensor]]) -> Run:
    def run() -> Sequence[Tensor]:
        with torch.no_grad():
            return fn()

    return run


def in_grad_modes(name: str, plain: Run, tracked: Run) -> dict[str, Run]:
    """The call without autograd, and on inputs that require gradients: either may be the faster one, since
    torch.compile makes another kernel for it."""
    return {f"{name}no_grad": without_gradient(plain), f"{name}grad": tracked}


def gradient_seeds(outputs: Sequence[Tensor]) -> list[Tensor]:
    """What flows back into each output: the same numbers for every contender, of the outputs' own scale."""
    g = torch.Generator().manual_seed(1)
    seeds = []
    for output in outputs:
        noise = torch.randn(output.shape, generator=g)
        seeds.append((noise / output.detach().cpu().float().norm()).to(output.device, output.dtype))
    return seeds


def backward(
    outputs: Sequence[Tensor], leaves: Sequence[Tensor], seeds: Sequence[Tensor]
) -> Sequence[Tensor]:
    return torch.autograd.grad(
        list(outputs), list(leaves), [s.to(o.dtype) for s, o in zip(seeds, outputs, strict=True)]
    )


def under_autocast(run: Run, device: str) -> Run:
    def cast() -> Sequence[Tensor]:
        with torch.autocast(device, dtype=torch.bfloat16):
            return run()

    return cast


@functools.cache
def compiled_field(batched: bool) -> Callable:
    """The plain-torch field under torch.compile. One object, so that all groups share its compilations."""

    def field(
        positions: Tensor, ray_indices: Tensor, views: Tensor, leaves: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        none = positions[:0, 0]
        table, sigma_params, color_params, cond = leaves
        samples = (positions, ray_indices, none, none, none)
        return field_in_torch(
            Batch(*samples, views, table, sigma_params, color_params, cond, {}), batched=batched
        )

    return torch.compile(field, dynamic=False)


def field_compiled(b: Batch, batched: bool) -> tuple[Tensor, Tensor]:
    return compiled_field(batched)(b.positions, b.ray_indices, b.views, tuple(b.leaves()))


def compiled_fields() -> dict[str, Field]:
    names = {"level by level": False, "all levels at once": True}
    return {name: functools.partial(field_compiled, batched=b) for name, b in names.items()}


def _workload(
    group: str, b: Batch, work: Work, expected: Sequence[Tensor], contenders: list[Contender], **more
) -> Workload:  # type: ignore[no-untyped-def]
    exact = tuple(t.detach() for t in expected)
    return Workload(group, b.n_rays, b.n_rays_hit, b.n_samples, work, exact, tuple(contenders), **more)


def encode_forward(b: Batch, device: str) -> Workload:
    exact = b.cast(torch.float64)
    expected = [encode_reference(exact.positions, exact.table, GRID)]
    contenders = ours(
        "ours",
        without_gradient(lambda: [ops.grid_encode(b.positions, b.table, GRID)]),
        device,
        capturable=True,
    )
    variants: dict[str, Run] = {}
    for lookup, batched in LOOKUPS:
        name = f"{lookup}, {'all levels at once' if batched else 'level by level'}"
        call = functools.partial(encode_reference, b.positions, b.table, GRID, lookup, batched)
        variants[name] = without_gradient(lambda call=call: [call()])  # type: ignore[misc]
    contenders.append(Contender("eager", variants, one_run=True))
    contenders += peers.encoders(b, device, backward=False)
    return _workload("encode-fwd", b, Work(gathers=GATHERS * b.n_samples), expected, contenders)


def encode_backward(b: Batch, device: str) -> Workload:
    """The gradient of the table alone; the graph is kept, so that the forward pass is not timed again."""
    exact = b.cast(torch.float64).with_gradients()
    features = encode_reference(exact.positions, exact.table, GRID)
    seeds = gradient_seeds([features])
    expected = backward([features], [exact.table], seeds)
    seed = seeds[0].float()
    leaf = b.with_gradients().table

    def of(encoded: Tensor) -> Run:
        return lambda: torch.autograd.grad(encoded, leaf, seed, retain_graph=True)

    contenders = ours("ours", of(ops.grid_encode(b.positions, leaf, GRID)), device)
    variants = {
        f"{lookup}, {'all levels at once' if batched else 'level by level'}": of(
            encode_reference(b.positions, leaf, GRID, lookup, batched)
        )
        for lookup, batched in LOOKUPS
    }
    contenders.append(Contender("eager", variants, one_run=True))
    contenders += peers.encoders(b, device, backward=True)
    return _workload("encode-bwd", b, Work(gathers=GATHERS * b.n_samples), expected, contenders)


def mlp(b: Batch, device: str, with_backward: bool) -> Workload:
    """Both networks on the features of the batch."""
    exact = b.cast(torch.float64).with_gradients()
    features = ops.grid_encode(b.positions, b.table, GRID).detach()
    own = b.with_gradients()
    x, x_exact = features.clone().requires_grad_(), features.double().requires_grad_()
    outputs = networks_in_torch(exact, x_exact)
    seeds = gradient_seeds(outputs)

    def once(fn: Callable[[Batch, Tensor], Sequence[Tensor]]) -> dict[str, Run]:
        if not with_backward:
            return in_grad_modes("", lambda: fn(b, features), lambda: fn(own, x))
        return {"": lambda: backward(fn(own, x), [x, *own.leaves()[1:]], seeds)}

    expected = backward(outputs, [x_exact, *exact.leaves()[1:]], seeds) if with_backward else outputs
    contenders: list[Contender] = []
    for precision in get_args(Precision):
        run = next(iter(once(functools.partial(networks, precision=precision)).values()))
        contenders += ours("ours", run, device, precision, capturable=not with_backward)
    contenders.append(Contender("eager", once(networks_in_torch)))
    contenders.append(Contender("compile", once(_compiled_networks)))
    contenders += peers.networks(b, features, device, with_backward)
    work = Work(flop=2.0 * MACS * b.n_samples * (BACKWARD_PASSES if with_backward else 1))
    autocast = under_autocast(next(iter(once(networks_in_torch).values())), device)
    group = "mlp-fwdbwd" if with_backward else "mlp-fwd"
    return _workload(group, b, work, expected, contenders, autocast=autocast)


@functools.cache
def _compiled_network_function() -> Callable:
    return torch.compile(networks_in_torch, dynamic=False)


def _compiled_networks(b: Batch, features: Tensor) -> Sequence[Tensor]:
    return _compiled_network_function()(b, features)


def field(b: Batch, device: str, with_backward: bool) -> Workload:
    """Densities and colours of the batch's samples."""
    own, exact = b.with_gradients(), b.cast(torch.float64).with_gradients()
    outputs = field_in_torch(exact)
    seeds = gradient_seeds(outputs)

    def once(name: str, fn: Field) -> dict[str, Run]:
        if not with_backward:
            return in_grad_modes(f"{name}, " if name else "", lambda: fn(b), lambda: fn(own))
        return {name: lambda: backward(fn(own), own.leaves(), seeds)}

    expected = backward(outputs, exact.leaves(), seeds) if with_backward else outputs
    contenders: list[Contender] = []
    for (name, precision), fn in our_fields().items():
        run = next(iter(once("", fn).values()))
        once_only = name != "ours"
        contenders += ours(name, run, device, precision, not with_backward, best_only=once_only)
    for name, fields in (("eager", torch_fields()), ("compile", compiled_fields())):
        variants = {k: run for variant, fn in fields.items() for k, run in once(variant, fn).items()}
        contenders.append(Contender(name, variants))
    contenders += peers.fields(b, device, with_backward)
    passes = BACKWARD_PASSES if with_backward else 1
    work = Work(flop=2.0 * MACS * b.n_samples * passes, gathers=float(GATHERS * b.n_samples * min(passes, 2)))
    autocast = under_autocast(next(iter(once("", field_in_torch).values())), device)
    group, tolerance = ("field-fwdbwd", KINK_TOLERANCE) if with_backward else ("field-fwd", 1e-3)
    return _workload(group, b, work, expected, contenders, autocast=autocast, tolerance=tolerance)
