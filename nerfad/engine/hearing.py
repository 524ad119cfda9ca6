"""From sound to the windows of features that an `AudioNet` takes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nerfad.data.audio_windows import mel_windows
from nerfad.data.dataset import Dataset
from nerfad.errors import DatasetError
from nerfad.features import phones
from nerfad.features.audio import SAMPLE_RATE, load_wave, log_mel
from nerfad.features.phones import PhoneModel
from nerfad.models.audio_net import AudioConfig, AudioNet


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
    config = net.config
    mean = None
    if config.hears_phones:
        mean = phones.cepstral_mean(wave) if own_level else net.cepstral_mean.numpy()
    windows = sound_windows(config, wave, None, frame_times, segments, phone_model_of(net), mean)
    return predict(net, windows)


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
    if sound.ndim == 1:
        return predict_wave(net, sound, frame_times, segments, own_level)
    if sound.ndim == 3:
        return predict(net, torch.from_numpy(np.ascontiguousarray(sound.transpose(0, 2, 1), np.float32)))
    if net.config.hears_phones:
        raise DatasetError("this avatar listens for phones: give it the sound itself (a WAV), not features.")
    return predict(net, sound_windows(net.config, None, sound, frame_times, segments))


def dataset_windows(dataset: Dataset, net: AudioNet) -> Tensor:
    """The encoder's inputs float32 [n, f, w], one window per frame of ``dataset``."""
    if dataset.audio_kind != "mel":
        return given_windows(dataset)
    wave = load_wave(dataset.audio_path) if net.config.hears_phones else None
    mean = net.cepstral_mean.numpy() if net.config.hears_phones else None
    return sound_windows(
        net.config,
        wave,
        dataset.audio_features,
        dataset.frame_times,
        dataset.segments,
        phone_model_of(net),
        mean,
    )


def given_windows(dataset: Dataset) -> Tensor:
    """The windows [n, w, f] that a data set of another project brings, as [n, f, w]."""
    features = dataset.audio_features
    windows = features[np.minimum(dataset.audio_ids, len(features) - 1)].transpose(0, 2, 1)
    return torch.from_numpy(np.ascontiguousarray(windows, np.float32))


def sound_windows(
    config: AudioConfig,
    wave: np.ndarray | None,
    mel: np.ndarray | None,
    frame_times: np.ndarray,
    segments: np.ndarray | None,
    phone_model: PhoneModel | None = None,
    cepstral_mean: np.ndarray | None = None,
) -> Tensor:
    """Windows float32 [n, f, w] of the features named by ``config.features``, from wave and log-mel."""
    parts = []
    if "mel" in config.features:
        rows = log_mel(wave) if mel is None else mel
        parts.append(mel_windows(rows, frame_times, config.lookback_s, config.lookahead_s, segments))
    if config.hears_phones:
        rows = phone_model.posteriors(wave, cepstral_mean)
        heard = mel_windows(rows, frame_times, config.lookback_s, config.lookahead_s, segments)
        # These rows' own differences reach ahead: keep the window's promise by blanking the last ones.
        heard[:, :, max(0, config.window_rows - phones.LOOKAHEAD_ROWS) :] = 0
        parts.append(heard)
    return torch.from_numpy(np.concatenate(parts, 1))


def phone_model_of(net: AudioNet) -> PhoneModel | None:
    """The phone model that travels with an encoder of phones."""
    if not net.config.hears_phones:
        return None
    return PhoneModel(net.phone_means.numpy(), net.phone_variances.numpy(), net.phone_log_weights.numpy())


def keep_phone_model(net: AudioNet, model: PhoneModel, cepstral_mean: np.ndarray) -> None:
    """Store ``model`` and the recording's mean in ``net``, so that its state needs no other file."""
    net.phone_means.copy_(torch.from_numpy(model.means))
    net.phone_variances.copy_(torch.from_numpy(model.variances))
    net.phone_log_weights.copy_(torch.from_numpy(model.log_weights))
    net.cepstral_mean.copy_(torch.from_numpy(cepstral_mean))


def training_level(dataset: Dataset, train: np.ndarray, config: AudioConfig) -> np.ndarray:
    """The mean cepstrum [13] of the sound that training frames may hear."""
    wave = load_wave(dataset.audio_path)
    end = dataset.frame_times[train].max() + config.lookahead_s
    return phones.cepstral_mean(wave[: round(SAMPLE_RATE * end)])
