"""Fitting the encoder: it learns what can be learnt, and nothing leaks from the held-out part."""

import json
import wave as wave_files
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from nerfad.engine.hearing import dataset_windows, hear, predict, predict_wave, sound_windows
from nerfad.engine.train_audio import fit_audio, held_out_score, score
from nerfad.errors import DatasetError
from nerfad.features import phones, speech
from nerfad.features.audio import load_wave
from nerfad.models.audio_net import AudioConfig, AudioNet
from nerfad.models.speech_encoder import SpeechEncoder

FPS = 25.0
QUICK = AudioConfig(lookback_s=0.1, lookahead_s=0.06, features="mel", n_folds=2)
CONV = replace(QUICK, encoder="conv", n_members=1, n_epochs=25, width=24, dropout=0.1)


@dataclass
class Clip:
    """What `fit_audio` asks of a data set, made of numbers: units that follow bands of the sound."""

    audio_features: np.ndarray | None
    aus: np.ndarray | None
    au_names: tuple[str, ...] = ("AU45", "AU25", "AU26")
    au_source: str = "exact"
    audio_kind: str = "mel"
    landmarks: np.ndarray | None = None
    classic_landmarks: np.ndarray | None = None
    audio_path: Path | None = None
    fps: float = FPS
    n_frames: int = 400
    segments: np.ndarray = field(default_factory=lambda: np.zeros(400, np.int64))

    @property
    def frame_ids(self):
        return np.arange(self.n_frames)

    audio_ids = frame_ids

    @property
    def frame_times(self):
        return (self.audio_ids + 0.5) / self.fps

    def split(self, lookback_s, lookahead_s):
        first = int(0.8 * self.n_frames)
        guard = int(np.ceil((lookback_s + lookahead_s) * self.fps))
        return np.arange(first - guard), np.arange(first, self.n_frames)


def write_wav(path: Path, wave: np.ndarray) -> None:
    with wave_files.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes())


def speaking_clip(seed: int = 0) -> Clip:
    rng = np.random.default_rng(seed)
    n_frames, n_rows = 400, 1600
    bands = np.repeat(rng.uniform(0, 2, (n_rows // 8, 2)), 8, 0)
    mel = 0.2 * rng.normal(size=(n_rows, 80)).astype(np.float32)
    mel[:, 10:20] += bands[:, :1]
    mel[:, 50:60] += bands[:, 1:]
    rows = np.arange(n_frames) * 4 + 2
    blink = (rng.uniform(size=n_frames) < 0.03).astype(float)
    return Clip(mel, np.stack([blink, bands[rows, 0], bands[rows, 1] - bands[rows, 0]], 1))


@pytest.fixture(scope="module", params=[QUICK, CONV], ids=["kernel", "conv"])
def fitted(request):
    clip = speaking_clip()
    return clip, fit_audio(clip, request.param, seed=1)


def test_unseen_frames_follow_the_sound(fitted):
    clip, fit = fitted
    for scores in (fit.report["out_of_fold"], held_out_score(clip, fit)):
        assert all(entry["r"] > 0.8 for entry in scores.values()), scores
        assert all(0.7 < entry["amplitude"] < 1.3 for entry in scores.values()), scores


def test_the_field_is_given_codes_without_the_gain(fitted):
    """The slope of the truth on what the field learns from is 1: nothing to unlearn."""
    clip, fit = fitted
    train, _ = clip.split(QUICK.lookback_s, QUICK.lookahead_s)
    for k in range(2):
        heard, true = fit.oof_codes[train, k], fit.true_codes[train, k]
        assert abs(np.polyfit(heard, true, 1)[0] - 1) < 1e-3
    used = predict(fit.net, dataset_windows(clip, fit.net))[train]
    assert used.std() > fit.oof_codes[train].std()


def test_codes_are_ordered_and_blinks_kept_apart(fitted):
    clip, fit = fitted
    train, _ = clip.split(QUICK.lookback_s, QUICK.lookahead_s)
    assert fit.codes.names == ("AU25", "AU26")
    np.testing.assert_array_equal(fit.blink[train, 0], clip.aus[train, 0].astype(np.float32))


def test_held_out_truth_is_not_handed_on(fitted):
    clip, fit = fitted
    train, test = clip.split(QUICK.lookback_s, QUICK.lookahead_s)
    assert np.isnan(fit.true_codes[test]).all() and np.isnan(fit.blink[test]).all()
    assert np.isfinite(fit.true_codes[train]).all() and np.isfinite(fit.oof_codes).all()


def test_held_out_measurements_change_nothing(fitted):
    clip, fit = fitted
    _, test = clip.split(QUICK.lookback_s, QUICK.lookahead_s)
    noisy = replace(clip, aus=clip.aus.copy())
    noisy.aus[test] = np.random.default_rng(5).uniform(size=noisy.aus[test].shape)
    again = fit_audio(noisy, fit.net.config, seed=1)
    np.testing.assert_array_equal(again.oof_codes, fit.oof_codes)
    np.testing.assert_array_equal(again.true_codes, fit.true_codes)
    for name, value in fit.net.state_dict().items():
        assert torch.equal(value, again.net.state_dict()[name]), name


def test_out_of_fold_codes_do_not_know_their_own_frame(fitted):
    """A frame's label may not reach its own out-of-fold code."""
    clip, fit = fitted
    changed = replace(clip, aus=clip.aus.copy())
    changed.aus[100, 1:] += 0.5
    again = fit_audio(changed, fit.net.config, seed=1)
    raw = [f.oof_codes[100] * f.codes.scale + f.codes.offset for f in (fit, again)]
    np.testing.assert_allclose(raw[0], raw[1], atol=0.03)


def test_the_seed_decides_where_chance_plays():
    quick = replace(CONV, n_epochs=2)
    a, b, c = (fit_audio(speaking_clip(), quick, seed=seed).oof_codes for seed in (1, 2, 1))
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(a, c)


def test_sound_beyond_the_look_ahead_is_not_heard(fitted):
    clip, fit = fitted
    frame = 200
    later = round(100 * ((frame + 0.5) / FPS + QUICK.lookahead_s))
    changed = replace(clip, audio_features=clip.audio_features.copy())
    changed.audio_features[later:] = 9.0
    codes = [predict(fit.net, dataset_windows(c, fit.net)) for c in (clip, changed)]
    np.testing.assert_allclose(codes[0][: frame + 1], codes[1][: frame + 1], atol=1e-5)
    assert np.abs(codes[0][frame + 10 :] - codes[1][frame + 10 :]).max() > 0.1


def test_a_wave_can_drive_any_number_of_frames(fitted):
    _, fit = fitted
    wave = np.random.default_rng(0).normal(size=16000).astype(np.float32) * 0.1
    assert predict_wave(fit.net, wave, (np.arange(40) + 0.5) / FPS).shape == (40, 2)


def test_features_cannot_stand_in_for_a_wave(fitted):
    clip, fit = fitted
    times = clip.frame_times
    np.testing.assert_array_equal(
        hear(fit.net, clip.audio_features, times), predict(fit.net, dataset_windows(clip, fit.net))
    )
    listener = AudioNet(42, 16, 2, replace(QUICK, features="phones"))
    with pytest.raises(DatasetError, match="listens to the sound itself: give it a WAV"):
        hear(listener, clip.audio_features, times)


def test_deepspeech_windows_are_taken_as_they_are():
    clip = speaking_clip()
    windows = np.random.default_rng(0).normal(size=(390, 16, 29)).astype(np.float32)
    windows[:, 8, 3] = clip.aus[:390, 1]
    clip = replace(clip, audio_features=windows, audio_kind="deepspeech")
    fit = fit_audio(clip, QUICK)
    assert dataset_windows(clip, fit.net).shape == (400, 29, 16) and fit.oof_codes.shape == (400, 2)
    np.testing.assert_allclose(hear(fit.net, windows, None)[325:390], fit.oof_codes[325:390], atol=1e-5)


def test_a_fit_survives_its_state(fitted, tmp_path):
    """Through a safetensors file and JSON, as a checkpoint stores it."""
    clip, fit = fitted
    safetensors.torch.save_file(fit.net.state_dict(), tmp_path / "net.safetensors")
    shape, config = json.loads(json.dumps([fit.net.shape, asdict(fit.net.config)]))
    net = AudioNet(*shape, AudioConfig(**config))
    net.load_state_dict(safetensors.torch.load_file(tmp_path / "net.safetensors"))
    windows = dataset_windows(clip, fit.net)
    np.testing.assert_array_equal(predict(net, windows), predict(fit.net, windows))


def test_phones_are_heard_and_travel_with_the_encoder(tmp_path, monkeypatch):
    pytest.importorskip("pocketsphinx")
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.uniform(size=80) < 0.5, 5)  # of 400 frames: hiss or silence
    wave = (rng.normal(size=(400, 640)) * np.where(loud, 0.1, 1e-4)[:, None]).reshape(-1).astype(np.float32)
    write_wav(tmp_path / "aud.wav", wave)
    clip = replace(
        speaking_clip(),
        audio_features=None,
        audio_path=tmp_path / "aud.wav",
        aus=np.stack([loud] * 3, 1) * 1.0,
    )
    fit = fit_audio(clip, replace(QUICK, features="phones"))
    assert held_out_score(clip, fit)["AU25"]["r"] > 0.8
    monkeypatch.setattr(phones, "load_phone_model", None)  # not needed again
    codes = predict_wave(fit.net, load_wave(clip.audio_path), clip.frame_times)
    np.testing.assert_allclose(codes[330:390], fit.oof_codes[330:390], atol=1e-5)
    quiet = predict_wave(fit.net, 0.1 * load_wave(clip.audio_path), clip.frame_times, own_level=True)
    assert np.corrcoef(quiet[:, 0], codes[:, 0])[0, 1] > 0.9


def test_auto_takes_the_features_that_predict_best(tmp_path, monkeypatch):
    pytest.importorskip("pocketsphinx")
    write_wav(tmp_path / "aud.wav", np.random.default_rng(0).normal(size=256_000).astype(np.float32) * 0.1)
    clip = replace(speaking_clip(), audio_path=tmp_path / "aud.wav")  # units follow the mel, not the wave
    monkeypatch.setattr(speech, "is_available", lambda: False)
    assert fit_audio(clip, replace(QUICK, features="auto")).report["features"] == "mel"


@pytest.fixture
def untrained_speech(monkeypatch):
    """A speech encoder of random weights: what flows where can be tested without the file."""
    torch.manual_seed(0)
    encoder = SpeechEncoder()
    encoder.filters.copy_(torch.rand(201, 80) / 200)
    weights = {name: value.numpy() for name, value in encoder.state_dict().items()}
    monkeypatch.setattr(speech, "load_speech_weights", lambda: weights)


def heard_by(times: np.ndarray, wave: np.ndarray, segments: np.ndarray | None = None) -> torch.Tensor:
    config = AudioConfig(features="speech", lookback_s=0.4, lookahead_s=0.2)
    net = AudioNet(144, config.window_rows, 2, config)
    net.speech.load_state_dict({k: torch.from_numpy(v) for k, v in speech.load_speech_weights().items()})
    return sound_windows(net, wave, None, times, segments)


@pytest.mark.parametrize("side", ["before", "after"])
def test_speech_context_ends_where_it_is_said_to(untrained_speech, side):
    wave = (0.1 * np.random.default_rng(0).normal(size=32000)).astype(np.float32)
    changed = wave.copy()
    if side == "before":
        changed[: round(16000 * (1.02 - 0.4 - 0.02))] = 0
    else:
        changed[round(16000 * (1.02 + 0.2)) :] = 0
    same, different = np.array([1.02]), np.array([0.9 if side == "before" else 1.14])
    torch.testing.assert_close(heard_by(same, changed), heard_by(same, wave), atol=1e-4, rtol=1e-4)
    assert (heard_by(different, changed) - heard_by(different, wave)).abs().max() > 1e-2


def test_speech_is_not_heard_across_a_cut(untrained_speech):
    wave = (0.1 * np.random.default_rng(0).normal(size=32000)).astype(np.float32)
    times = (np.arange(50) + 0.5) / FPS
    segments = (np.arange(50) >= 25).astype(np.int64)
    changed = wave.copy()
    changed[: 16000 - 400] = 0  # the first take, but for the spectrum's overlap
    frames = slice(25, 50)
    before, after = (heard_by(times, w, segments)[frames] for w in (wave, changed))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_speech_windows_keep_the_token_of_the_frame_in_the_middle(untrained_speech):
    """A burst at the frame moves the middle rows most before attention spreads it."""
    quiet = np.full(32000, 1e-3, np.float32) * np.random.default_rng(0).normal(size=32000).astype(np.float32)
    burst = quiet.copy()
    burst[round(1.02 * 16000) - 80 : round(1.02 * 16000) + 80] += 0.5
    change = (heard_by(np.array([1.02]), burst) - heard_by(np.array([1.02]), quiet)).abs().sum(1)[0]
    assert 18 <= int(change.argmax()) <= 22


def test_an_encoder_of_speech_fits_and_survives_its_state(untrained_speech, tmp_path):
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.uniform(size=80) < 0.5, 5)
    wave = (rng.normal(size=(400, 640)) * np.where(loud, 0.1, 1e-4)[:, None]).reshape(-1)
    write_wav(tmp_path / "aud.wav", wave)
    clip = replace(speaking_clip(), audio_path=tmp_path / "aud.wav", aus=np.stack([loud] * 3, 1) * 1.0)
    fit = fit_audio(clip, replace(QUICK, features="speech"))
    assert held_out_score(clip, fit)["AU25"]["r"] > 0.8
    net = AudioNet(*fit.net.shape, fit.net.config)
    net.load_state_dict(fit.net.state_dict())
    codes = predict_wave(net, load_wave(clip.audio_path), clip.frame_times, clip.segments)
    np.testing.assert_allclose(codes[330:], fit.oof_codes[330:], atol=1e-4)


def test_without_measurements_the_codes_are_left_to_be_learnt():
    fit = fit_audio(replace(speaking_clip(), aus=None), replace(QUICK, n_learnt=6))
    assert fit.codes.kind == "learnt" and fit.true_codes is None and fit.oof_codes is None
    assert fit.net(torch.zeros(1, 80, 16)).shape == (1, 6)
    with pytest.raises(DatasetError, match="nothing was measured"):
        held_out_score(speaking_clip(), fit)


def test_score_of_a_constant_is_zero():
    flat = score(("x",), np.arange(5.0)[:, None], np.ones((5, 1)))
    assert flat == {"x": {"r": 0.0, "amplitude": 0.0}}


def test_progress_rises_to_one():
    seen = []
    fit_audio(speaking_clip(), QUICK, progress=lambda done, text: seen.append(done))
    assert seen == sorted(seen) and seen[-1] == 1.0
