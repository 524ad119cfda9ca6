"""Identity features at the paper's sizes: point by point, and from the baked lattice.

pytest benchmarks/ops/bench_identity_features.py
"""

import pytest
import torch

from nerfad.cameras import Camera
from nerfad.models.identity_features import IdentityConfig, IdentityEncoder, References
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity

SIZE, N_POINTS = 256, 4096


def sources() -> dict[str, PointIdentity | BakedIdentity]:
    torch.manual_seed(0)
    c2w = torch.eye(4).repeat(4, 1, 1)
    c2w[:, :3, 3] = torch.tensor([0.5, 0.5, 3.5])
    c2w[:, 0, 3] += torch.linspace(-0.3, 0.3, 4)
    camera = Camera(3.0 * SIZE, 3.0 * SIZE, SIZE / 2, SIZE / 2, SIZE, SIZE)
    references = References(camera, c2w, torch.rand(4, 3, SIZE, SIZE))
    # What the lattice holds does not change the time of a read, so a small encoder bakes it.
    small = IdentityEncoder(IdentityConfig(n_channels=16, slot_width=16))
    return {
        "point": PointIdentity(IdentityEncoder(IdentityConfig()), references),
        "baked": BakedIdentity(PointIdentity(small, references)),
    }


@pytest.mark.parametrize("form", ["point", "baked"])
@pytest.mark.benchmark(group="identity")
def test_read(benchmark, form):
    source = sources()[form]
    points = torch.rand(N_POINTS, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), source.held():
        read = source.reader()
        benchmark.pedantic(lambda: read(points, None, None), rounds=9, warmup_rounds=1)
