"""The speech encoder's input and weight file."""

import struct

import numpy as np
import pytest
import torch

from nerfad.errors import InputFileError
from nerfad.features import speech
from nerfad.features.speech import LOG_FLOOR, load_speech_weights, read_tensors, speech_mel
from nerfad.models.speech_encoder import SpeechEncoder


def write_tensors(path, tensors: dict[str, np.ndarray]) -> None:
    table, body = b"HAMAPK\x01\x02" + struct.pack("<I", len(tensors)), b""
    for name, value in tensors.items():
        half = value.dtype == np.float16
        table += struct.pack("<H", len(name)) + name.encode() + bytes([int(half), value.ndim])
        table += struct.pack(f"<{value.ndim}I", *value.shape) + struct.pack("<QQ", len(body), value.nbytes)
        body += value.tobytes()
    path.write_bytes(table + bytes(-len(table) % 16) + body)


def test_tensors_come_back_as_written(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        "whole": rng.normal(size=(3, 4)).astype(np.float32),
        "half": rng.normal(size=(5,)).astype(np.float16),
    }
    write_tensors(tmp_path / "file", tensors)
    for name, value in read_tensors(tmp_path / "file").items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, tensors[name].astype(np.float32))


def test_another_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "speech_encoder.hama"
    path.write_bytes(b"something else")
    monkeypatch.setattr(speech, "find_model", lambda name, models: path)
    with pytest.raises(InputFileError, match="is not the speech encoder"):
        load_speech_weights(tmp_path)


def test_silence_is_zero_and_rows_are_centred():
    filters = np.full((201, 80), 1 / 201, np.float32)
    wave = np.zeros(16000, np.float32)
    assert not speech_mel(wave, filters).any()
    wave[8000] = 1.0  # row 50 is centred here
    energy = speech_mel(wave, filters).sum(1)
    assert energy.argmax() == 50 and energy[48] == 0 and energy[52] == 0


def test_rows_are_the_log_of_the_filtered_spectrum():
    rng = np.random.default_rng(0)
    filters, wave = rng.uniform(0, 1, (201, 80)).astype(np.float32), rng.normal(size=1600).astype(np.float32)
    padded = torch.nn.functional.pad(torch.from_numpy(wave), (200, 200))
    spectrum = torch.stft(padded, 400, 160, window=torch.hann_window(400), center=False, return_complex=True)
    expected = (spectrum.abs().square().T @ torch.from_numpy(filters)).log() - LOG_FLOOR
    np.testing.assert_allclose(speech_mel(wave, filters), expected, rtol=1e-4)


@pytest.mark.models
def test_real_weights_fit_the_encoder_and_tell_vowels_apart():
    if not speech.is_available():
        pytest.skip("run `nerfad models fetch`")
    weights = load_speech_weights()
    encoder = SpeechEncoder()
    encoder.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})

    def spoken(formants: tuple[int, ...], pitch: int) -> torch.Tensor:
        pulses = np.zeros(8000)
        pulses[:: 16000 // pitch] = 1
        spectrum, hz = np.fft.rfft(pulses), np.fft.rfftfreq(8000, 1 / 16000)
        gain = sum(np.exp(-0.5 * ((hz - f) / 90) ** 2) for f in formants)
        wave = np.fft.irfft(spectrum * gain)
        mel = speech_mel((0.1 * wave / wave.std()).astype(np.float32), weights["filters"])
        return encoder(torch.from_numpy(mel)[None])[0, 8:17].mean(0)

    ah, ah_higher, ee = (
        spoken(formants, pitch)
        for formants, pitch in (((730, 1090, 2440), 110), ((730, 1090, 2440), 140), ((270, 2290, 3010), 110))
    )
    assert (ah - ah_higher).norm() < 0.7 * (ah - ee).norm()
