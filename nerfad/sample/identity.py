"""Who the sample head is: proportions, colours, hair and clothes, drawn from a seed."""

from dataclasses import dataclass

import numpy as np

Color = tuple[float, float, float]

DARK, BLACK, BROWN, BLOND, RED, GREY = (
    (0.20, 0.13, 0.09),
    (0.10, 0.085, 0.08),
    (0.38, 0.25, 0.14),
    (0.62, 0.46, 0.26),
    (0.45, 0.20, 0.11),
    (0.50, 0.48, 0.46),
)
HAZEL, BLUE, GREEN, UMBER = (0.33, 0.22, 0.13), (0.30, 0.42, 0.52), (0.35, 0.42, 0.27), (0.20, 0.13, 0.09)
# sRGB 0..1: a skin tone, the lip colour, and the hair and eyes drawn with it
COMPLEXIONS: tuple[tuple[Color, Color, tuple[Color, ...], tuple[Color, ...]], ...] = (
    ((0.87, 0.69, 0.58), (0.74, 0.40, 0.38), (BROWN, DARK, GREY), (BLUE, GREEN, HAZEL)),
    ((0.50, 0.345, 0.26), (0.47, 0.25, 0.24), (BLACK, BLACK, DARK), (UMBER, UMBER, HAZEL)),
    ((0.91, 0.75, 0.66), (0.80, 0.45, 0.45), (RED, BLOND, BROWN), (GREEN, BLUE, BLUE)),
    ((0.80, 0.61, 0.48), (0.68, 0.36, 0.33), (BLACK, DARK, BLACK), (UMBER, HAZEL, UMBER)),
    ((0.63, 0.45, 0.34), (0.55, 0.30, 0.28), (DARK, BLACK, DARK), (HAZEL, UMBER, UMBER)),
)
CLOTH_COLORS: tuple[Color, ...] = (
    (0.22, 0.33, 0.47),
    (0.47, 0.22, 0.24),
    (0.25, 0.36, 0.29),
    (0.72, 0.70, 0.65),
    (0.24, 0.23, 0.27),
    (0.62, 0.46, 0.28),
)
WALL_COLORS: tuple[Color, ...] = (
    (0.62, 0.66, 0.70),
    (0.72, 0.66, 0.58),
    (0.52, 0.60, 0.58),
    (0.66, 0.62, 0.68),
)
HAIR_STYLES = ("short", "long", "side_part", "cropped")
COLLARS = ("crew", "shirt", "turtleneck")


@dataclass(frozen=True)
class Identity:
    """One person. Lengths are factors on the average head unless said; colours are sRGB in 0..1."""

    face_width: float
    jaw_width: float
    chin_length: float
    nose_length: float
    nose_width: float
    eye_spacing: float
    eye_opening: float
    mouth_width: float
    lip_fullness: float
    brow_height: float
    brow_weight: float
    skin: Color
    lips: Color
    hair: Color
    iris: Color
    cloth: Color
    wall: Color
    hair_style: str
    collar: str
    stubble: float
    texture_seed: int
    pitch_hz: float  # of the voice


def draw_identity(seed: int) -> Identity:
    """The person of a seed. Seeds 0, 1, 2, … walk through the styles so that neighbours look different."""
    rng = np.random.default_rng([seed, 0x1DE])

    def factor(spread: float) -> float:
        return float(1.0 + spread * np.clip(rng.standard_normal(), -1.8, 1.8))

    style = HAIR_STYLES[seed % len(HAIR_STYLES)]
    feminine = style in ("long", "side_part")
    skin, lips, hairs, irises = COMPLEXIONS[seed % len(COMPLEXIONS)]
    return Identity(
        face_width=factor(0.025),
        jaw_width=factor(0.03) * (0.95 if feminine else 1.02),
        chin_length=factor(0.02) * (0.97 if feminine else 1.02),
        nose_length=factor(0.05),
        nose_width=factor(0.06) * (0.92 if feminine else 1.04),
        eye_spacing=factor(0.02),
        eye_opening=factor(0.06) * (1.08 if feminine else 0.98),
        mouth_width=factor(0.03),
        lip_fullness=factor(0.08) * (1.15 if feminine else 0.95),
        brow_height=factor(0.05),
        brow_weight=factor(0.12) * (0.75 if feminine else 1.15),
        skin=skin,
        lips=lips,
        hair=hairs[int(rng.integers(len(hairs)))],
        iris=irises[int(rng.integers(len(irises)))],
        cloth=CLOTH_COLORS[(seed + int(rng.integers(2))) % len(CLOTH_COLORS)],
        wall=WALL_COLORS[seed % len(WALL_COLORS)],
        hair_style=style,
        collar=COLLARS[seed % len(COLLARS)],
        stubble=0.0 if feminine else float(rng.uniform(0.0, 0.8)),
        texture_seed=int(rng.integers(2**31)),
        pitch_hz=float(rng.uniform(180, 215) if feminine else rng.uniform(100, 130)),
    )
