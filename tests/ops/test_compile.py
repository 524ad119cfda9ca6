"""The public functions are traced by torch.compile as whole graphs, gradients included."""

import torch

from nerfad.ops import GridSpec, freq_encode, grid_encode, sh_encode

SPEC = GridSpec(n_levels=3, finest_resolution=40, log2_table_size=9)


def features(positions, dirs, table):
    return torch.cat(
        [grid_encode(positions, table, SPEC), sh_encode(dirs, 3), freq_encode(positions, 2)], 1
    ).sin()


def test_encodings_compile_without_a_graph_break():
    g = torch.Generator().manual_seed(0)
    positions = torch.rand(9, 3, generator=g).requires_grad_()
    dirs = torch.nn.functional.normalize(torch.randn(9, 3, generator=g), dim=1)
    table = torch.randn(SPEC.n_entries, 2, generator=g).requires_grad_()
    results = []
    for fn in (features, torch.compile(features, fullgraph=True, backend="aot_eager")):
        out = fn(positions, dirs, table)
        results.append((out, *torch.autograd.grad(out.sum(), (positions, table))))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)
