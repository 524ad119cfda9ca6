"""Video files: what is written is read back; what phones and accidents produce is handled."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nerfad.errors import InputFileError, OutputError, VideoError
from nerfad.io.audio import read_audio, write_wav
from nerfad.io.video import SYNTHETIC_COMMENT, VideoReader, probe, write_video


def moving_square(n: int = 20, height: int = 64, width: int = 96) -> list[np.ndarray]:
    frames = []
    for i in range(n):
        image = np.full((height, width, 3), (30, 90, 160), np.uint8)
        image[8:24, 3 * i : 3 * i + 16] = (220, 60, 40)
        frames.append(image)
    return frames


def chirp(seconds: float, rate: int) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * (200 + 400 * t) * t)).astype(np.float32)


def set_rotation(path: Path, quarter_turns_clockwise: int) -> None:
    """Write a phone's display matrix into the track header of an MP4."""
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns_clockwise]
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 4 + 4 + 20 + 16  # version and flags, times and ids, layer to reserved
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))


def test_round_trip_keeps_pictures_times_and_size(tmp_path: Path) -> None:
    frames = moving_square()
    assert write_video(tmp_path / "a.mp4", frames, 25, crf=8) == 20
    info = probe(tmp_path / "a.mp4")
    assert (info.width, info.height, info.n_frames, info.fps) == (96, 64, 20, 25.0)
    assert (info.vfr, info.rotation, info.has_audio, info.codec) == (False, 0, False, "h264")
    assert info.duration == pytest.approx(0.8)
    with VideoReader(tmp_path / "a.mp4") as reader:
        read = list(reader)
        assert [f.index for f in read] == list(range(20))
        np.testing.assert_allclose([f.time for f in read], np.arange(20) / 25, atol=1e-6)
        for want, got in zip(frames, read, strict=True):
            assert np.abs(want.astype(int) - got.image).mean() < 3.0
        assert len(list(reader)) == 20  # a second pass starts over


def test_written_video_says_it_is_synthetic_and_starts_fast(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(5), 25)
    write_video(tmp_path / "b.mp4", moving_square(5), 25, comment=None)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.metadata["comment"] == SYNTHETIC_COMMENT
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert "comment" not in container.metadata
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")


@pytest.mark.parametrize("rate", [16000, 44100])
def test_sound_starts_with_the_first_frame(tmp_path: Path, rate: int) -> None:
    wave = chirp(2.0, rate)
    write_video(tmp_path / "a.mp4", moving_square(50), 25, (wave, rate))
    assert probe(tmp_path / "a.mp4").audio_rate == rate
    read, read_rate = read_audio(tmp_path / "a.mp4", rate=None)
    assert read_rate == rate
    n = min(len(wave), len(read))
    assert abs(len(read) - len(wave)) < 2048
    lags = range(-40, 41)
    scores = [float(np.dot(wave[100 : n - 100], read[100 + k : n - 100 + k])) for k in lags]
    assert lags[int(np.argmax(scores))] == 0


def test_sound_of_a_file_is_resampled_and_mixed_to_mono(tmp_path: Path) -> None:
    wave = chirp(1.0, 32000)
    write_video(tmp_path / "a.mp4", moving_square(25), 25, (np.stack([wave, -0.5 * wave], 1), 32000))
    read, rate = read_audio(tmp_path / "a.mp4")
    assert rate == 16000 and read.ndim == 1 and read.dtype == np.float32
    want = 0.25 * wave[::2]
    n = min(len(want), len(read))
    assert np.corrcoef(want[:n], read[:n])[0, 1] > 0.98


def test_late_sound_is_padded_to_the_pictures_clock(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "late.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for i, image in enumerate(moving_square(25)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(np.full((1, 8000), 9000, np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 4000, Fraction(1, 16000)
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    wave, _ = read_audio(tmp_path / "late.mkv")
    assert abs(int(np.argmax(np.abs(wave) > 0.1)) - 4000) < 40


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_phones_rotation_is_applied(tmp_path: Path, turns: int) -> None:
    frames = moving_square(4)
    write_video(tmp_path / "a.mp4", frames, 25, crf=5)
    set_rotation(tmp_path / "a.mp4", turns)
    info = probe(tmp_path / "a.mp4")
    assert (info.width, info.height) == ((96, 64) if turns == 2 else (64, 96))
    assert info.rotation == (-90 * turns) % 360
    with VideoReader(tmp_path / "a.mp4") as reader:
        got = next(iter(reader)).image
    want = np.rot90(frames[0], -turns)  # clockwise
    assert got.shape == want.shape
    assert np.abs(want.astype(int) - got).mean() < 3.0


def write_at_times(path: Path, frames: list[np.ndarray], times_ms: list[int]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(1000))
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, time in zip(frames, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_variable_frame_rate_is_noticed_and_retimed(tmp_path: Path) -> None:
    times = [0, 40, 80, 200, 240, 250, 300, 360]
    write_at_times(tmp_path / "v.mp4", moving_square(8), times)
    info = probe(tmp_path / "v.mp4")
    assert info.vfr and info.n_frames == 8
    with VideoReader(tmp_path / "v.mp4") as reader:
        np.testing.assert_allclose([f.time * 1000 for f in reader], times, atol=1)
        out = list(reader.resampled(25.0))
    np.testing.assert_allclose([f.time for f in out], np.arange(10) / 25, atol=1e-9)
    # 160 ms lies nearer to 200 than to 80; 280 and 320 nearer to 300; 360 is the last frame.
    assert [f.index for f in out] == [0, 1, 2, 2, 3, 3, 4, 6, 6, 7]


def test_thirty_frames_a_second_become_twenty_five(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(30, width=128), 30)
    assert not probe(tmp_path / "a.mp4").vfr
    with VideoReader(tmp_path / "a.mp4") as reader:
        out = list(reader.resampled(25.0))
    assert len(out) == 25
    assert max(abs(f.time - f.index / 30) for f in out) <= 0.5 / 30 + 1e-6


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(3, 63, 95), 25)
    info = probe(tmp_path / "a.mp4")
    assert (info.width, info.height) == (96, 64)


def test_missing_file_folder_text_and_sound_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    write_wav(tmp_path / "sound.wav", chirp(0.5, 16000), 16000)
    cases = [
        ("missing.mp4", InputFileError, "missing.mp4 does not exist"),
        (".", InputFileError, "is a folder"),
        ("text.mp4", InputFileError, "text.mp4 is not a video or sound file, or it is truncated"),
        ("empty.mp4", InputFileError, "empty.mp4 is not a video or sound file, or it is truncated"),
        ("sound.wav", VideoError, "sound.wav has no pictures"),
    ]
    for name, kind, message in cases:
        with pytest.raises(kind, match=message) as caught:
            probe(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("faststart", [True, False])
def test_a_truncated_mp4_is_refused(tmp_path: Path, share: float, faststart: bool) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 96, 3), np.uint8) for _ in range(30)]
    if faststart:
        write_video(tmp_path / "a.mp4", frames, 25)
    else:
        write_at_times(tmp_path / "a.mp4", frames, [40 * i for i in range(30)])
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputFileError, match="truncated"):
        probe(tmp_path / "a.mp4")


def test_a_video_without_sound_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "mute.mp4", moving_square(3), 25)
    with pytest.raises(VideoError, match=r"mute.mp4 has no sound track"):
        read_audio(tmp_path / "mute.mp4")


def test_an_interrupted_write_leaves_the_earlier_video(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(3), 25)
    before = (tmp_path / "a.mp4").read_bytes()

    def interrupted():
        yield moving_square(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", interrupted(), 25)
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_no_frames_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no frames"):
        write_video(tmp_path / "a.mp4", [], 25)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_or_type_are_rejected(tmp_path: Path) -> None:
    small, large = moving_square(1)[0], moving_square(1, 80, 96)[0]
    with pytest.raises(ValueError, match=r"frame 1 has shape \[80, 96, 3\]"):
        write_video(tmp_path / "a.mp4", [small, large], 25)
    with pytest.raises(ValueError, match="uint8"):
        write_video(tmp_path / "a.mp4", [small.astype(np.float32)], 25)
    assert list(tmp_path.iterdir()) == []
