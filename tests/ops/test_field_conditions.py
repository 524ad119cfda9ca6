"""field_conditions: equals one condition at a time, gradients, rejections, edges, one encoding."""

import dataclasses
import importlib

import pytest
import torch
from torch.autograd import gradcheck

from nerfad.ops import GridSpec, MLPSpec, field_conditions, use_backend

GRID = GridSpec(n_levels=4, base_resolution=4, finest_resolution=32, log2_table_size=10)
SPEC = MLPSpec(8, 5, 32, 2, 6)


def make_inputs(n=90, k=3, dtype=torch.float32, device="cpu", grid=GRID, spec=SPEC):
    g = torch.Generator().manual_seed(0)
    inputs = dict(
        positions=torch.rand(n, 3, generator=g, dtype=dtype),
        table=torch.rand(grid.n_entries, grid.n_features, generator=g, dtype=dtype) * 2 - 1,
        params=spec.init(g).to(dtype),
        cond=torch.randn(k, spec.d_cond, generator=g, dtype=dtype),
    )
    return dict(grid_spec=grid, spec=spec, **{name: t.to(device) for name, t in inputs.items()})


@pytest.mark.parametrize(("n", "k"), [(90, 3), (0, 2), (1, 1), (33, 7)])
def test_equals_the_reference_under_each_condition(kernel_device, n, k, request):
    inputs = make_inputs(n, k, device=kernel_device)
    got = field_conditions(**inputs)
    assert got.shape == (k, n, 6)
    with use_backend("reference"):
        alone = [field_conditions(**{**inputs, "cond": inputs["cond"][i : i + 1]})[0] for i in range(k)]
    atol = 2e-5 if request.node.callspec.params["kernel_device"] == "native" else 6e-3
    torch.testing.assert_close(got, torch.stack(alone), rtol=1e-4, atol=atol)


def test_gradcheck():
    grid = GridSpec(n_levels=1, n_features=1, base_resolution=2, finest_resolution=2)
    spec = MLPSpec(1, 2, 16, 1, 1)
    i = make_inputs(3, 2, torch.float64, grid=grid, spec=spec)
    leaves = [i[name].requires_grad_() for name in ("table", "params", "cond")]
    assert gradcheck(lambda t, p, c: field_conditions(i["positions"], t, grid, p, spec, c), leaves)


def test_encodes_once(monkeypatch):
    module = importlib.import_module("nerfad.ops.field_conditions")

    calls, encode = [], module.grid_encode
    monkeypatch.setattr(module, "grid_encode", lambda *a: (calls.append(1), encode(*a))[1])
    field_conditions(**make_inputs(k=4))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(cond=torch.zeros(0, 5)), r"field_conditions: cond must have shape \[k >= 1, 5\], got \[0, 5\]"),
        (dict(cond=torch.zeros(5)), r"cond must have shape \[k >= 1, 5\], got \[5\]"),
        (dict(cond=torch.zeros(2, 4)), r"cond must have shape \[\*, 5\], got \[1, 4\]"),
        (dict(positions=torch.zeros(3)), "positions must have shape"),
        (dict(spec=dataclasses.replace(SPEC, d_in=9)), r"spec.d_in \(the grid's outputs\) must be 8, got 9"),
    ],
)
def test_rejects(change, message):
    with pytest.raises(RuntimeError, match=message):
        field_conditions(**{**make_inputs(), **change})
