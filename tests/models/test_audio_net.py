"""The audio encoder: shapes it accepts, what it refuses, what its state carries."""

import pytest
import torch

from nerfad.models.audio_net import STREAMING, AudioConfig, AudioNet


@pytest.mark.parametrize(
    ("n_features", "n_rows"),
    [(80, 50), (80, 32), (29, 16), (44, 16), (1024, 2)],
    ids=["mel", "mel streaming", "deepspeech", "wav2vec2", "hubert"],
)
def test_every_kind_of_window_gives_codes(n_features, n_rows):
    net = AudioNet(n_features, n_rows, 9, AudioConfig(n_members=2))
    windows = torch.randn(3, n_features, n_rows, requires_grad=True)
    codes = net(windows)
    codes.sum().backward()
    assert codes.shape == (3, 9) and windows.grad.abs().sum() > 0


def test_the_ensemble_is_the_mean_of_its_members():
    net = AudioNet(80, 50, 4, AudioConfig(n_members=3)).eval()
    net.gain.copy_(torch.tensor([1.0, 2.0, 0.5, 0.0]))
    windows = torch.randn(5, 80, 50)
    expected = sum(member(windows) for member in net.members) / 3 * net.gain
    torch.testing.assert_close(net(windows), expected)


def test_standardisation_makes_level_and_scale_irrelevant():
    net = AudioNet(8, 16, 2).eval()
    windows = torch.randn(4, 8, 16)
    before = net(windows)
    net.feature_mean.fill_(3.0)
    net.feature_std.fill_(2.0)
    torch.testing.assert_close(net(windows * 2 + 3), before)


def test_state_dict_restores_predictions():
    config = AudioConfig(n_members=2)
    net, other = AudioNet(80, 50, 9, config).eval(), AudioNet(80, 50, 9, config).eval()
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
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AudioConfig(**settings)


def test_streaming_preset_hears_120_ms_ahead():
    assert STREAMING.lookahead_s == 0.12
    assert STREAMING.window_rows < AudioConfig().window_rows
