"""The sample's speech: the sound tells the mouth, its loudness does not."""

import numpy as np
import pytest

from nerfad.data.audio_windows import mel_windows
from nerfad.features.audio import SAMPLE_RATE, log_mel
from nerfad.sample.generate import Script, write_script
from nerfad.sample.speech import PHONES

SECONDS = 20.0
LIPS_SHUT = ("M", "B", "P")


@pytest.fixture(scope="module", params=[0, 1])
def script(request: pytest.FixtureRequest) -> Script:
    return write_script(SECONDS, request.param)


def _gap(script: Script) -> np.ndarray:
    return script.speech.units_at(script.times)["AU25"]


def _best_ridge(features: np.ndarray, target: np.ndarray) -> float:
    """Correlation on the last fifth of a ridge regression fitted on the rest, at its best penalty."""
    n = int(0.8 * len(target))
    mean, spread = features[:n].mean(0), features[:n].std(0) + 1e-6
    x = (features - mean) / spread
    u, s, vt = np.linalg.svd(x[:n], full_matrices=False)
    projected = u.T @ (target[:n] - target[:n].mean())
    scores = []
    for penalty in 10.0 ** np.arange(-2, 5):
        predicted = x[n:] @ (vt.T @ (projected * s / (s**2 + penalty)))
        scores.append(np.corrcoef(predicted, target[n:])[0, 1])
    return max(scores)


def _kernel_ridge(features: np.ndarray, target: np.ndarray) -> float:
    n = int(0.8 * len(target))
    x = features - features[:n].mean(0)
    distances = ((x[:, None] - x[None, :n]) ** 2).sum(-1)
    gram = np.exp(-distances / np.median(distances))
    dual = np.linalg.solve(gram[:n] + 1e-2 * np.eye(n), target[:n] - target[:n].mean())
    return float(np.corrcoef(gram[n:] @ dual, target[n:])[0, 1])


def test_loudness_does_not_tell_the_mouth(script: Script) -> None:
    # ±200 ms of frame energy, linear and in decibels
    hop = SAMPLE_RATE // 100
    frames = script.wave[: len(script.wave) // hop * hop].reshape(-1, hop)
    level = np.sqrt((frames.astype(np.float64) ** 2).mean(1)) + 1e-5
    tracks = np.stack([level, np.log(level)], 1).astype(np.float32)
    padded = np.pad(tracks, ((20, 20), (0, 0)))
    first = np.round(100 * script.times).astype(int)
    windows = np.stack([padded[k : k + 40].ravel() for k in first])
    assert _best_ridge(windows, _gap(script)) <= 0.6


def test_the_sound_tells_the_mouth(script: Script) -> None:
    mel = log_mel(script.wave)
    windows = mel_windows(mel, script.times, 0.04, 0.04).reshape(len(script.times), -1)
    assert _best_ridge(windows, _gap(script)) >= 0.8
    basis = np.linalg.svd(windows - windows.mean(0), full_matrices=False)[2][:60].T
    assert _kernel_ridge(windows @ basis, _gap(script)) >= 0.94


def test_lips_meet_in_closures_and_round_for_w(script: Script) -> None:
    for name, start, end in script.speech.phones:
        units = script.speech.units_at(np.array([0.5 * (start + end)]))
        if name in LIPS_SHUT and end < SECONDS:
            assert units["AU25"][0] <= 0.02, (name, start)
        if name in ("W", "UW") and end < SECONDS:
            assert units["AU18"][0] >= 0.5, (name, start)


def test_every_phone_is_heard_often_in_the_training_part(script: Script) -> None:
    said = [name for name, start, _ in script.speech.phones if start < 0.8 * SECONDS]
    for name in PHONES:
        assert said.count(name) >= (4 if name != "SIL" else 2), name


def test_neighbours_colour_each_other(script: Script) -> None:
    # Coarticulation: the same vowel is not always equally open.
    opened = [
        script.speech.units_at(np.array([0.5 * (start + end)]))["AU25"][0]
        for name, start, end in script.speech.phones
        if name == "EH"
    ]
    assert np.std(opened) >= 0.02


def test_sound_is_loud_enough_and_not_clipped(script: Script) -> None:
    assert len(script.wave) == SECONDS * SAMPLE_RATE
    assert 0.5 <= np.abs(script.wave).max() < 1.0
    assert np.sqrt((script.wave**2).mean()) >= 0.02
