"""Grid encoding and conditioned MLP as modules."""

import torch

from nerfad.nn import ConditionedMLP, GridEncoding
from nerfad.ops import GridSpec, MLPSpec, expand_cells


def test_grid_encoding_learns_a_picture():
    torch.manual_seed(0)
    encoding = GridEncoding(
        GridSpec(n_dims=2, n_levels=4, n_features=2, base_resolution=4, finest_resolution=32)
    )
    optimiser = torch.optim.Adam(encoding.parameters(), 1e-2)
    points = torch.rand(512, 2)
    target = torch.sin(20 * points[:, 0]) * points[:, 1]
    for _ in range(60):
        loss = (encoding(points).sum(1) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1 * target.square().mean()


def test_cells_follow_the_table():
    encoding = GridEncoding(GridSpec(n_levels=3, base_resolution=4, finest_resolution=8, log2_table_size=10))
    adam = torch.optim.Adam(encoding.parameters(), fused=True)

    def step():
        encoding.table.grad = torch.randn_like(encoding.table)
        adam.step()

    def step_between_drawings():
        encoding.train()
        step()
        encoding.eval()

    def check(changes):
        for change in changes:
            before = encoding.cells()
            change()
            assert not torch.equal(encoding.cells(), before)
            assert torch.equal(encoding.cells(), expand_cells(encoding.table, encoding.spec))

    def load():
        encoding.load_state_dict({"table": torch.rand_like(encoding.table)})

    check([step, load])
    encoding.eval()
    assert encoding.cells() is encoding.cells()
    check([step_between_drawings, load, lambda: encoding.half()])
    assert list(encoding.state_dict()) == ["table"]


def test_conditioned_mlp_starts_at_its_output_scale():
    torch.manual_seed(0)
    spec = MLPSpec(d_in=8, d_cond=3, d_hidden=32, n_hidden=2, d_out=2)
    x, cond = torch.randn(64, 8), torch.randn(4, 3)
    index = torch.arange(64, dtype=torch.int32) % 4
    torch.manual_seed(0)
    full = ConditionedMLP(spec)
    torch.manual_seed(0)
    small = ConditionedMLP(spec, output_scale=0.01)
    torch.testing.assert_close(0.01 * full(x, cond, index), small(x, cond, index))


def test_conditioned_mlp_equals_its_layers():
    torch.manual_seed(0)
    mlp = ConditionedMLP(MLPSpec(d_in=5, d_cond=2, d_hidden=16, n_hidden=1, d_out=3))
    x, cond = torch.randn(7, 5), torch.randn(1, 2)
    (w0, b0), (w1, b1) = mlp.layers()
    hidden = torch.relu(torch.cat([x, cond.expand(7, 2)], 1) @ w0.T + b0)
    torch.testing.assert_close(mlp(x, cond), hidden @ w1.T + b1)


def test_condition_can_start_small():
    torch.manual_seed(0)
    spec = MLPSpec(d_in=5, d_cond=2, d_hidden=16, n_hidden=1, d_out=3)
    x = torch.randn(7, 5)
    mlp = ConditionedMLP(spec, cond_scale=0.0)
    torch.testing.assert_close(mlp(x, torch.randn(1, 2)), mlp(x, torch.zeros(1, 2)))
