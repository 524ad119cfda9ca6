"""Speech synthesis from articulator tracks: a glottal source and noise through formants, in NumPy.

The formants follow the articulators: the first rises as the lips open, the second with the tongue moving
to the front, the third falls as the lips round. Loudness is a gain of its own.
"""

import numpy as np

from nerfad.sample.speech import PHONES, RATE, Utterance

SAMPLE_RATE = 16000
_CONTROL = 200  # spectra a second
_FRAME, _HOP = 512, 80  # of the noise, in samples; the hop is one control period


def _formants(tracks: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Centre frequencies and bandwidths [n, 4] in Hz."""
    gap, rounding, stretch, tongue = (tracks[k] for k in ("gap", "round", "stretch", "tongue"))
    f1 = 260 + 640 * gap
    f2 = 850 + 1350 * tongue - 330 * rounding * (0.4 + tongue)
    f3 = 2450 + 350 * tongue + 250 * stretch - 450 * rounding
    f4 = 3600 + 200 * stretch - 300 * rounding
    centres = np.stack([f1, f2, np.maximum(f3, f2 + 300), f4], -1)
    return centres, np.broadcast_to([70.0, 100.0, 140.0, 220.0], centres.shape)


def _resonance(frequency: np.ndarray, centres: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Magnitude [n, f] of the vocal tract at `frequency` [f] or [n, f]."""
    f = np.broadcast_to(frequency, (len(centres), np.shape(frequency)[-1]))
    out = np.ones_like(f)
    for k in range(centres.shape[1]):
        c, b = centres[:, k, None], widths[:, k, None]
        out = out * c**2 / np.sqrt((f**2 - c**2) ** 2 + (b * f) ** 2)
    return out


def _per_phone(speech: Utterance, attribute: str, n: int, smooth: int = 3) -> np.ndarray:
    """A property of the sounding phone as a track at the control rate, with short fades."""
    times = (np.arange(n) + 0.5) / _CONTROL
    values = np.array([getattr(PHONES[name], attribute) for name in speech.phone_at(times)], float)
    return np.convolve(
        np.pad(values, smooth, mode="edge"), np.ones(2 * smooth + 1) / (2 * smooth + 1), "valid"
    )


def synthesize(speech: Utterance, rng: np.random.Generator) -> np.ndarray:
    """The sound of an utterance, float32 [seconds * 16000] with peaks below 1."""
    n_samples = round(speech.seconds * SAMPLE_RATE)
    n = -(-n_samples // _HOP) + 1
    at = np.minimum((np.arange(n) * RATE) // _CONTROL, len(speech.loudness_db) - 1)
    tracks = {name: track[at] for name, track in speech.tracks.items()}
    gain = 10 ** ((speech.loudness_db[at] + _per_phone(speech, "gain_db", n)) / 20)
    voice, nasal, hiss, breath = (_per_phone(speech, k, n) for k in ("voice", "nasal", "hiss", "breath"))
    centres, widths = _formants(tracks)
    wave = _voiced(centres, widths, voice * gain, nasal, speech.pitch_hz[at], n_samples)
    band = (_per_phone(speech, "hiss_hz", n), _per_phone(speech, "hiss_width", n))
    wave += _noise(
        centres, widths, hiss * gain, band, (breath + 0.10 * np.maximum(voice, hiss)) * gain, n_samples, rng
    )
    wave += 1e-4 * rng.standard_normal(n_samples)
    return (0.7 * wave / np.abs(wave).max()).astype(np.float32)


def _voiced(
    centres: np.ndarray,
    widths: np.ndarray,
    level: np.ndarray,
    nasal: np.ndarray,
    pitch: np.ndarray,
    n_samples: int,
) -> np.ndarray:
    """Harmonics of the pitch, weighted by source tilt and formants; nasals add a murmur and lose the rest."""
    t = np.arange(n_samples) / _HOP
    control = np.arange(len(pitch))
    phase = 2 * np.pi * np.cumsum(np.interp(t, control, pitch)) / SAMPLE_RATE
    n_harmonics = int(7400 / pitch.max())
    harmonics = pitch[:, None] * np.arange(1, n_harmonics + 1)
    oral = _resonance(harmonics, centres, widths)
    murmur = _resonance(harmonics, np.full((len(pitch), 1), 250.0), np.full((len(pitch), 1), 90.0))
    tilt = np.arange(1, n_harmonics + 1) ** -0.6
    amplitude = tilt * (oral * (1 - 0.85 * nasal)[:, None] + 0.8 * murmur * nasal[:, None])
    # equal power whatever the formants: loudness is the gain's alone
    amplitude *= level[:, None] / (np.sqrt((amplitude**2).sum(1, keepdims=True)) + 1e-9)
    wave = np.zeros(n_samples)
    for h in range(n_harmonics):
        start = np.pi * h * h / n_harmonics  # Schroeder's phases keep the peaks low
        wave += np.interp(t, control, amplitude[:, h]) * np.sin((h + 1) * phase + start)
    return wave


def _noise(
    centres: np.ndarray,
    widths: np.ndarray,
    level: np.ndarray,
    band: tuple[np.ndarray, np.ndarray],
    breath: np.ndarray,
    n_samples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Frication in its own band plus breath through the formants, by overlap-add."""
    frequency = np.fft.rfftfreq(_FRAME, 1 / SAMPLE_RATE)
    n = len(level)
    shape = np.exp(-0.5 * ((frequency - band[0][:, None]) / band[1][:, None]) ** 2)
    shape /= np.sqrt((shape**2).sum(1, keepdims=True))
    tract = _resonance(frequency, centres, widths)
    tract /= np.sqrt((tract**2).sum(1, keepdims=True)) + 1e-9
    gains = level[:, None] * shape + breath[:, None] * tract
    white = rng.standard_normal(n * _HOP + _FRAME)
    window = np.hanning(_FRAME + 1)[:-1]
    out = np.zeros(n * _HOP + _FRAME)
    for k in range(n):
        piece = slice(k * _HOP, k * _HOP + _FRAME)
        out[piece] += np.fft.irfft(np.fft.rfft(white[piece] * window) * gains[k]) * window
    out *= 9.0 * _HOP / _FRAME
    return out[_FRAME // 2 : _FRAME // 2 + n_samples]
