"""Fields that hear speech in a part of the box only."""

import pytest
import torch
from small_identity import HEARING, encoder, points, references
from test_identity_field import FIELD, rays, small_renderer

from nerfad.models.identity_field import IdentityField
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity
from nerfad.models.speech_gate import SpeechGate
from nerfad.models.still import StillHead
from nerfad.ops import grid_encode

N_COND = HEARING.n_audio
N_SPEECH = N_COND - 1


def gated_field(baked: bool) -> IdentityField:
    """The half with x > 0.5 is open."""
    identity = PointIdentity(encoder(), references())
    form = BakedIdentity(identity, 8, n_features=FIELD.n_features) if baked else identity
    gate = SpeechGate(4, FIELD.n_features, N_SPEECH)
    gate.close((gate.vertices[:, 0] <= 0.5).float())
    field = IdentityField(FIELD, N_COND, form, gate)
    with torch.no_grad():
        field.encoding.table.uniform_(-0.5, 0.5)
        field.density_net.layers()[0][0][:, -N_COND:].mul_(10)
        field.constrain()
    return field


def conditions() -> torch.Tensor:
    """Two that differ in what is said, and a third that differs from the second in the blink."""
    cond = torch.randn(3, N_COND, generator=torch.Generator().manual_seed(0))
    cond[1, N_SPEECH:] = cond[0, N_SPEECH:]
    cond[2, :N_SPEECH] = cond[1, :N_SPEECH]
    return cond


@pytest.mark.parametrize("baked", [False, True])
def test_still_points_are_the_same_whatever_is_said(baked):
    field, positions = gated_field(baked), points(400)
    still = positions[:, 0] <= 0.5
    moving = positions[:, 0] > 0.75
    assert still.any() and moving.any()
    density = field.densities(positions, conditions())
    said, blinked = (density[0] != density[1]), (density[1] != density[2])
    assert not said[still].any()
    assert said[moving].float().mean() > 0.9
    assert blinked.float().mean() > 0.9


@pytest.mark.parametrize("baked", [False, True])
def test_training_does_not_open_it(baked):
    field, positions = gated_field(baked), points(400)
    still = positions[:, 0] <= 0.5
    optimiser = torch.optim.AdamW(field.parameters(), 0.05, weight_decay=0.1)
    cond, index = conditions()[:2].contiguous(), (torch.arange(400) % 2).int()
    before = field.densities(positions, cond)
    for _ in range(3):
        sigmas, rgbs = field(positions, rays()[1][:1], torch.zeros(400, dtype=torch.int32), cond, index)
        optimiser.zero_grad()
        (sigmas.log().square().mean() + (rgbs * torch.linspace(-1, 1, 400)[:, None]).sum()).backward()
        optimiser.step()
    loose = field.densities(positions, cond)
    assert (loose[0] != loose[1])[still].any()  # it is `constrain` that keeps it shut
    field.constrain()
    held = field.densities(positions, cond)
    assert torch.equal(held[0][still], held[1][still])
    assert not torch.equal(held, before)


def test_still_points_pass_no_gradient_to_the_speech():
    field = gated_field(True)
    positions = points(400)
    positions = positions[positions[:, 0] <= 0.5].contiguous()
    cond = conditions()[:1].requires_grad_()
    index = torch.zeros(len(positions), dtype=torch.int32)
    sigmas, rgbs = field(positions, rays()[1][:1], index, cond, None)
    (sigmas.sum() + rgbs.sum()).backward()
    assert (cond.grad[0, :N_SPEECH] == 0).all() and (cond.grad[0, N_SPEECH:] != 0).all()


def test_all_ways_of_drawing_know_it():
    renderer = small_renderer(gated_field(True)).eval()
    rays_o, rays_d = rays()
    background = torch.rand(64, 3)
    still = StillHead.at(renderer, rays_o, rays_d, background)
    for cond in conditions()[:, None]:
        out = renderer(rays_o, rays_d, cond, None, background)
        colors, opacities, _ = renderer.draw(rays_o, rays_d, cond, background)
        assert opacities.max() > 0.1
        torch.testing.assert_close(colors, out.colors)
        torch.testing.assert_close(still.draw(cond)[0], colors)


def test_vertices_lie_where_the_grid_reads_them():
    """g = x at the vertices is x everywhere."""
    gate, positions = SpeechGate(8, 2, 1), points(100)
    gate.close(gate.vertices[:, 0])
    read = grid_encode(positions, gate.table, gate.spec)
    torch.testing.assert_close(read[:, 0], positions[:, 0], atol=1e-5, rtol=0)
    assert (read[:, 1] == 0).all()
