"""What the sample person says and how its mouth moves: phones, articulators, action units over time.

A sentence is a sequence of phones. Each phone names where the articulators want to be; the tracks are those
targets smoothed in time, so that neighbours colour each other (coarticulation). Sound (synth.py) and face
(head.py) are both made from the same tracks, which is why the sound tells the mouth.
"""

from dataclasses import dataclass

import numpy as np

RATE = 1000  # articulator samples a second
ARTICULATORS = ("gap", "jaw", "stretch", "round", "raise", "dimple", "press", "tongue")
# articulator -> the action unit it is, and its intensity at full articulation
UNIT_OF = {
    "gap": "AU25",
    "jaw": "AU26",
    "stretch": "AU20",
    "round": "AU18",
    "raise": "AU10",
    "dimple": "AU14",
    "press": "AU24",
}
# seconds of the Gaussian that smooths each articulator: the jaw is slow, the lips are quick
_INERTIA = {"gap": 0.030, "jaw": 0.045, "tongue": 0.025}
_INERTIA_OTHERS = 0.035


@dataclass(frozen=True)
class Phone:
    """One speech sound: where the articulators want to be (0..1) and what makes the noise.

    A negative gap is a closure that pushes through its neighbours' smoothing."""

    name: str
    seconds: float
    gap: float
    jaw: float
    stretch: float = 0.0
    round: float = 0.0
    raise_: float = 0.0
    dimple: float = 0.0
    press: float = 0.0
    tongue: float = 0.4  # 0 back, 1 front
    voice: float = 1.0  # level of the glottal source
    nasal: float = 0.0
    hiss: float = 0.0  # level of frication
    hiss_hz: float = 5000.0
    hiss_width: float = 1500.0
    breath: float = 0.0  # level of noise through the open mouth
    gain_db: float = 0.0

    def targets(self) -> tuple[float, ...]:
        """In the order of ARTICULATORS."""
        return (
            self.gap,
            self.jaw,
            self.stretch,
            self.round,
            self.raise_,
            self.dimple,
            self.press,
            self.tongue,
        )


# Open vowels are not louder than close ones here, and closed consonants not softer: gain_db sees to it that
# loudness says little about the mouth.
VOWELS = (
    Phone("AA", 0.150, 0.90, 0.85, 0.10, 0.00, 0.10, tongue=0.30, gain_db=-8),
    Phone("AE", 0.140, 0.66, 0.60, 0.55, 0.00, 0.30, tongue=0.70, gain_db=-7),
    Phone("EH", 0.130, 0.46, 0.40, 0.35, 0.00, 0.15, 0.15, tongue=0.75, gain_db=-3),
    Phone("IY", 0.130, 0.24, 0.15, 0.80, 0.00, 0.20, 0.55, tongue=1.00, gain_db=2),
    Phone("AO", 0.150, 0.58, 0.60, 0.00, 0.60, 0.00, tongue=0.10, gain_db=-7),
    Phone("UW", 0.140, 0.17, 0.20, 0.00, 1.00, 0.10, tongue=0.15, gain_db=3),
)
CONSONANTS = (
    Phone("M", 0.100, -0.35, 0.12, 0.05, 0.05, 0.0, 0.10, 0.90, 0.35, 1.0, nasal=1.0, gain_db=3),
    Phone("B", 0.090, -0.40, 0.12, 0.00, 0.05, 0.0, 0.05, 1.00, 0.35, 0.25, nasal=0.4, gain_db=1),
    Phone("P", 0.095, -0.40, 0.10, 0.00, 0.05, 0.0, 0.05, 1.00, 0.35, 0.0),
    Phone("F", 0.110, 0.03, 0.10, 0.15, 0.00, 0.60, 0.20, 0.25, 0.40, 0.0, 0.0, 0.5, 7000, 2600, 0),
    Phone(
        "S",
        0.120,
        0.15,
        0.05,
        0.50,
        0.00,
        0.35,
        0.25,
        tongue=0.9,
        voice=0,
        hiss=1.0,
        hiss_hz=6000,
        hiss_width=1100,
        gain_db=1,
    ),
    Phone(
        "SH",
        0.120,
        0.28,
        0.12,
        0.00,
        0.65,
        0.50,
        tongue=0.7,
        voice=0,
        hiss=1.0,
        hiss_hz=3000,
        hiss_width=700,
        gain_db=1,
    ),
    Phone("N", 0.095, 0.26, 0.22, 0.25, 0.00, 0.05, 0.10, 0.0, 0.90, 1.0, nasal=0.6, gain_db=3),
    Phone("HH", 0.100, 0.62, 0.55, 0.10, tongue=0.50, voice=0.0, breath=0.8, gain_db=-9),
    Phone("W", 0.100, 0.09, 0.20, 0.00, 0.95, 0.00, tongue=0.05, gain_db=3),
    Phone("T", 0.085, 0.20, 0.12, 0.25, 0.00, 0.10, 0.10, 0.0, 0.90, 0.0, 0.0, 0.8, 4600, 2200, 0),
)
SILENCE = Phone("SIL", 0.22, -0.30, 0.0, press=0.15, voice=0.0)
PHONES = {phone.name: phone for phone in (*VOWELS, *CONSONANTS, SILENCE)}


@dataclass(frozen=True)
class Utterance:
    """A clip's speech. `tracks` maps articulators to [n] at RATE; `phones` are (name, start, end) in s."""

    seconds: float
    phones: list[tuple[str, float, float]]
    tracks: dict[str, np.ndarray]
    loudness_db: np.ndarray  # [n] at RATE, drawn independently of the phones
    pitch_hz: np.ndarray  # [n] at RATE

    def units_at(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Action-unit intensities in 0..1 at `times` in s."""
        grid = (np.arange(len(self.loudness_db)) + 0.5) / RATE
        return {unit: np.interp(times, grid, self.tracks[name]) for name, unit in UNIT_OF.items()}

    def phone_at(self, times: np.ndarray) -> list[str]:
        """The phone that sounds at each of `times`."""
        starts = np.array([start for _, start, _ in self.phones])
        return [self.phones[k][0] for k in np.searchsorted(starts, times, side="right") - 1]


def _smooth(values: np.ndarray, seconds: float) -> np.ndarray:
    """Gaussian smoothing along time with the ends held."""
    radius = int(4 * seconds * RATE)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / (seconds * RATE)) ** 2)
    padded = np.pad(values, radius, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), "valid")


def _draw_phones(rng: np.random.Generator, seconds: float) -> list[tuple[Phone, float]]:
    """Phones with their lengths: syllables of consonant + vowel in words, words in phrases with pauses.

    Vowels and consonants come from shuffled decks, so that each is seen about equally often."""
    decks: dict[tuple[Phone, ...], list[Phone]] = {VOWELS: [], CONSONANTS: []}

    def draw(kind: tuple[Phone, ...]) -> tuple[Phone, float]:
        if not decks[kind]:
            decks[kind] = [kind[k] for k in rng.permutation(len(kind))]
        phone = decks[kind].pop()
        return phone, phone.seconds * float(np.exp(0.14 * np.clip(rng.standard_normal(), -2, 2)))

    out, total, syllables = [(SILENCE, 0.18)], 0.18, 0
    pause_after = int(rng.integers(7, 13))
    while total < seconds:
        syllable = [draw(CONSONANTS), draw(VOWELS)]
        if rng.random() < 0.18:
            syllable.append(draw(CONSONANTS))
        syllables += 1
        if syllables >= pause_after:
            syllable.append((SILENCE, float(rng.uniform(0.14, 0.30))))
            syllables, pause_after = 0, int(rng.integers(7, 13))
        out += syllable
        total += sum(length for _, length in syllable)
    return out


def _wander(rng: np.random.Generator, n: int, seconds: float) -> np.ndarray:
    """Smooth random track of unit deviation that varies over about `seconds`."""
    knots = rng.standard_normal(int(n / RATE / seconds) + 8)
    coarse = np.interp(np.arange(n) / RATE / seconds + 2, np.arange(len(knots)), knots)
    return _smooth(coarse, seconds / 4) / 0.75


def draw_utterance(rng: np.random.Generator, seconds: float, pitch_hz: float) -> Utterance:
    """Random speech of the given length."""
    n = round(seconds * RATE)
    sequence = _draw_phones(rng, seconds)
    ends = np.cumsum([length for _, length in sequence])
    starts = ends - [length for _, length in sequence]
    grid = (np.arange(n) + 0.5) / RATE
    owner = np.minimum(np.searchsorted(ends, grid, side="right"), len(sequence) - 1)
    targets = np.array([phone.targets() for phone, _ in sequence])
    emphasis = 1 + 0.10 * np.clip(rng.standard_normal(len(sequence)), -2, 2)
    tracks = {}
    for k, name in enumerate(ARTICULATORS):
        wanted = targets[:, k] * (emphasis if name in ("gap", "jaw") else 1.0)
        tracks[name] = np.clip(_smooth(wanted[owner], _INERTIA.get(name, _INERTIA_OTHERS)), 0.0, 1.0)
    level = rng.uniform(-6, 6, len(sequence))[owner] + 2.5 * _wander(rng, n, 0.5)
    return Utterance(
        seconds,
        [
            (p.name, float(a), float(min(b, seconds)))
            for (p, _), a, b in zip(sequence, starts, ends, strict=True)
            if a < seconds
        ],
        tracks,
        _smooth(level, 0.02),
        pitch_hz * np.exp(0.10 * _wander(rng, n, 0.45)),
    )
