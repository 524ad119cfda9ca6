"""The audio encoder: shapes it accepts, what it refuses, what its state carries."""

from dataclasses import replace

import pytest
import torch

from nerfad.models.audio_net import STREAMING, AudioConfig, AudioNet, KernelEncoder, gaussian_kernel

CONV = AudioConfig(encoder="conv", n_members=2)


@pytest.mark.parametrize(
    ("n_features", "n_rows"),
    [(80, 50), (80, 32), (29, 16), (44, 16), (1024, 2)],
    ids=["mel", "mel streaming", "deepspeech", "wav2vec2", "hubert"],
)
def test_every_kind_of_window_gives_codes(n_features, n_rows):
    net = AudioNet(n_features, n_rows, 9, CONV)
    windows = torch.randn(3, n_features, n_rows, requires_grad=True)
    codes = net(windows)
    codes.sum().backward()
    assert codes.shape == (3, 9) and windows.grad.abs().sum() > 0


def test_the_ensemble_is_the_mean_of_its_members():
    net = AudioNet(80, 50, 4, replace(CONV, n_members=3)).eval()
    net.gain.copy_(torch.tensor([1.0, 2.0, 0.5, 0.0]))
    windows = torch.randn(5, 80, 50)
    expected = sum(member(windows) for member in net.members) / 3 * net.gain
    torch.testing.assert_close(net(windows), expected)


def test_standardisation_makes_level_and_scale_irrelevant():
    net = AudioNet(8, 16, 2, CONV).eval()
    windows = torch.randn(4, 8, 16)
    before = net(windows)
    net.feature_mean.fill_(3.0)
    net.feature_std.fill_(2.0)
    torch.testing.assert_close(net(windows * 2 + 3), before)


def test_state_dict_restores_predictions():
    net, other = AudioNet(80, 50, 9, CONV).eval(), AudioNet(80, 50, 9, CONV).eval()
    net.feature_mean.normal_()
    other.load_state_dict(net.state_dict())
    windows = torch.randn(2, 80, 50)
    torch.testing.assert_close(other(windows), net(windows))


def test_a_window_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"windows must have shape \[b, 80, 50\], got \[2, 80, 40\]"):
        AudioNet(80, 50, 4)(torch.zeros(2, 80, 40))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lookback_s": 0.0}, "lookback_s"),
        ({"lookahead_s": -0.1}, "lookahead_s"),
        ({"n_members": 0}, "n_members"),
        ({"n_folds": 1}, "n_folds"),
        ({"features": "music"}, "features must be auto, windows, or"),
        ({"encoder": "gru"}, "encoder must be kernel or conv"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AudioConfig(**settings)


def test_streaming_preset_hears_120_ms_ahead():
    assert STREAMING.lookahead_s == 0.12
    assert STREAMING.window_rows < AudioConfig().window_rows


def test_kinds_of_features_add_up():
    config = AudioConfig(features="speech+phones")
    assert config.parts == {"speech": 144, "phones": 42}
    assert config.hears("speech") and not config.hears("mel")
    assert AudioConfig(features="windows").parts == {}


def test_kernel_is_the_gaussian_of_the_distance():
    a, b = torch.randn(3, 5), torch.randn(4, 5)
    expected = torch.exp(-0.7 * torch.cdist(a, b) ** 2)
    torch.testing.assert_close(gaussian_kernel(a, b, 0.7), expected)


def test_kernel_encoder_interpolates_its_support():
    encoder = KernelEncoder(6, 20, 2)
    windows, goal = torch.randn(7, 6, 20), torch.randn(7, 2)
    encoder.support = encoder.embed(windows)
    kernel = gaussian_kernel(encoder.support, encoder.support, encoder.gamma)
    encoder.coefficients.data = torch.linalg.solve(kernel, goal)
    torch.testing.assert_close(encoder(windows), goal, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("n_rows", [2, 16, 32, 40, 43])
def test_embedding_of_standardised_windows_has_a_fixed_scale(n_rows):
    """Constant windows of ones have norm 1 whatever their shape and the weights of rows."""
    encoder = KernelEncoder(5, n_rows, 2)
    squares = encoder.embed(torch.ones(1, 5, n_rows)).square().sum()
    torch.testing.assert_close(squares, torch.ones(()))


def test_rows_without_weight_are_not_heard():
    encoder = KernelEncoder(4, 20, 2)
    encoder.row_weights[12:] = 0
    windows = torch.randn(2, 4, 20)
    changed = windows.clone()
    changed[:, :, 12:] += 5
    torch.testing.assert_close(encoder.embed(changed), encoder.embed(windows))


def test_kernel_state_carries_its_support():
    net, other = AudioNet(8, 20, 3), AudioNet(8, 20, 3)
    net.members[0].support = torch.randn(11, net.members[0].support.shape[1])
    net.members[0].coefficients.data = torch.randn(11, 3)
    other.load_state_dict(net.state_dict())
    windows = torch.randn(4, 8, 20)
    torch.testing.assert_close(other(windows), net(windows))


def test_phone_model_is_part_of_the_state_only_where_phones_are_heard():
    assert "phone_means" in AudioNet(42, 40, 9, AudioConfig(features="phones")).state_dict()
    assert "phone_means" not in AudioNet(80, 40, 9, AudioConfig(features="mel")).state_dict()
