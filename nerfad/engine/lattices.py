"""Keeps the baked identity features of a training in step with their encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from nerfad.models.head import Head, identity_of
from nerfad.models.identity_lattice import BakedIdentity


class Lattices:
    """The lattices of heads that share an encoder.

    The fields' gradients gather in the lattices for `every` steps, during which the encoder stands still;
    with the last of them it gets the gradient, moves, and all lattices are baked anew.

    Args:
        heads: those without a lattice are passed over.
        every: steps from one baking to the next.
    """

    def __init__(self, heads: Sequence[Head], every: int) -> None:
        self.heads = [head for head in heads if isinstance(identity_of(head), BakedIdentity)]
        self.every = every
        self.n_steps = 0
        self._inside: list[Callable[[Tensor], Tensor] | None] | None = None

    def before_step(self) -> None:
        """Call once the gradients of a step are there."""
        if self._is_due():
            for lattice in self._all():
                lattice.pull_back()

    def after_step(self) -> None:
        """Call once the optimiser has moved."""
        if self._is_due():
            self.bake()
        self.n_steps += 1

    def bake(self) -> None:
        """Renew what the fields read of all lattices."""
        if self._inside is None:
            self._inside = [read_vertices(head) for head in self.heads]
        for lattice, inside in zip(self._all(), self._inside, strict=True):
            lattice.bake(inside)

    def state(self) -> dict[str, Tensor]:
        """The gradients gathered so far."""
        grads = {f"lattice{k}": lattice.table.grad for k, lattice in enumerate(self._all())}
        return {name: grad.clone() for name, grad in grads.items() if grad is not None}

    def load_state(self, n_steps: int, state: dict[str, Tensor]) -> None:
        """The inverse of `state`, after `n_steps` steps."""
        self.n_steps = n_steps
        for k, lattice in enumerate(self._all()):
            grad = state.get(f"lattice{k}")
            lattice.table.grad = None if grad is None else grad.to(lattice.table.device, copy=True)

    def _is_due(self) -> bool:
        return len(self.heads) > 0 and (self.n_steps + 1) % self.every == 0

    def _all(self) -> list[BakedIdentity]:
        found = [identity_of(head) for head in self.heads]
        return [lattice for lattice in found if isinstance(lattice, BakedIdentity)]


def read_vertices(head: Head) -> Callable[[Tensor], Tensor] | None:
    """Which vertices of the head's identity lattice are ever read, for `BakedIdentity.bake`; None: all."""
    identity = identity_of(head)
    if head.occupancy is None or not isinstance(identity, BakedIdentity):
        return None
    n_cells, read = identity.resolution, head.occupancy.vertices_read(identity.resolution)

    def inside(positions: Tensor) -> Tensor:
        x, y, z = (positions * n_cells).round().long().unbind(1)
        return read[x, y, z]

    return inside
