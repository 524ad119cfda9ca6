"""Fusion networks and eqs. 4-6 on numbers that can be worked out by hand."""

import math

import pytest
import torch

from nerfad.models.face_fusion import (
    AUDIO_SIZE,
    N_NEIGHBOURS,
    NEIGHBOURS_BEFORE,
    AUClassifier,
    ConditionEncoder,
    FaceEncoder,
    FaceFusion,
    FusionDecoder,
    SmoothingFilter,
)
from nerfad.models.fusion_losses import (
    au_loss,
    reconstruction_loss,
    unit_weights,
    weighted_bce,
    weighted_dice,
)


def test_weights_are_inverse_rates_and_sum_to_the_number_of_units():
    weights = unit_weights(torch.tensor([0.1, 0.2, 0.4]))
    # 1/r: 10, 5, 2.5, of sum 17.5; times n_AU = 3.
    assert weights.tolist() == pytest.approx([30 / 17.5, 15 / 17.5, 7.5 / 17.5])


def test_a_unit_that_never_occurs_weighs_nothing_and_takes_nothing():
    weights = unit_weights(torch.tensor([0.0, 0.1, 0.2, 0.4]))
    assert weights.tolist() == pytest.approx([0.0, 30 / 17.5, 15 / 17.5, 7.5 / 17.5])
    assert unit_weights(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_eq_4_by_hand():
    probabilities = torch.tensor([[0.9, 0.2], [0.5, 0.6]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weights = torch.tensor([1.5, 0.5])
    first = 1.5 * -math.log(0.9) + 0.5 * -math.log(0.8)
    second = 1.5 * -math.log(0.5) + 0.5 * -math.log(0.6)
    found = weighted_bce(torch.logit(probabilities), labels, weights)
    assert float(found) == pytest.approx((first + second) / 2 / 2, rel=1e-5)


def test_eq_5_by_hand():
    probabilities = torch.tensor([[0.9, 0.2]])
    labels = torch.tensor([[1.0, 0.0]])
    weights = torch.tensor([1.5, 0.5])
    e = 0.5
    first = 1.5 * (1 - (2 * 0.9 + e) / (1 + 0.81 + e))
    second = 0.5 * (1 - e / (0.04 + e))
    found = weighted_dice(probabilities, labels, weights, epsilon=e)
    assert float(found) == pytest.approx((first + second) / 2, rel=1e-5)


def test_au_loss_is_their_sum_and_falls_towards_the_truth():
    labels, weights = torch.tensor([[1.0, 0.0]]), torch.tensor([1.2, 0.8])
    logits = torch.tensor([[0.3, -0.2]], requires_grad=True)
    loss = au_loss(logits, labels, weights)
    parts = weighted_bce(logits, labels, weights) + weighted_dice(logits.sigmoid(), labels, weights)
    assert torch.equal(loss, parts)
    loss.backward()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]
    assert float(au_loss(torch.tensor([[40.0, -40.0]]), labels, weights)) == pytest.approx(0, abs=1e-6)


def test_eq_6_by_hand():
    decoded, target = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    target[0, 0, 0, 0], target[1, 2, 1, 1] = 0.6, -0.6
    assert float(reconstruction_loss(decoded, target)) == pytest.approx(1.2 / 24)


def test_paper_sizes():
    encoder = FaceEncoder()
    vector, maps = encoder(torch.zeros(1, 3, 112, 112))
    assert vector.shape == (1, 256)
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 56, 56), (32, 28, 28), (64, 14, 14), (128, 7, 7)]
    decoder = FusionDecoder()
    assert decoder.shape == (256, 7, 7) and decoder.head[0].out_features == 1024
    assert decoder.head[0].in_features == 256 + 64
    assert decoder(vector, maps, torch.zeros(1, AUDIO_SIZE)).shape == (1, 3, 112, 112)


def test_convolutions_by_phases_are_those_of_the_fine_map():
    """D computes its last two convolutions on coarse maps; written out, they are ordinary ones."""
    torch.manual_seed(0)
    decoder = FusionDecoder(32, 2).double()
    vector, maps = FaceEncoder(32, 2).double()(torch.rand(2, 3, 32, 32, dtype=torch.float64))
    sound = torch.randn(2, AUDIO_SIZE, dtype=torch.float64)
    relu = torch.nn.functional.leaky_relu
    features = decoder.head(torch.cat([vector, sound], 1)).view(2, *decoder.shape)
    for conv, skip in zip(decoder.convs, reversed(maps), strict=True):
        features = torch.cat([features, skip], 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
        features = relu(conv(features), 0.1)
    expected = torch.tanh(decoder.picture(features))
    torch.testing.assert_close(decoder(vector, maps, sound), expected.float(), atol=1e-6, rtol=1e-5)


def test_one_reference_for_all_frames_equals_copies_of_it():
    torch.manual_seed(0)
    fusion, reference = FaceFusion(32, 4), torch.rand(1, 3, 32, 32)
    sounds = torch.randn(3, N_NEIGHBOURS, AUDIO_SIZE)
    torch.testing.assert_close(fusion(reference, sounds), fusion(reference.expand(3, -1, -1, -1), sounds))


def test_no_layer_mixes_the_frames_of_a_batch():
    """A batch normalisation would; with it, D did not listen."""
    torch.manual_seed(0)
    fusion, references = FaceFusion(32, 4).train(), torch.rand(3, 3, 32, 32)
    sounds = torch.randn(3, AUDIO_SIZE)
    torch.testing.assert_close(fusion(references, sounds)[:1], fusion(references[:1], sounds[:1]))


def test_sound_and_every_skip_reach_the_picture():
    torch.manual_seed(0)
    fusion = FaceFusion(32, 4)
    reference = torch.rand(1, 3, 32, 32)
    sound = torch.randn(1, AUDIO_SIZE, requires_grad=True)
    vector, maps = fusion.encoder(reference)
    inputs = [sound, *maps]
    grads = torch.autograd.grad(fusion.decoder(vector, maps, sound).square().sum(), inputs)
    assert all(bool(grad.abs().sum() > 0) for grad in grads)


def test_the_filter_averages_and_starts_close_to_the_own_frame():
    torch.manual_seed(0)
    smoothing = SmoothingFilter()
    same = torch.randn(2, 1, AUDIO_SIZE).expand(-1, N_NEIGHBOURS, -1)
    torch.testing.assert_close(smoothing(same), same[:, 0])
    sounds = torch.zeros(1, N_NEIGHBOURS, AUDIO_SIZE)
    sounds[:, NEIGHBOURS_BEFORE] = 1
    assert 0.7 < float(smoothing(sounds).mean().detach()) < 1


@pytest.mark.parametrize("heard", [True, False])
def test_swapped_sound_swaps_the_mouth_where_there_is_something_to_learn(heard):
    """A mouth as bright as the sound says; or as bright as chance says, then D must not listen."""
    torch.manual_seed(0)
    fusion, reference = FaceFusion(32, 2), 0.2 * torch.rand(1, 3, 32, 32)
    sounds = torch.randn(32, AUDIO_SIZE)
    level = torch.tanh(sounds[:, 0] if heard else torch.randn(32))
    mouth = torch.zeros(1, 1, 32, 32)
    mouth[:, :, 20:28, 8:24] = 1
    targets = reference * (1 - mouth) + 0.8 * level[:, None, None, None] * mouth
    adam = torch.optim.Adam(fusion.parameters(), 3e-3)
    for _ in range(150):
        # The sound is noisy, so that frames cannot be told apart by the rest of it.
        noisy = torch.cat([sounds[:, :1], torch.randn(32, AUDIO_SIZE - 1)], 1)
        loss = reconstruction_loss(fusion(reference, noisy), targets)
        adam.zero_grad()
        loss.backward()
        adam.step()
    swapped = sounds.flip(0)
    with torch.no_grad():
        change = ((fusion(reference, swapped) - fusion(reference, sounds)) * mouth).abs().sum()
    true_change = ((targets.flip(0) - targets) * mouth).abs().sum()
    share = float(change / true_change)
    assert share > 0.7 if heard else share < 0.35, share


def test_refuses_sizes_it_cannot_halve():
    with pytest.raises(ValueError, match="size must be a multiple of 16, got 50"):
        FaceEncoder(size=50)


def test_classifier_sees_every_corner():
    torch.manual_seed(0)
    picture = torch.randn(1, 3, 32, 32, requires_grad=True)
    AUClassifier(3, 32, 4)(picture).sum().backward()
    assert bool((picture.grad.abs().sum((0, 1)) > 0).all())


def test_vectors_of_the_condition_tell_frames_apart_whatever_they_share():
    """Pictures that differ by a little reach the field clearly, and a fast E_f does not overwhelm it."""
    generator = torch.Generator().manual_seed(0)
    faces = torch.rand(1, 3, 32, 32, generator=generator) + 1e-2 * torch.rand(
        64, 3, 32, 32, generator=generator
    )
    encoder = ConditionEncoder(32, 2)
    encoder.calibrate(faces)
    codes = encoder.encode(faces).detach()
    assert codes.mean(0).abs().max() < 0.1
    assert 0.2 < float(codes.std(0).mean()) < 0.5
    by_itself = torch.nn.functional.layer_norm(encoder(faces)[0], (32,))
    assert by_itself.std(0).mean() < 0.05
    encoder.calibrate(faces * 3)  # a second time changes nothing
    torch.testing.assert_close(encoder.encode(faces).detach(), codes)
    with torch.no_grad():
        encoder.head[-1].weight.mul_(100.0)
        assert encoder.encode(faces).square().mean(1).max() < 0.2501
        for _ in range(3000):  # mean and variance follow
            encoder.encode(faces, follow=True)
        assert encoder.encode(faces).mean(0).abs().max() < 0.1
