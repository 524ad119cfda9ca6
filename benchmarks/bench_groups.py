"""Our fastest kernel in every group of `python -m nerfad.bench` under pytest-benchmark.

    pytest benchmarks/bench_groups.py -k "field-fwd and ours" --benchmark-group-by=group

A contender that misses the float64 reference fails its test instead of being timed.
"""

import functools

import pytest
import torch

from nerfad.bench.contender import Workload, mismatch
from nerfad.bench.groups import NAMES, Bench

BENCH = Bench("cuda" if torch.cuda.is_available() else "cpu")


@functools.lru_cache(maxsize=1)  # one at a time: each may hold gigabytes
def workload(group: str) -> Workload:
    return BENCH.workload(group)


@pytest.mark.parametrize("group", NAMES)
def test_group(benchmark, group):
    """The fastest of our contenders; the command line has the others."""
    made = workload(group)
    ours = [c for c in made.contenders if c.name in ("ours", "nerfad.ops") and c.precision == "float32"]
    contender = ours[-1]
    run = next(iter(contender.variants.values()))
    benchmark.group = group
    with contender.active():
        assert mismatch(made, contender, run) is None
        benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    median = benchmark.stats.stats.median
    benchmark.extra_info.update(
        contender=contender.label,
        rays_per_s=made.rays / median,
        hit_rays_per_s=made.rays_hit / median,
        samples_per_s=made.samples / median,
        threads=torch.get_num_threads(),
    )
