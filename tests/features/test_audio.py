"""Sound: reading, mel rows and windows."""

import av
import numpy as np
import pytest

from nerfad.data.audio_windows import mel_windows
from nerfad.errors import InputFileError
from nerfad.features.audio import load_wave, log_mel, mel_filters


def tone(hz: float, seconds: float, rate: int) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def write_sound(path, wave: np.ndarray, rate: int, channels: int = 1) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono" if channels == 1 else "stereo")
        samples = np.repeat((wave * 32767).astype(np.int16)[:, None], channels, 1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.reshape(1, -1)),
            format="s16",
            layout="mono" if channels == 1 else "stereo",
        )
        frame.sample_rate = rate
        container.mux([*stream.encode(frame), *stream.encode(None)])


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (8000, 1)])
def test_any_rate_becomes_16_khz_mono(tmp_path, rate, channels):
    write_sound(tmp_path / "a.wav", tone(440, 0.5, rate), rate, channels)
    wave = load_wave(tmp_path / "a.wav")
    assert wave.dtype == np.float32
    assert abs(len(wave) - 8000) <= 32
    spectrum = np.abs(np.fft.rfft(wave[:8000]))
    assert abs(spectrum.argmax() * 2 - 440) <= 2
    # A middle sample must sit where the clock says, whatever the input rate was.
    expected = tone(440, 0.5, 16000)[2000:4000]
    assert np.corrcoef(wave[2000:4000], expected)[0, 1] > 0.999


def test_files_without_sound_are_one_sentence(tmp_path):
    (tmp_path / "a.wav").write_text("hello, this is no sound\n" * 50)
    with pytest.raises(InputFileError, match=r"a\.wav"):
        load_wave(tmp_path / "a.wav")
    with pytest.raises(InputFileError, match="does not exist"):
        load_wave(tmp_path / "b.wav")


def test_mel_rows_follow_the_clock_and_silence_is_zero():
    wave = np.zeros(16000, np.float32)
    wave[8000:8800] = tone(1000, 0.05, 16000)
    mel = log_mel(wave)
    assert mel.shape == (100, 80)
    loud = np.nonzero(mel.sum(1) > 0.5 * mel.sum(1).max())[0]
    assert loud.min() in (49, 50) and loud.max() in (54, 55)
    assert np.all(mel[:48] == 0.0)
    assert 0.5 < mel.max() < 5.0


def test_a_tone_lights_the_band_whose_filter_holds_it():
    mel = log_mel(tone(3000, 0.5, 16000))
    band = mel_filters()[:, round(3000 / 8000 * 256)].argmax()
    assert abs(int(mel[25].argmax()) - int(band)) <= 1


def test_filters_cover_every_band():
    filters = mel_filters()
    assert filters.shape == (80, 257)
    np.testing.assert_allclose(filters.sum(1), 1.0, rtol=1e-5)


def test_windows_are_the_rows_around_each_frame():
    mel = np.repeat(np.arange(400, dtype=np.float32)[:, None], 80, 1) + 1
    times = (np.arange(100) + 0.5) / 25
    windows = mel_windows(mel, times, 0.2, 0.12)
    assert windows.shape == (100, 80, 32)
    # Frame 50 has its middle at 2.02 s: rows 182 ... 213.
    np.testing.assert_array_equal(windows[50, 7], np.arange(182, 214) + 1)
    assert np.all(windows[0, :, :18] == 0) and windows[0, 0, 18] == 1
    assert windows[99, 0, -1] == 0


def test_windows_stop_at_cuts():
    mel = np.ones((400, 80), np.float32)
    times = (np.arange(100) + 0.5) / 25
    segments = (np.arange(100) >= 40).astype(np.int64)
    windows = mel_windows(mel, times, 0.2, 0.2, segments)
    # The cut before frame 40 is at 1.6 s, row 160; frame 40's window starts at row 142.
    assert np.all(windows[40, :, :18] == 0) and np.all(windows[40, :, 18:] == 1)
    assert np.all(windows[39, :, :22] == 1) and np.all(windows[39, :, 22:] == 0)
    assert np.all(windows[50] == 1)
