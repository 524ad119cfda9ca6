"""Sound in and out: any container PyAV reads, as mono float32 on the pictures' clock; 16-bit WAV out."""

from __future__ import annotations

import os
import wave as wave_module

import av
import av.error
import numpy as np

from nerfad.errors import InputFileError, VideoError
from nerfad.io.atomic import atomic_path
from nerfad.io.video import open_container


def read_audio(path: str | os.PathLike[str], rate: int | None = 16000) -> tuple[np.ndarray, int]:
    """Read the first sound track as (mono float32 [n] in [-1, 1], rate).

    Sample 0 is at the time of the video's first frame where the file has pictures: sound that starts
    later is padded, sound that starts earlier is cut. `rate` None keeps the file's own rate.
    Raises `VideoError` for a file without sound.
    """
    with open_container(path) as container:
        if not container.streams.audio:
            raise VideoError(f"{os.fspath(path)} has no sound track; a talking face is driven by sound.")
        stream = container.streams.audio[0]
        rate = rate or stream.rate
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        blocks: list[np.ndarray] = []
        start = None
        try:
            for frame in container.decode(stream):
                start = frame.time if start is None else start
                blocks += [out.to_ndarray().reshape(-1) for out in resampler.resample(frame)]
            blocks += [out.to_ndarray().reshape(-1) for out in resampler.resample(None)]
        except av.error.FFmpegError:
            raise InputFileError(
                f"the sound of {os.fspath(path)} is damaged after {sum(map(len, blocks)) / rate:.1f} s; "
                "copy it again."
            ) from None
        offset = (start or 0.0) - _picture_start(container)
    if not blocks:
        raise VideoError(f"the sound track of {os.fspath(path)} is empty.")
    return _shifted(np.concatenate(blocks), round(offset * rate)), rate


def _picture_start(container: av.container.InputContainer) -> float:
    for stream in container.streams.video:
        if stream.start_time is not None and stream.time_base is not None:
            return float(stream.start_time * stream.time_base)
    return 0.0


def _shifted(wave: np.ndarray, n: int) -> np.ndarray:
    return np.pad(wave, (n, 0)) if n > 0 else wave[-n:]


def write_wav(path: str | os.PathLike[str], wave: np.ndarray, rate: int) -> None:
    """Write float32 mono in [-1, 1] as a 16-bit WAV file."""
    samples = np.round(np.clip(wave, -1, 1) * 32767).astype("<i2")
    with atomic_path(path) as temporary, wave_module.open(os.fspath(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
