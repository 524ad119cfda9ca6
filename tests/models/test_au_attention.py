"""AU-Attention's networks and equations 1 to 3."""

import pytest
import torch

from nerfad.models.attention_losses import (
    code_loss,
    critic_loss,
    cycle_loss,
    gradient_penalty,
    mask_variation,
)
from nerfad.models.au_attention import AUAttention, Critic, audio_face, identity_face, masks_at


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return AUAttention(n_units=3, width=4, n_blocks=1)


def crop_and_code(n=2, size=16):
    torch.manual_seed(1)
    return 2 * torch.rand(n, 3, size, size) - 1, torch.rand(n, 3)


def test_the_mask_is_the_weight_of_what_speech_does_not_change(generator):
    """I_G = A I_crop + (1 - A) I_W: the formulas, not the prose of section 2.1."""
    crop, code = crop_and_code()
    out = generator(crop, code)
    torch.testing.assert_close(out.image, out.mask * crop + (1 - out.mask) * out.warp)
    with torch.no_grad():
        generator.mask_head.bias.fill_(50.0)  # A = 1: everything is kept
    torch.testing.assert_close(generator(crop, code).image, crop)
    with torch.no_grad():
        generator.mask_head.bias.fill_(-50.0)  # A = 0: everything is repainted
    out = generator(crop, code)
    torch.testing.assert_close(out.image, out.warp)


def test_audio_face_and_identity_face_are_the_two_parts_of_the_crop(generator):
    crop, code = crop_and_code()
    mask = generator(crop, code).mask
    torch.testing.assert_close(audio_face(mask, crop) + identity_face(mask, crop), crop)
    ones = torch.ones_like(mask)
    assert audio_face(ones, crop).abs().max() == 0
    assert torch.equal(identity_face(ones, crop), crop)


def test_the_code_reaches_the_picture(generator):
    """Instance normalisation right after the first layer would have taken it out."""
    crop, _ = crop_and_code()
    low, high = generator(crop, torch.zeros(2, 3)), generator(crop, torch.ones(2, 3))
    middle = (..., slice(6, 10), slice(6, 10))  # away from the border, where padding lets it through
    assert (low.image - high.image).abs()[middle].mean() > 1e-3


def test_ranges_and_gradients(generator):
    crop, code = crop_and_code()
    out = generator(crop, code)
    assert out.mask.shape == (2, 1, 16, 16)
    assert out.mask.min() > 0 and out.mask.max() < 1 and out.warp.abs().max() < 1
    (out.image.square().mean() + out.mask.mean()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in generator.parameters())


def test_masks_of_crops_of_another_size(generator):
    crop, code = crop_and_code(size=32)
    assert torch.equal(masks_at(generator, crop, code, 32), generator(crop, code).mask)
    assert masks_at(generator, crop, code, 16).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("shared", [True, False])
def test_critic_and_classifier_may_share_their_stack(shared):
    critic = Critic(3, 32, width=2, shared=shared)
    picture = torch.rand(2, 3, 32, 32)
    realness, code = critic(picture)
    assert realness.shape == (2, 1, 2, 2) and code.shape == (2, 3)
    torch.testing.assert_close(critic.realness(picture), realness)
    code.sum().backward()
    reached = critic.stack[0].weight.grad is not None
    assert reached == shared


def test_critic_refuses_sizes_it_cannot_halve():
    with pytest.raises(ValueError, match="multiple of 16, got 40"):
        Critic(3, 40)


def test_eq_1_is_the_squared_distance_of_codes():
    found, wanted = torch.tensor([[1.0, 0.5], [0.0, 0.0]]), torch.tensor([[0.0, 0.5], [0.0, 2.0]])
    assert code_loss(found, wanted) == pytest.approx((1 + 4) / 2)


def test_eq_2_is_zero_for_a_perfect_way_back():
    crop = torch.rand(2, 3, 4, 4)
    assert cycle_loss(crop, crop) == 0
    assert cycle_loss(crop + 0.25, crop) == pytest.approx(0.25)


def test_eq_3_in_closed_form():
    """W_D(I) = w . I has the slope |w| everywhere: the penalty is (|w| - 1)^2."""
    real, fake = torch.rand(3, 3, 4, 4), torch.rand(3, 3, 4, 4)
    weight = torch.full((3, 4, 4), 0.5, requires_grad=True)

    def critic(pictures):
        return (weight * pictures).sum((1, 2, 3))

    norm = weight.detach().norm()
    penalty = gradient_penalty(critic, real, fake, torch.rand(3, 1, 1, 1))
    assert penalty.item() == pytest.approx(float((norm - 1) ** 2), rel=1e-5)
    penalty.backward()
    expected = 2 * (norm - 1) * weight.detach() / norm
    torch.testing.assert_close(weight.grad, expected)
    of_both = critic_loss(critic(fake), critic(real))
    assert of_both.item() == pytest.approx((0.5 * (fake - real)).sum((1, 2, 3)).mean().item(), rel=1e-4)


def test_the_penalty_looks_between_real_and_generated():
    """W_D(I) = sum(I^3) / 3 has the slope |I^2|, which tells where it was taken."""
    real, fake = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 2.0)
    penalty = gradient_penalty(lambda x: (x**3).sum() / 3, real, fake, torch.full((1, 1, 1, 1), 0.25))
    at = 0.75 * 2.0
    assert penalty.item() == pytest.approx((12**0.5 * at**2 - 1) ** 2, rel=1e-5)


def test_mask_variation_of_a_step():
    mask = torch.zeros(1, 1, 4, 4)
    assert mask_variation(mask) == 0
    mask[..., 2:, :] = 1
    assert mask_variation(mask) == pytest.approx(4 / 12)
