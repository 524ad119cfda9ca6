"""From sound to the windows of features that an `AudioNet` takes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nerfad.data.audio_windows import mel_windows, segment_rows, window_rows
from nerfad.data.dataset import Dataset
from nerfad.errors import DatasetError
from nerfad.features import phones, speech
from nerfad.features.audio import SAMPLE_RATE, load_wave, log_mel
from nerfad.features.phones import PhoneModel
from nerfad.models.audio_net import AudioConfig, AudioNet

_SPECTRUM_S = 0.01  # a row of the speech encoder's log-mel reaches this far ahead


def predict(net: AudioNet, windows: Tensor, batch_size: int = 512) -> np.ndarray:
    """Codes float32 [n, k] of windows [n, f, w], in evaluation mode."""
    net.eval()
    with torch.no_grad():
        parts = [net(part) for part in windows.split(batch_size)]
    return torch.cat(parts).numpy() if parts else np.zeros((0, net.shape[2]), np.float32)


def predict_wave(
    net: AudioNet,
    wave: np.ndarray,
    frame_times: np.ndarray,
    segments: np.ndarray | None = None,
    own_level: bool = False,
) -> np.ndarray:
    """Codes float32 [n, k] of the frames at ``frame_times`` [n] seconds in ``wave`` (16 kHz mono).

    Args:
        segments: [n] index of the uncut take of each frame; sound is not heard across cuts.
        own_level: measure level and microphone in ``wave`` itself, all of it, instead of taking the training
            recording's: for other people's sound; not for a live stream.
    """
    return predict(net, sound_windows(net, wave, None, frame_times, segments, own_level))


def hear(
    net: AudioNet,
    sound: np.ndarray,
    frame_times: np.ndarray,
    segments: np.ndarray | None = None,
    own_level: bool = False,
) -> np.ndarray:
    """Codes float32 [n, k] from whatever the sound comes as.

    Args:
        sound: a wave [n] at 16 kHz; log-mel rows [n, 80]; or one window [n, w, f] per frame.
    """
    return predict(net, heard_windows(net, sound, frame_times, segments, own_level))


def heard_windows(
    net: AudioNet,
    sound: np.ndarray,
    frame_times: np.ndarray,
    segments: np.ndarray | None = None,
    own_level: bool = False,
) -> Tensor:
    """The encoder's inputs float32 [n, f, w]; arguments as in `hear`."""
    if sound.ndim == 1:
        return sound_windows(net, sound, None, frame_times, segments, own_level)
    if sound.ndim == 3:
        return torch.from_numpy(np.ascontiguousarray(sound.transpose(0, 2, 1), np.float32))
    if needs_wave(net.config):
        raise DatasetError("this avatar listens to the sound itself: give it a WAV, not log-mel features.")
    return sound_windows(net, None, sound, frame_times, segments)


def needs_wave(config: AudioConfig) -> bool:
    """Whether log-mel features are not enough for an encoder of this configuration."""
    return config.hears("speech") or config.hears("phones")


def dataset_windows(dataset: Dataset, net: AudioNet) -> Tensor:
    """The encoder's inputs float32 [n, f, w], one window per frame of ``dataset``."""
    if net.config.features == "windows":
        features = dataset.audio_features
        windows = features[np.minimum(dataset.audio_ids, len(features) - 1)].transpose(0, 2, 1)
        return torch.from_numpy(np.ascontiguousarray(windows, np.float32))
    wave = load_wave(dataset.audio_path) if needs_wave(net.config) else None
    return sound_windows(net, wave, dataset.audio_features, dataset.frame_times, dataset.segments)


def sound_windows(
    net: AudioNet,
    wave: np.ndarray | None,
    mel: np.ndarray | None,
    frame_times: np.ndarray,
    segments: np.ndarray | None,
    own_level: bool = False,
) -> Tensor:
    """Windows float32 [n, f, w] of the features that ``net`` listens to, from the wave or its log-mel."""
    config, parts = net.config, []
    if wave is None:
        if mel is None or needs_wave(config):
            raise ValueError(f"sound_windows: features {config.features} need the wave")
        wave = np.zeros(0, np.float32)
    before_s = config.rows_before / 100
    for kind in config.parts:
        if kind == "speech":
            parts.append(_speech_windows(net, wave, frame_times, segments))
            continue
        if kind == "mel":
            rows = log_mel(wave) if mel is None else mel
        else:
            mean = phones.cepstral_mean(wave) if own_level else net.cepstral_mean.numpy()
            rows = _phone_model(net).posteriors(wave, mean)
        windows = mel_windows(rows, frame_times, before_s, config.lookahead_s, segments)
        if kind == "phones":
            # These rows' own differences reach ahead: keep the promised look-ahead by blanking the last ones.
            windows[:, :, max(0, config.window_rows - phones.LOOKAHEAD_ROWS) :] = 0
        parts.append(windows)
    return torch.from_numpy(np.concatenate(parts, 1))


def equip(net: AudioNet, dataset: Dataset, train: np.ndarray) -> None:
    """Store in ``net`` the models it listens with, so that its state needs no other file, and the level of
    the sound that the frames ``train`` may hear.
    """
    if net.config.hears("speech"):
        weights = speech.load_speech_weights()
        net.speech.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    if net.config.hears("phones"):
        model = phones.load_phone_model()
        net.phone_means.copy_(torch.from_numpy(model.means))
        net.phone_variances.copy_(torch.from_numpy(model.variances))
        net.phone_log_weights.copy_(torch.from_numpy(model.log_weights))
    set_level(net, dataset, train)


def set_level(net: AudioNet, dataset: Dataset, train: np.ndarray) -> None:
    """Store in ``net`` the level and microphone of ``dataset``, from what its frames ``train`` may hear."""
    if net.config.hears("phones"):
        end = dataset.frame_times[train].max() + net.config.lookahead_s
        wave = load_wave(dataset.audio_path)[: round(SAMPLE_RATE * end)]
        net.cepstral_mean.copy_(torch.from_numpy(phones.cepstral_mean(wave)))


def _phone_model(net: AudioNet) -> PhoneModel:
    return PhoneModel(net.phone_means.numpy(), net.phone_variances.numpy(), net.phone_log_weights.numpy())


@torch.no_grad()
def _speech_windows(
    net: AudioNet,
    wave: np.ndarray,
    frame_times: np.ndarray,
    segments: np.ndarray | None,
    batch_size: int = 64,
) -> np.ndarray:
    """Each frame's own stretch of sound through the speech encoder: [n, 144, w], a token on two rows.

    Tokens attend to their whole stretch, so every frame needs its own: one pass over the clip would let the
    future in. Beyond a cut the stretch goes on as its mirror image: speech, but nothing of the other take.
    """
    config = net.config
    rows = speech.speech_mel(wave, net.speech.filters.numpy())
    ahead_s = max(0.0, config.lookahead_s - _SPECTRUM_S)
    stretches = _mirrored_rows(len(rows), frame_times, config.lookback_s, ahead_s, segments)
    first = (round(100 * config.lookback_s) - config.rows_before) // 2
    windows = np.zeros((len(stretches), config.parts["speech"], config.window_rows), np.float32)
    for start in range(0, len(stretches), batch_size):
        batch = torch.from_numpy(rows[stretches[start : start + batch_size]])
        tokens = net.speech(batch)[:, first:].transpose(1, 2).repeat_interleave(2, 2)
        tokens = tokens[:, :, : config.window_rows].numpy()
        windows[start : start + batch_size, :, : tokens.shape[2]] = tokens
    return windows


def _mirrored_rows(
    n_rows: int, frame_times: np.ndarray, lookback_s: float, ahead_s: float, segments: np.ndarray | None
) -> np.ndarray:
    """Row numbers [n, w] of each frame's stretch, folded back at the ends of its take and of the sound."""
    first, width = window_rows(frame_times, lookback_s, ahead_s)
    index = first[:, None] + np.arange(width)
    start, end = np.zeros((1, 1), np.int64), np.full((1, 1), n_rows)
    if segments is not None:
        start, end = (side[:, None] for side in segment_rows(np.asarray(frame_times), np.asarray(segments)))
    start, end = np.clip(start, 0, n_rows - 1), np.clip(end, 1, n_rows)
    index = np.where(index < start, 2 * start - 1 - index, index)
    index = np.where(index >= end, 2 * end - 1 - index, index)
    return np.clip(index, start, np.maximum(end - 1, start))
