"""A head at a fixed pose, and the mask of the pixels that its condition can change."""

import math

import pytest
import torch
from toy_head import make_renderer, make_toy_head

from nerfad.config import FieldConfig, OccupancyConfig
from nerfad.models.field import TalkingField
from nerfad.models.renderer import HeadRenderer
from nerfad.models.sensitivity import SensitivityMask, dilated, spread
from nerfad.models.still import StillHead

SIZE = 32
FIELD = FieldConfig(
    n_levels=1, n_features=2, base_resolution=8, finest_resolution=8, width=16, log2_table_size=10
)


def talking_ball(mouth: float = 0.5, step: float = 4.0) -> HeadRenderer:
    """A ball whose density depends on the condition c >= 0 where y < `mouth`, and nowhere else.

    The grid's first feature is 1 there and 0 from the next vertex on; a hidden unit computes
    relu(step * feature + c - step), which is c in the mouth and 0 outside as long as c < step.
    """
    torch.manual_seed(0)
    head = HeadRenderer(TalkingField(FIELD, 1), OccupancyConfig(resolution=32, n_steps=64))
    head.occupancy.restrict(lambda x: (x - 0.5).norm(dim=1) < 0.4)
    head.occupancy.rebuild(1.0)
    field = head.field
    with torch.no_grad():
        n = FIELD.base_resolution + 1
        vertices = torch.arange(n**3)
        table = torch.zeros_like(field.encoding.table)
        table[: n**3, 0] = (vertices // n % n / FIELD.base_resolution < mouth).float()
        field.encoding.table.copy_(table)
        (weight, bias), (last, last_bias) = field.density_net.spec.split(field.density_net.params)
        for tensor in (weight, bias, last, last_bias):
            tensor.zero_()
        weight[0, 0], weight[0, -1], bias[0] = step, 1.0, -step
        last[0, 0] = 2.0
        last_bias[0] = 1.0
    return head


def view_of(head: HeadRenderer, size: int = SIZE) -> StillHead:
    """Parallel rays along z over a grey background, row by row from the top (y = 1)."""
    y, x = torch.meshgrid(*[(torch.arange(size) + 0.5) / size] * 2, indexing="ij")
    rays_o = torch.stack([x, 1 - y, torch.full_like(x, -1.0)], -1).reshape(-1, 3).contiguous()
    rays_d = torch.tensor([0.0, 0.0, 1.0]).expand_as(rays_o).contiguous()
    return StillHead.at(head, rays_o, rays_d, torch.full_like(rays_o, 0.5), size)


@pytest.fixture(scope="module")
def head() -> HeadRenderer:
    return talking_ball()


@pytest.fixture(scope="module")
def view(head) -> StillHead:
    return view_of(head)


CONDITIONS = torch.linspace(0, 2, 41)[:, None]


def test_a_still_head_draws_what_the_renderer_draws(head, view):
    for cond in CONDITIONS[::20].split(1):
        anew = head.draw(view.rays_o, view.rays_d, cond, view.behind)
        for cached, expected in zip(view.draw(cond), anew, strict=True):
            torch.testing.assert_close(cached, expected, rtol=0, atol=1e-5)
    some = torch.tensor([5, 700, 300])
    torch.testing.assert_close(
        view.select(some).draw(CONDITIONS[-1:])[0], view.draw(CONDITIONS[-1:])[0][some]
    )


@pytest.mark.parametrize("baked_resolution", [None, 8])
def test_a_field_with_identity_features_has_a_mask_too(baked_resolution):
    toy = make_toy_head(n_frames=4, size=16)
    view_behind = torch.rand(16 * 16, 3, generator=torch.Generator().manual_seed(0))
    rays_o, rays_d = toy.camera.rays(toy.c2w[0], torch.cartesian_prod(torch.arange(16), torch.arange(16)))
    head = make_renderer(toy, baked_resolution=baked_resolution)
    view = StillHead.at(head, rays_o.contiguous(), rays_d.contiguous(), view_behind, 16)
    assert (view.cache is None) == (baked_resolution is None)  # no cache holds features of points
    mask = SensitivityMask.measure(view, toy.units, 16, threshold=1e-4)
    assert 0 < mask.share < 1
    assert mask.error(toy.units).max_error <= 1e-4 + 1e-6


def test_the_mask_is_the_region_that_depends_on_the_condition(view):
    colors = torch.stack([view.draw(c)[0] for c in CONDITIONS.split(1)])
    moved = (colors.amax(0) - colors.amin(0)).amax(1) > 0
    mask = SensitivityMask.measure(view, CONDITIONS, SIZE, threshold=1e-6)
    assert moved.any() and (mask.pixels | ~moved).all()
    rows = mask.pixels.view(SIZE, SIZE).any(1)
    assert not rows[: SIZE // 2 - 2].any() and rows[SIZE // 2 + 2]  # the mouth is the lower half
    assert mask.share < 0.6
    assert mask.error(CONDITIONS).max_error < 1e-6


def test_outside_of_the_mask_nothing_is_drawn_again(view):
    mask = SensitivityMask.measure(view, CONDITIONS, SIZE)
    first, last = mask.draw(CONDITIONS[:1]), mask.draw(CONDITIONS[-1:])
    whole = view.draw(CONDITIONS[-1:])
    for a, b, rest, exact in zip(first, last, mask.rest, whole, strict=True):
        assert torch.equal(a[~mask.pixels], b[~mask.pixels]) and torch.equal(
            a[~mask.pixels], rest[~mask.pixels]
        )
        torch.testing.assert_close(b[mask.pixels], exact[mask.pixels], rtol=0, atol=1e-6)
    assert not torch.equal(first[0], last[0])


def test_probed_conditions_are_within_the_threshold(view):
    probes = CONDITIONS[spread(CONDITIONS, 8)]
    looks = [torch.cat([c, o[:, None]], 1) for c, o, _ in map(view.draw, probes.split(1))]
    change = (torch.stack(looks).amax(0) - torch.stack(looks).amin(0)).amax(1)
    largest = float(change.max())
    n_before = SIZE**2
    for threshold in (0.01 * largest, 0.5 * largest, 0.9 * largest):
        mask = SensitivityMask.measure(view, CONDITIONS, SIZE, threshold, margin=0)
        assert torch.equal(mask.pixels, change > threshold)
        assert mask.error(probes).max_error <= threshold
        assert 0 < mask.pixels.sum() < n_before
        n_before = int(mask.pixels.sum())


def test_a_mask_that_is_too_small_is_found_out_and_widened(view):
    silence = SensitivityMask.measure(view, CONDITIONS[:2], SIZE, threshold=0.05)
    small = silence.error(CONDITIONS[10:])
    assert silence.share < 0.01 and small.max_error > 0.05 and small.psnr < 45
    wide = silence.widened(CONDITIONS[10::10])
    assert wide.share > silence.share
    found = wide.error(CONDITIONS[15::10])
    assert found.max_error < small.max_error and found.psnr > small.psnr + 10


def test_the_error_is_that_of_whole_frames(view):
    none = SensitivityMask(
        view, torch.zeros(SIZE**2, dtype=torch.bool), view.draw(CONDITIONS[:1]), SIZE, 0.1, 0
    )
    difference = view.draw(CONDITIONS[-1:])[0] - view.draw(CONDITIONS[:1])[0]
    error = none.error(CONDITIONS[-1:])
    assert error.max_error == pytest.approx(float(difference.abs().max()))
    assert error.psnr == pytest.approx(-10 * math.log10(float(difference.square().mean())), abs=1e-3)
    assert none.error(CONDITIONS[:1]).psnr == math.inf


def test_conditions_are_chosen_far_apart():
    conditions = torch.cat([torch.zeros(20, 2), torch.tensor([[10.0, 0.0], [0.0, 0.1]])])
    assert set(spread(conditions, 3).tolist()) >= {20, 21}  # each column in its own unit
    assert spread(conditions[19:], 8).unique().tolist() == [0, 1, 2]


def test_dilation_stays_in_the_picture():
    pixels = torch.zeros(4, 6, dtype=torch.bool)
    pixels[0, 0] = pixels[2, 5] = True
    wide = dilated(pixels.flatten(), 6, 1).view(4, 6)
    assert wide.sum() == 4 + 6 and wide[1, 1] and wide[3, 4] and not wide[0, 2]
    assert torch.equal(dilated(pixels.flatten(), 6, 0).view(4, 6), pixels)
