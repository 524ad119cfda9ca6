"""Grid encoding and a frame of the bench head, from the table and from its cells.

    pytest benchmarks/ops/bench_expand_cells.py --benchmark-group-by=group

"hash" is the bench head's grid, of which three levels of sixteen have cells; of "tiled" all have.
"""

import dataclasses

import pytest
import torch

from nerfad import ops
from nerfad.bench import scene
from nerfad.bench.batch import march_arguments

N_POSITIONS = 1 << 17


@pytest.fixture(scope="module")
def frame():
    return scene.frame(256)


@pytest.fixture(scope="module")
def positions(frame):
    """Samples of neighbouring rays, one ray after another."""
    rays = march_arguments(frame)
    samples = ops.march(**rays)
    spans = (samples.t_starts, samples.t_ends, samples.packed_info)
    return ops.sample_positions(rays["rays_o"], rays["rays_d"], *spans, rays["aabb"])[
        :N_POSITIONS
    ].contiguous()


def expanded(benchmark, table, grid):
    cells = ops.expand_cells(table, grid, max_bytes=1 << 30)
    benchmark.extra_info.update(
        table_bytes=table.numel() * table.element_size(),
        cells_bytes=cells.numel() * cells.element_size(),
        threads=torch.get_num_threads(),
    )
    return cells


@pytest.mark.parametrize("source", ["table", "cells"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", ["hash", "tiled"])
def test_encode(benchmark, positions, kind, dtype, source):
    benchmark.group = f"encode, {kind}, {dtype}"
    grid = dataclasses.replace(scene.GRID, kind=kind)
    g = torch.Generator().manual_seed(0)
    table = (torch.rand(grid.n_entries, grid.n_features, generator=g) * 2 - 1).to(dtype)
    cells = expanded(benchmark, table, grid)
    given = {"table": None, "cells": cells}[source]
    run = lambda: ops.grid_encode(positions, table, grid, given)  # noqa: E731
    features = benchmark.pedantic(run, rounds=9, warmup_rounds=1)
    assert torch.equal(features, ops.grid_encode(positions, table, grid))


@pytest.mark.parametrize("source", ["table", "cells"])
def test_frame(benchmark, frame, source):
    benchmark.group = "frame-256"
    cells = expanded(benchmark, frame["table"], scene.GRID)
    given = {"table": None, "cells": cells}[source]
    run = lambda: ops.render_rays_fused(**frame, cells=given)[0]  # noqa: E731
    colors = benchmark.pedantic(run, rounds=9, warmup_rounds=1)
    assert torch.equal(colors, ops.render_rays_fused(**frame)[0])
