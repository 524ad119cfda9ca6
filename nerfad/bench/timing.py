"""Clocks: interleaved rounds, wall and CPU time, threads that stay on their own cores, CUDA graphs."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from nerfad import _native
from nerfad.bench.contender import Contender, Run, Workload, mismatch

BUSY = 0.9  # of the threads' time: less CPU time than that, and somebody or something held them up
WAITED = 0.02  # of the threads' time spent ready to run, but waiting for a core
FEWEST_ROUNDS = 3  # of a contender, however slow: less has no median


@dataclasses.dataclass(frozen=True)
class Settings:
    """How long to measure."""

    rounds: int = 5
    warm_up_s: float = 0.2
    round_s: float = 0.03  # a round repeats its call until it lasts that long
    slow_s: float = 4.0  # what takes longer in all gets fewer rounds, but FEWEST_ROUNDS
    repeat_s: float = 5.0  # of a race, for repeating what was disturbed


QUICK = Settings(rounds=2, warm_up_s=0.0, round_s=0.0, repeat_s=0.0)


@dataclasses.dataclass
class Row:
    """The result of one contender in one group with one number of threads."""

    group: str
    contender: str
    isa: str | None
    precision: str
    threads: int
    status: str = "ok"  # or "mismatch", "failed"
    reason: str = ""
    variant: str = ""
    iterations: int = 0
    wall_s: list[float] = dataclasses.field(default_factory=list)
    cpu_s: list[float] = dataclasses.field(default_factory=list)
    waited_s: list[float | None] = dataclasses.field(default_factory=list)
    kernel_s: list[float] = dataclasses.field(default_factory=list)  # CUDA: graph replay between events
    dropped_rounds: int = 0  # disturbed, and measured again

    @property
    def busy(self) -> float:
        """The least share of the threads' time that was CPU time, over the rounds."""
        return min(c / (w * self.threads) for w, c in zip(self.wall_s, self.cpu_s, strict=True))

    @property
    def contended(self) -> bool:
        """Whether other work held the threads up in a round, so that ratios must not be trusted.

        CPU time well below wall time x threads has two causes: threads that wait for a core, or code that
        does not use all threads. Where the system tells how long threads waited, only the former counts.
        """
        return self.disturbed_round() is not None

    def disturbed_round(self) -> int | None:
        """The first round that other work disturbed."""
        for number, (wall, cpu, waited) in enumerate(
            zip(self.wall_s, self.cpu_s, self.waited_s, strict=True)
        ):
            full = wall * self.threads
            if cpu < BUSY * full and (waited is None or waited > WAITED * full):
                return number
        return None

    def drop(self, number: int) -> None:
        """Forgets a round."""
        for times in (self.wall_s, self.cpu_s, self.waited_s, self.kernel_s):
            if times:
                del times[number]  # type: ignore[attr-defined]
        self.dropped_rounds += 1

    def figures(self, workload: Workload) -> dict:
        """Everything the JSON holds."""
        record = dataclasses.asdict(self)
        if self.status != "ok":
            return record
        median = statistics.median(self.wall_s)
        quartiles = statistics.quantiles(self.wall_s, n=4) if len(self.wall_s) > 1 else [median] * 3
        return record | {
            "median_s": median,
            "iqr_s": quartiles[2] - quartiles[0],
            "min_s": min(self.wall_s),
            "cpu_median_s": statistics.median(self.cpu_s),
            "busy": self.busy,
            "contended": self.contended,
            "rays_per_s": workload.rays / median,
            "hit_rays_per_s": workload.rays_hit / median,
            "samples_per_s": workload.samples / median,
            **({"kernel_median_s": statistics.median(self.kernel_s)} if self.kernel_s else {}),
        }


def threads_wait_s() -> float | None:
    """Seconds that this process's threads have waited for a core so far, None where the system hides it."""
    try:
        texts = [p.read_text() for p in Path("/proc/self/task").glob("*/schedstat")]
    except OSError:  # no such system, or a thread ended meanwhile
        return None
    return sum(int(text.split()[1]) for text in texts) * 1e-9 if texts else None


def pool_is_pinned(threads: int) -> bool:
    """Whether the threads of torch's pool run on different cores, each where it ran before."""
    seen = []
    for _ in range(3):
        cpus = torch.zeros(threads, dtype=torch.int64)
        _native.ops()._pool_cpus(cpus)
        seen.append(cpus.tolist())
    return len(set(seen[0])) == threads and seen[0] == seen[1] == seen[2]


def cpu_clock() -> float:
    """CPU seconds of this process and of the ended processes that it started."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(run: Run, device: str) -> float:
    start = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - start


@dataclasses.dataclass
class _Entry:
    row: Row
    contender: Contender
    run: Run
    replay: Callable[[], None] | None = None


def measure(
    workload: Workload, threads: int, device: str = "cpu", settings: Settings = Settings()
) -> list[Row]:
    """Gate, warm-up, then rounds A B C A B C over all contenders; contenders that fail the gate are reported,
    not timed."""
    entries = [_prepared(workload, c, threads, device, settings) for c in workload.contenders]
    racing = [e for e in entries if e.row.status == "ok"]
    gc.collect()
    gc.disable()
    try:
        for number in range(settings.rounds):
            for entry in racing:
                if number < FEWEST_ROUNDS or sum(entry.row.wall_s) * entry.row.iterations < settings.slow_s:
                    _round(entry, device)
        _repeat_disturbed(racing, device, settings.repeat_s)
    finally:
        gc.enable()
    return [entry.row for entry in entries]


def _repeat_disturbed(racing: list[_Entry], device: str, seconds: float) -> None:
    """Measures rounds that other work disturbed again, in turn, until the time is up."""
    end = time.perf_counter() + seconds
    held_up = racing
    while held_up and time.perf_counter() < end:
        held_up = [entry for entry in held_up if entry.row.contended]
        for entry in held_up:
            number = entry.row.disturbed_round()
            if number is not None:
                entry.row.drop(number)
                _round(entry, device)


def _prepared(
    workload: Workload, contender: Contender, threads: int, device: str, settings: Settings
) -> _Entry:
    """A contender after gate and warm-up: its fastest variant, and how often a round repeats the call."""
    row = Row(workload.group, contender.name, contender.isa, contender.precision, threads)
    best: tuple[float, str, Run] | None = None
    with contender.active():
        for variant, run in contender.variants.items():
            try:
                wrong = mismatch(workload, contender, run)
                seconds = seconds_of(run, device)
                if best is None or seconds < 2 * best[0]:
                    seconds = min(seconds, seconds_of(run, device))
            except Exception as error:  # a peer or a compiler may fail in any way; the others go on
                row.reason = (
                    row.reason or f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
                )
                continue
            if wrong:
                row.status, row.reason = "mismatch", wrong
                return _Entry(row, contender, run)
            if best is None or seconds < best[0]:
                best = seconds, variant, run
        if best is None:
            row.status = "failed"
            return _Entry(row, contender, next(iter(contender.variants.values())))
        seconds, row.variant, run = best
        row.reason = ""
        spent = 0.0
        while spent < settings.warm_up_s:
            seconds = seconds_of(run, device)
            spent += seconds
        row.iterations = max(1, round(settings.round_s / max(seconds, 1e-7)))
        replay = _captured(run) if device == "cuda" and contender.capturable else None
    return _Entry(row, contender, run, replay)


def _round(entry: _Entry, device: str) -> None:
    row, run = entry.row, entry.run
    with entry.contender.active():
        if row.iterations > 1:
            run()  # not timed: it finds the caches and the allocator as the contender before left them
        waited, cpu, wall = threads_wait_s(), cpu_clock(), time.perf_counter()
        for _ in range(row.iterations):
            run()
        synchronise(device)
        wall, cpu = time.perf_counter() - wall, cpu_clock() - cpu
        waited_after = threads_wait_s()
    row.wall_s.append(wall / row.iterations)
    row.cpu_s.append(cpu / row.iterations)
    known = waited is not None and waited_after is not None
    row.waited_s.append((waited_after - waited) / row.iterations if known else None)  # type: ignore[operator]
    if device == "cuda":
        row.kernel_s.append(_device_seconds(entry.replay or run, row.iterations))


def _captured(run: Run) -> Callable[[], None] | None:
    """The call as a CUDA graph, None if it cannot be captured."""
    graph = torch.cuda.CUDAGraph()
    with contextlib.suppress(RuntimeError):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            run()
        return graph.replay
    return None


def _device_seconds(run: Callable[[], object], iterations: int) -> float:
    """Seconds of a call on the device, between CUDA events."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(iterations):
        run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) * 1e-3 / iterations
