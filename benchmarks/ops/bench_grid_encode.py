"""Grid encoding on the reference net's grid: every instruction set against four plain-torch variants.

    pytest benchmarks/ops/bench_grid_encode.py

65,536 positions, uniform or along rays. Before it is timed, every contender must match the float64 reference.
`NERFAD_BENCH_THREADS` sets the number of threads (default: torch's).
"""

import os

import pytest
import torch

from nerfad import _native
from nerfad.ops import GridSpec, grid_encode, use_backend
from nerfad.ops.reference import grid_encode as reference

N_POSITIONS = 65536
N_PER_RAY = 16
ISAS = ["avx512", "avx2", "portable"]
TORCH = [f"torch-{lookup}-{shape}" for lookup in ("index", "embedding") for shape in ("levels", "batched")]
CONTENDERS = [*ISAS, *TORCH]


@pytest.fixture(scope="module", autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("NERFAD_BENCH_THREADS", before)))
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[16, 19], ids=["T16", "T19"])
def spec(request):
    return GridSpec(log2_table_size=request.param)


@pytest.fixture(params=["uniform", "rays"])
def positions(request):
    g = torch.Generator().manual_seed(0)
    if request.param == "uniform":
        return torch.rand(N_POSITIONS, 3, generator=g)
    n_rays = N_POSITIONS // N_PER_RAY
    start = torch.rand(n_rays, 1, 3, generator=g)
    direction = torch.nn.functional.normalize(torch.randn(n_rays, 1, 3, generator=g), dim=-1)
    points = start + direction * (torch.arange(N_PER_RAY)[None, :, None] * 3**0.5 / 1024)
    return points.reshape(-1, 3).clamp(0, 1).contiguous()


@pytest.fixture(params=CONTENDERS)
def encode(request):
    """A function like `grid_encode`, on the contender's implementation."""
    name = request.param
    if name.startswith("torch-"):
        _, lookup, shape = name.split("-")
        yield lambda x, t, s: reference.grid_encode(x, t, s, lookup, shape == "batched")
        return
    if _native.ISAS.index(name) > _native.ISAS.index(_native.detected_isa()):
        pytest.skip(f"this CPU has no {name}")
    before = _native.isa()
    _native.set_isa(name)
    with use_backend("native"):
        yield grid_encode
    _native.set_isa(before)


def make_table(spec, requires_grad=False):
    table = torch.rand(spec.n_entries, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    return table.requires_grad_(requires_grad)


def rounds(benchmark, fn):
    """Few rounds: the slowest contenders take seconds. The figure to read is the median."""
    benchmark.pedantic(fn, rounds=5, warmup_rounds=1, iterations=1)
    benchmark.extra_info["samples_per_second"] = N_POSITIONS / benchmark.stats.stats.median
    benchmark.extra_info["threads"] = torch.get_num_threads()


@pytest.mark.benchmark(group="encode-fwd")
def test_encode_fwd(benchmark, encode, positions, spec):
    table = make_table(spec)
    some = positions[:2000]
    expected = reference.grid_encode(some.double(), table.double(), spec)
    torch.testing.assert_close(encode(some, table, spec).double(), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        rounds(benchmark, lambda: encode(positions, table, spec))


@pytest.mark.benchmark(group="encode-fwdbwd")
def test_encode_fwdbwd(benchmark, encode, positions, spec):
    table = make_table(spec, requires_grad=True)
    grad = torch.randn(N_POSITIONS, spec.n_outputs, generator=torch.Generator().manual_seed(2))

    def step():
        table.grad = None
        encode(positions, table, spec).backward(grad)

    step()
    exact = make_table(spec).double().requires_grad_()
    grid_encode(positions.double(), exact, spec).backward(grad.double())
    torch.testing.assert_close(table.grad.double(), exact.grad, rtol=1e-3, atol=1e-2)
    rounds(benchmark, step)


@pytest.mark.benchmark(group="encode-bwd")
def test_encode_bwd_native(benchmark, encode, positions, spec, request):
    """The backward kernels alone; torch's autograd has no such separate step to compare with."""
    if "torch-" in request.node.name:
        pytest.skip("see encode-fwdbwd")
    table = make_table(spec, requires_grad=True)
    features = encode(positions, table, spec)
    grad = torch.randn(features.shape, generator=torch.Generator().manual_seed(2))
    rounds(benchmark, lambda: torch.autograd.grad(features, table, grad, retain_graph=True))
