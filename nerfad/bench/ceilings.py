"""The roofs: what this machine does at best, measured in the process that the figures come from."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from nerfad import _native
from nerfad.bench.contender import BF16_ISAS, Contender, Work

LEVEL = "gather 0.5 MB"  # a level of the bench head's table has 2^16 entries of 8 bytes
GATHER_MB = (0.5, 2, 16, 64)
READ_MB = 64  # per thread, more than any cache
UNITS = {"fma": ("GFLOP/s", 1e9), "dot": ("GFLOP/s", 1e9), "gemm": ("GFLOP/s", 1e9), "read": ("GB/s", 1e9)}
UNITS |= {"copy": ("GB/s", 1e9), "gather": ("M/s", 1e6), "atomics": ("M/s", 1e6)}
Ceilings = dict[str, float]  # "fma avx2": FLOP/s; "read": bytes/s; "gather 2 MB": gathers/s


def measure(device: str, threads: int, quick: bool = False) -> Ceilings:
    """All roofs, each the best of several attempts."""
    return _of_cpu(threads, quick) if device == "cpu" else _of_cuda(quick)


def _best_rate(run: Callable[[int], float], seconds: float, attempts: int) -> float:
    """Work per second of run(iterations), with as many iterations as the time takes."""
    iterations, best = 1, 0.0
    while True:
        start = time.perf_counter()
        run(iterations)
        spent = time.perf_counter() - start
        if spent > seconds / 4:
            break
        iterations *= 4
    for _ in range(attempts):
        start = time.perf_counter()
        work = run(iterations)
        best = max(best, work / (time.perf_counter() - start))
    return best


def _of_cpu(threads: int, quick: bool) -> Ceilings:
    seconds, attempts = (0.002, 3) if quick else (0.05, 5)
    ops, found = _native.ops(), Ceilings()

    def attempt(key: str, loop: str, megabytes: float) -> None:
        buffers = torch.rand(threads, int(megabytes * 2**18))
        rate = _best_rate(lambda n: ops._run_ceiling(loop, buffers, n), seconds, attempts)
        found[key] = max(found.get(key, 0.0), rate)

    for loop in ops._ceiling_names().split(","):
        kind = loop.split()[0]
        if kind == "read":
            attempt("read", loop, READ_MB)
        elif kind == "gather":
            for size in GATHER_MB:
                attempt(f"gather {size:g} MB", loop, size)
        else:
            attempt(loop, loop, 2**-8)
    return found


def _of_cuda(quick: bool) -> Ceilings:
    n = 2**20 if quick else 2**28
    source = torch.rand(n, device="cuda")
    target = torch.empty_like(source)
    side = 1024 if quick else 8192
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    found = {
        "copy": 8.0 * n / _device_time(lambda: target.copy_(source)),
        "gemm bfloat16": 2.0 * side**3 / _device_time(lambda: a @ b),
    }
    places = torch.randint(0, 2**31, (2**20 if quick else 2**24,), device="cuda")
    for size in GATHER_MB:
        table = torch.rand(int(size * 2**17), 2, device="cuda")
        rows = places % len(table)
        found[f"gather {size:g} MB"] = len(rows) / _device_time(lambda t=table, r=rows: t[r])  # type: ignore[misc]
        ones = torch.ones(len(rows), 2, device="cuda")
        seconds = _device_time(lambda t=table, r=rows, o=ones: t.index_add_(0, r, o))  # type: ignore[misc]
        found[f"atomics {size:g} MB"] = len(rows) / seconds
    return found


def _device_time(run: Callable[[], object], attempts: int = 10) -> float:
    """Seconds of the fastest of several calls, between CUDA events."""
    run()
    best = float("inf")
    for _ in range(attempts):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        best = min(best, start.elapsed_time(end) * 1e-3)
    return best


def roof(work: Work, contender: Contender, ceilings: Ceilings) -> tuple[str, float] | None:
    """(name, seconds) of the roof that limits the work: the least time that this machine could take for it.

    Arithmetic is held against the multiply-add peak of the contender's own instruction set (bfloat16 against
    the best dot product), plain torch against that of the best one.
    """
    times = {}
    peak = _peak(contender, ceilings)
    if work.flop and peak:
        times[peak] = work.flop / ceilings[peak]
    if work.gathers and LEVEL in ceilings:
        times[LEVEL] = work.gathers / ceilings[LEVEL]
    stream = "read" if "read" in ceilings else "copy"
    if work.bytes and stream in ceilings:
        times[stream] = work.bytes / ceilings[stream]
    if not times:
        return None
    name = max(times, key=lambda key: times[key])
    return name, times[name]


def _peak(contender: Contender, ceilings: Ceilings) -> str | None:
    if "gemm bfloat16" in ceilings:
        return "gemm bfloat16"
    dots = [f"dot {isa}" for isa in BF16_ISAS if f"dot {isa}" in ceilings and isa == contender.isa]
    if contender.precision == "bfloat16" and dots:
        return dots[-1]
    fma = [key for key in ceilings if key.startswith("fma")]
    own = f"fma {contender.isa}"
    return own if own in ceilings else (fma[-1] if fma else None)
