"""What a training step of the bench head spends where, and how each stage scales with threads.

    python benchmarks/train_step_stages.py [--threads 1 2] [--isa amx]

The stages of the benchmark's group train-step, timed one by one: medians of a hundred steps.
"""

import argparse
import collections
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from nerfad import _native
from nerfad.bench.batch import colors_in_one_pass, training_batch
from nerfad.bench.ray_groups import TrainStep

STEPS, WARM_UP = 100, 10


def stages(threads: int, isa: str) -> dict[str, float]:
    """Milliseconds of each stage of a step."""
    torch.set_num_threads(threads)
    _native.set_isa(isa)
    precision = "bfloat16" if isa in ("amx", "avx512bf16") else "float32"
    b = training_batch("cpu")
    step = TrainStep(b, functools.partial(colors_in_one_pass, precision=precision), native=True)
    times: dict[str, list[float]] = collections.defaultdict(list)
    for _ in range(WARM_UP + STEPS):
        run_stages(step, times)
    return {name: statistics.median(all_times[WARM_UP:]) for name, all_times in times.items()}


def run_stages(step: TrainStep, times: dict[str, list[float]]) -> None:
    """A step; adds the milliseconds of its stages to `times`."""

    def timed(name: str, stage: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = stage(*inputs, **options)
        times[name].append(1e3 * (time.perf_counter() - start))
        return result

    step.run(timed)


def main() -> None:
    """Print a row for each stage and a column for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--isa", choices=_native.ISAS, default=_native.detected_isa())
    args = parser.parse_args()
    columns = [stages(threads, args.isa) for threads in args.threads]
    print(f"{args.isa}, ms; threads:", *args.threads)
    for name in columns[0]:
        print(f"{name:16}", *(f"{column[name]:7.3f}" for column in columns))
    print(f"{'sum':16}", *(f"{sum(column.values()):7.3f}" for column in columns))


if __name__ == "__main__":
    main()
