"""Phone posteriors: the arithmetic with a made-up model, the sense of it with the real one."""

import numpy as np
import pytest

from nerfad.errors import InputFileError
from nerfad.features import phones
from nerfad.features.audio import log_mel
from nerfad.features.phones import PhoneModel, cepstra, cepstral_mean

RATE = 16000
# Order of the model's phones: +NSN+ +SPN+ AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW
# OY P R S SH SIL T TH UH UW V W Y Z ZH.
VOWELS = {2, 3, 4, 5, 6, 7, 12, 13, 14, 18, 19, 26, 27, 35, 36}
HISSES = {9, 15, 20, 30, 31, 33, 34, 40, 41}
SILENCE = {0, 1, 32}


@pytest.fixture(scope="module")
def made_up() -> PhoneModel:
    rng = np.random.default_rng(0)
    shape = (phones.N_PHONES, 3, phones.N_GAUSSIANS, phones.N_CEPSTRA)
    weights = rng.dirichlet(np.ones(phones.N_GAUSSIANS), (phones.N_PHONES, 3, 3))
    return PhoneModel(
        rng.normal(0, 10, shape).astype(np.float32),
        rng.uniform(20, 90, shape).astype(np.float32),
        np.log(weights).astype(np.float32),
    )


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return (np.random.default_rng(1).normal(size=RATE) * 0.05).astype(np.float32)


def test_posteriors_are_roots_of_distributions(made_up, noise):
    rows = made_up.posteriors(noise, cepstral_mean(noise))
    assert rows.shape == (100, 42) and rows.dtype == np.float32
    np.testing.assert_allclose((rows**2).sum(1), 1, atol=1e-5)


def test_scores_are_those_of_a_gaussian_mixture(made_up):
    row = np.random.default_rng(2).normal(0, 10, (1, 3, 13))
    phone, state = 17, 1
    expected = 0.0
    for s in range(3):
        mean, variance = made_up.means[phone, s].astype(float), made_up.variances[phone, s].astype(float)
        densities = np.exp(-0.5 * ((row[0, s] - mean) ** 2 / variance).sum(1))
        densities /= np.sqrt((2 * np.pi * variance).prod(1))
        expected += np.log((np.exp(made_up.log_weights[phone, state, s]) * densities).sum())
    np.testing.assert_allclose(made_up._log_scores(row)[0, phone, state], expected, rtol=1e-4)


@pytest.mark.parametrize("n_samples", [1, 159, 160, 161, 16000, 16123])
def test_rows_are_those_of_log_mel(made_up, n_samples):
    wave = np.random.default_rng(0).normal(size=n_samples).astype(np.float32)
    assert len(made_up.posteriors(wave, np.zeros(13))) == len(log_mel(wave)) == len(cepstra(wave))


def test_no_sound_has_no_rows(made_up):
    empty = np.zeros(0, np.float32)
    assert made_up.posteriors(empty, cepstral_mean(empty)).shape == (0, 42)


def test_a_row_hears_no_further_than_it_says(made_up, noise):
    changed = noise.copy()
    row = 40
    changed[(row + phones.LOOKAHEAD_ROWS) * 160 :] = 0
    before, after = (made_up.posteriors(w, np.zeros(13)) for w in (noise, changed))
    np.testing.assert_allclose(after[:row], before[:row], atol=1e-6)
    assert np.abs(after[row + 1 :] - before[row + 1 :]).max() > 1e-3


def test_own_mean_takes_level_away(made_up, noise):
    loud, quiet = noise, noise * 0.2
    np.testing.assert_allclose(
        made_up.posteriors(loud, cepstral_mean(loud)),
        made_up.posteriors(quiet, cepstral_mean(quiet)),
        atol=1e-2,
    )


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    for name in ("means", "variances", "sendump"):
        (tmp_path / name).write_bytes(b"s3\nendhdr\n" + bytes(64))
    with pytest.raises(InputFileError, match="not a pocketsphinx acoustic model"):
        phones.load_phone_model(tmp_path)


def resonator(source: np.ndarray, formants: tuple[float, ...]) -> np.ndarray:
    spectrum, hz = np.fft.rfft(source), np.fft.rfftfreq(len(source), 1 / RATE)
    gain = sum(np.exp(-0.5 * ((hz - f) / 90) ** 2) / (1 + i) for i, f in enumerate(formants))
    return np.fft.irfft(spectrum * gain, len(source))


def test_vowels_hisses_and_silence_are_told_apart():
    pytest.importorskip("pocketsphinx")
    rng = np.random.default_rng(0)
    pulses = np.zeros(RATE // 2)
    pulses[:: RATE // 120] = 1
    vowel = resonator(pulses, (730, 1090, 2440))
    spectrum = np.fft.rfft(rng.normal(size=RATE // 2))
    spectrum[: int(3500 / 2)] = 0  # 2 Hz per bin
    hiss = np.fft.irfft(spectrum, RATE // 2)
    silence = rng.normal(size=RATE // 2)
    parts = [vowel / vowel.std() * 0.1, hiss / hiss.std() * 0.03, silence * 1e-4]
    wave = np.concatenate(parts * 2).astype(np.float32)
    best = phones.load_phone_model().posteriors(wave, cepstral_mean(wave)).argmax(1)
    for start, family in ((0, VOWELS), (50, HISSES), (100, SILENCE)):
        heard = best[start + 10 : start + 40]
        assert np.isin(heard, list(family)).mean() > 0.7, (family, heard)
