"""occupancy_update, pack_bitfield: against the reference, opcheck, rejections, edges and properties."""

import pytest
import torch

from nerfad import _native
from nerfad.ops import occupancy_update, pack_bitfield
from nerfad.ops.reference import occupancy as reference


def make_inputs(n_cells=4096, n_indices=3000, n_cond=3, device="cpu", seed=0):
    g = torch.Generator().manual_seed(seed)
    grid = torch.rand(n_cells, generator=g) * 4
    grid[torch.rand(n_cells, generator=g) < 0.1] = -1.0
    inputs = dict(
        density_grid=grid,
        indices=torch.randint(0, max(n_cells, 1), (n_indices,), generator=g, dtype=torch.int32),
        densities=torch.rand(n_cond, n_indices, generator=g) * 5,
        decay=0.95,
    )
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}


def updated(fn, inputs):
    grid = inputs["density_grid"].clone()
    fn(**{**inputs, "density_grid": grid})
    return grid


@pytest.mark.parametrize("n_cond", [1, 3])
def test_matches_reference(kernel_device, n_cond):
    inputs = make_inputs(n_cond=n_cond, device=kernel_device)
    assert len(inputs["indices"].unique()) < 3000  # some cells are looked at more than once
    assert torch.equal(updated(occupancy_update, inputs), updated(reference.occupancy_update, inputs))


@pytest.mark.parametrize(("n_cells", "n_indices"), [(8, 3), (8 * 125, 701), (8 * 20000, 30000)])
def test_every_instruction_set_gives_the_same_bits(every_isa, n_cells, n_indices):
    inputs = make_inputs(n_cells, n_indices)
    inputs["density_grid"][::7] = float("nan")
    inputs["density_grid"][5::11] = -0.0
    inputs["densities"][:, ::5] = float("nan")
    results = []
    for isa in every_isa:
        _native.set_isa(isa)
        grid = updated(occupancy_update, inputs)
        results.append((grid.view(torch.int32), pack_bitfield(grid, 1.0)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


def test_takes_the_maximum_over_conditions(kernel_device):
    inputs = make_inputs(device=kernel_device)
    together = updated(occupancy_update, inputs)
    alone = [updated(occupancy_update, {**inputs, "densities": d[None]}) for d in inputs["densities"]]
    assert torch.equal(together, torch.stack(alone).amax(0))


def test_cells_out_of_use_stay_so(kernel_device):
    inputs = make_inputs(device=kernel_device)
    assert torch.equal(updated(occupancy_update, inputs) < 0, inputs["density_grid"] < 0)


def test_nan_counts_as_nothing(kernel_device):
    inputs = make_inputs(device=kernel_device)
    inputs["densities"][:] = float("nan")
    expected = torch.where(inputs["density_grid"] < 0, inputs["density_grid"], inputs["density_grid"] * 0.95)
    assert torch.equal(updated(occupancy_update, inputs), expected)


@pytest.mark.parametrize(("n_cells", "n_indices", "n_cond"), [(0, 0, 2), (64, 0, 2), (64, 5, 0)])
def test_nothing_to_see_only_decays(kernel_device, n_cells, n_indices, n_cond):
    inputs = make_inputs(n_cells, n_indices, n_cond, device=kernel_device)
    grid = inputs["density_grid"]
    assert torch.equal(updated(occupancy_update, inputs), torch.where(grid < 0, grid, grid * 0.95))


def test_an_index_outside_of_the_grid_is_reported():
    inputs = make_inputs()
    inputs["indices"][5] = 4096
    with pytest.raises(RuntimeError, match=r"occupancy_update: indices must lie in \[0, 4096\), got 4096"):
        occupancy_update(**inputs)


@pytest.mark.parametrize("n_cells", [0, 8, 4096, 8 * 129])
def test_bitfield_matches_reference(kernel_device, n_cells):
    grid = make_inputs(n_cells, 0, device=kernel_device)["density_grid"]
    bitfield = pack_bitfield(grid, 2.0)
    assert torch.equal(bitfield, reference.pack_bitfield(grid, 2.0))
    bits = bitfield[:, None] >> torch.arange(8, dtype=torch.uint8, device=kernel_device) & 1
    assert torch.equal(bits.reshape(-1).bool(), grid > 2.0)


def test_opcheck():
    inputs = make_inputs(64, 10)
    torch.library.opcheck(_native.ops().occupancy_update.default, tuple(inputs.values()))
    torch.library.opcheck(_native.ops().pack_bitfield.default, (inputs["density_grid"], 1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(densities=torch.zeros(3, 2999)), r"densities must have shape \[\*, 3000\], got \[3, 2999\]"),
        (dict(indices=torch.zeros(3000, dtype=torch.int64)), "indices must be int32, got int64"),
        (
            dict(density_grid=torch.zeros(64, dtype=torch.float64)),
            "density_grid must be float32, got float64",
        ),
        (dict(density_grid=torch.zeros(128)[::2]), "density_grid must be contiguous"),
        (dict(decay=1.5), "decay must be between 0 and 1, got 1.5"),
        (dict(decay=float("nan")), "decay must be between 0 and 1, got nan"),
    ],
)
def test_update_rejects(change, message):
    with pytest.raises(RuntimeError, match=f"occupancy_update: {message}"):
        occupancy_update(**{**make_inputs(), **change})


def test_bitfield_rejects():
    with pytest.raises(
        RuntimeError, match="pack_bitfield: density_grid must have a multiple of 8 cells, got 12"
    ):
        pack_bitfield(torch.zeros(12), 1.0)
    with pytest.raises(RuntimeError, match="pack_bitfield: density_grid must be float32, got float64"):
        pack_bitfield(torch.zeros(8, dtype=torch.float64), 1.0)
