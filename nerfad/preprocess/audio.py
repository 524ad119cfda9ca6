"""Stage 9: the sound, 16 kHz mono, as long as the frames, and its log-mel features."""

from __future__ import annotations

import numpy as np

from nerfad.errors import VideoError
from nerfad.features.audio import SAMPLE_RATE, load_wave
from nerfad.preprocess import scan
from nerfad.preprocess.workspace import Workspace

STAGE = "audio"
_SILENT = 1e-4


def run(ws: Workspace) -> None:
    """Write aud.wav and aud_mel.npy."""
    ws.report(STAGE, 0, 1)
    wave = load_wave(ws.video)
    n_wanted = round(int(ws.load(scan.STAGE)["n_ticks"]) / ws.job.fps * SAMPLE_RATE)
    missing_s = max(0, n_wanted - len(wave)) / SAMPLE_RATE
    loudness = float(np.sqrt(np.mean(wave**2))) if len(wave) else 0.0
    if loudness < _SILENT:
        raise VideoError(f"{ws.video}: its sound track is silent; name a video in which the person is heard.")
    wave = np.pad(wave[:n_wanted], (0, max(0, n_wanted - len(wave))))
    ws.writer.write_audio(wave)
    ws.save(STAGE, missing_s=missing_s, loudness=loudness)
    ws.report(STAGE, 1, 1)
