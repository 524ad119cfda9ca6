"""What competes: a contender runs a piece of work; a workload is the piece, its exact result and its size."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from nerfad import _native

Run = Callable[[], Sequence[Tensor]]
NOT_CACHED = "ours, not cached"  # beside a frame from the cache, the same frame rendered anew
BF16_ISAS = ("avx512bf16", "amx")  # float32 code is the same there as on avx512


@dataclasses.dataclass(frozen=True)
class Contender:
    """One implementation. `variants` compute the same thing: the fastest of them is timed and named.

    `expected` replaces the workload's exact result for a peer whose definition differs (another lattice).
    `one_run` is for what no scaling over threads is asked of: it is timed with the most threads alone.
    """

    name: str
    variants: dict[str, Run]
    isa: str | None = None
    precision: str = "float32"
    expected: tuple[Tensor, ...] | None = None
    capturable: bool = False
    one_run: bool = False

    @property
    def label(self) -> str:
        """The name with the instruction set: "ours [avx2]"."""
        return f"{self.name} [{self.isa}]" if self.isa else self.name

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """The block runs on this contender's instruction set."""
        if self.isa is None:
            yield
            return
        before = _native.isa()
        _native.set_isa(self.isa)
        try:
            yield
        finally:
            _native.set_isa(before)


@dataclasses.dataclass(frozen=True)
class Work:
    """What a call must do at least: the numerators of the shares of the roofs. Zeros are not counted."""

    flop: float = 0.0
    gathers: float = 0.0  # of 8 bytes, at random places of a table's level
    bytes: float = 0.0


@dataclasses.dataclass(frozen=True)
class Workload:
    """A group of the benchmark. The gate compares what `digest` makes of the outputs, off the clock."""

    group: str
    rays: int
    rays_hit: int
    samples: int
    work: Work
    expected: tuple[Tensor, ...]
    contenders: tuple[Contender, ...]
    digest: Callable[[Sequence[Tensor]], Sequence[Tensor]] = list
    tolerance: float = 1e-3
    autocast: Run | None = None  # the reference under torch.autocast: the yardstick for bfloat16

    @functools.cached_property
    def autocast_error(self) -> float:
        """The largest relative error of torch's own bfloat16 on this work."""
        assert self.autocast is not None
        return max(errors(self.autocast(), self.expected))

    def tolerance_of(self, contender: Contender) -> float:
        """Largest relative error allowed: float32's budget, or twice the error of torch's own bfloat16."""
        if contender.precision == "float32":
            return self.tolerance
        if contender.precision == "float16":
            return max(self.tolerance, 1e-2)
        return max(self.tolerance, 2 * self.autocast_error)


def errors(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """Relative error of each output, |output - expected| / |expected| in the Euclidean norm; a wrong shape or
    a number that is not finite is an infinite error."""
    found = []
    if len(outputs) != len(expected):
        return [float("inf")]
    for output, exact in zip(outputs, expected, strict=True):
        part = output.detach()
        if part.shape != exact.shape or not bool(torch.isfinite(part).all()):
            found.append(float("inf"))
            continue
        difference = (part.to(torch.float64) - exact).norm()
        found.append(float(difference / exact.norm().clamp(min=1e-30)))
    return found


def mismatch(workload: Workload, contender: Contender, run: Run) -> str | None:
    """None if one call of `run` gives the exact result up to rounding, else what is wrong."""
    expected = workload.expected if contender.expected is None else contender.expected
    found = errors(workload.digest(run()), expected)
    allowed = workload.tolerance_of(contender)
    worst = max(found, default=0.0)
    if worst <= allowed:
        return None
    return f"output {found.index(worst)} is off by {worst:.1e}, allowed is {allowed:.1e}"


def isas(precision: str = "float32") -> list[str]:
    """The instruction sets of this machine on which code of that precision differs."""
    levels = list(_native.ISAS[: _native.ISAS.index(_native.detected_isa()) + 1])
    plain = [level for level in levels if level not in BF16_ISAS]
    return plain if precision == "float32" else [plain[-1], *(x for x in levels if x in BF16_ISAS)]


def ours(
    name: str,
    run: Run,
    device: str,
    precision: str = "float32",
    capturable: bool = False,
    best_only: bool = False,
) -> list[Contender]:
    """Our own kernels: a contender for each instruction set, or only the best, or one on CUDA.

    Portable code and emulated bfloat16, which nobody chooses for their speed, are timed once."""
    if device != "cpu":
        return [Contender(name, {"": run}, None, precision, capturable=capturable, one_run=best_only)]
    levels = isas(precision)
    return [
        Contender(
            *(name, {"": run}, level, precision),
            capturable=capturable,
            one_run=best_only or level == "portable" or (precision, level) == ("bfloat16", isas()[-1]),
        )
        for level in (levels[-1:] if best_only else levels)
    ]
