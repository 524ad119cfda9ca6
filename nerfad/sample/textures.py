"""Painted surfaces: skin, hair, eyes, teeth, cloth and the wall behind, all from formulas and seeded noise.

Colours are sRGB in 0..1. Skin is painted in the plane of the neutral face seen from the front, so a tile's
pixel (column, row) is the point x = column / PER_CM - SKIN_HALF_WIDTH, y = SKIN_TOP - row / PER_CM.
"""

import cv2
import numpy as np

from nerfad.sample.head import EYE_HALF_WIDTH, EYE_X, MOUTH_HALF_WIDTH, MOUTH_Y, eye_opening
from nerfad.sample.identity import Color, Identity
from nerfad.sample.shapes import bump, noise, smoothstep, twin_bump

PER_CM = 32
SKIN_HALF_WIDTH = 9.0
SKIN_TOP = 13.0
SKIN_BOTTOM = -13.0
HAIR_TILE = 512
EYE_TILE = 192
CLOTH_TILE = 512


def blend(image: np.ndarray, color: Color | np.ndarray, mask: np.ndarray) -> None:
    """Paint `color` over `image` in place where `mask` is 1."""
    image += (np.asarray(color, np.float32) - image) * np.clip(mask, 0, 1).astype(np.float32)[..., None]


_HAIRLINES = {
    # degrees from the front -> lowest height of hair in cm
    "short": [
        (0, 6.7),
        (22, 6.4),
        (40, 5.9),
        (50, 4.0),
        (60, 2.4),
        (68, 0.2),
        (80, -1.6),
        (88, -1.0),
        (95, 2.2),
        (112, 1.6),
        (124, -3.5),
        (180, -7.5),
    ],
    "cropped": [
        (0, 7.2),
        (20, 7.4),
        (38, 6.6),
        (48, 4.2),
        (60, 2.8),
        (70, 0.6),
        (80, -0.8),
        (88, 0.0),
        (95, 2.4),
        (112, 1.8),
        (124, -3.0),
        (180, -6.5),
    ],
    "side_part": [
        (0, 5.9),
        (22, 5.6),
        (40, 4.8),
        (52, 2.6),
        (60, 0.2),
        (68, -3.5),
        (78, -7.5),
        (95, -8.5),
        (180, -9.0),
    ],
    "long": [(0, 6.5), (20, 6.2), (38, 5.2), (48, 3.0), (56, 0.0), (62, -6.0), (68, -15.0), (180, -15.0)],
}


def hairline(style: str, degrees: np.ndarray) -> np.ndarray:
    """Lowest height of hair in cm at angles from the front."""
    knots = np.array(_HAIRLINES[style], float)
    line = sum(np.interp(np.abs(degrees + d), *knots.T) for d in (-4, -2, 0, 2, 4)) / 5
    if style == "side_part":  # the fringe sweeps from a parting on one side
        line += 1.3 * np.exp(-(((degrees - 18) / 16) ** 2)) - 0.5 * np.exp(-(((degrees + 25) / 18) ** 2))
    return line


def skin_tile(who: Identity) -> np.ndarray:
    rng = np.random.default_rng([who.texture_seed, 1])
    columns, rows = int(2 * SKIN_HALF_WIDTH * PER_CM), int((SKIN_TOP - SKIN_BOTTOM) * PER_CM)
    x, y = np.meshgrid(
        (np.arange(columns) + 0.5) / PER_CM - SKIN_HALF_WIDTH, SKIN_TOP - (np.arange(rows) + 0.5) / PER_CM
    )
    skin = np.asarray(who.skin)
    image = np.broadcast_to(skin, (rows, columns, 3)).astype(np.float32)
    image *= 1 + 0.018 * noise(rng, (rows, columns), 60, 60)[..., None]
    image *= 1 + 0.010 * noise(rng, (rows, columns), 2.5, 2.5)[..., None]
    blush = skin * (1.0, 0.76, 0.74)
    blend(image, blush, 0.45 * twin_bump(x, y, 4.0, -3.2, 1.9, 1.5))
    blend(image, blush, 0.45 * bump(x, y, 0, -3.7, 1.1, 0.9) + 0.2 * bump(x, y, 0, -10, 1.6, 0.9))
    _paint_eye_surroundings(image, who, x, y)
    _paint_nose(image, who, x, y)
    if who.stubble:
        _paint_stubble(image, who, x, y, rng)
    _paint_lips(image, who, x, y, rng)
    _paint_brows(image, who, x, y, rng)
    image *= (1 - 0.35 * smoothstep(-10.6, -11.9, y))[..., None]
    around = np.degrees(np.arcsin(np.clip(x[0] / 7.4, -1, 1)))
    above = hairline(who.hair_style, around)[None] - y  # the hair's shadow
    image *= (1 - 0.16 * smoothstep(1.3, 0.0, above))[..., None]
    return image


def _paint_eye_surroundings(image: np.ndarray, who: Identity, x: np.ndarray, y: np.ndarray) -> None:
    skin = np.asarray(who.skin)
    eye_x = EYE_X * who.eye_spacing
    blend(image, skin * (0.74, 0.64, 0.62), 0.30 * twin_bump(x, y, eye_x - 0.2, 0.35, 1.9, 1.0))
    blend(image, skin * (0.66, 0.56, 0.56), 0.35 * twin_bump(x, y, 1.55, 0.35, 0.55, 0.8))
    _, to_upper, to_lower = eye_opening(who, x, y, 0.0)
    u = (np.abs(x) - eye_x) / (EYE_HALF_WIDTH + 0.12)
    along = smoothstep(1.0, 0.75, np.abs(u))
    crease = np.exp(-(((-to_upper - 0.30) / 0.075) ** 2)) * along
    blend(image, skin * (0.50, 0.40, 0.38), 0.75 * crease)
    bag = np.exp(-(((-to_lower - 0.45) / 0.16) ** 2)) * along
    blend(image, skin * (0.70, 0.60, 0.60), 0.22 * bag)


def _paint_nose(image: np.ndarray, who: Identity, x: np.ndarray, y: np.ndarray) -> None:
    skin = np.asarray(who.skin)
    stretch = 1.0 + (y - 1.0) / who.nose_length
    blend(image, skin * (0.62, 0.50, 0.48), 0.55 * bump(x, stretch, 0, -4.75, 1.25 * who.nose_width, 0.34))
    nostril = twin_bump(x, stretch, 0.62 * who.nose_width, -4.52, 0.36, 0.17)
    blend(image, skin * (0.26, 0.17, 0.16), 1.35 * nostril)
    # the fold between wing and cheek, and the one that runs down past the mouth
    wing = np.exp(-(((np.abs(x) - 1.72 * who.nose_width) / 0.16) ** 2)) * bump(0, stretch, 0, -4.0, 1, 0.55)
    blend(image, skin * (0.58, 0.46, 0.44), 0.6 * wing)
    t = np.clip((-4.3 - y) / 2.6, 0, 1)
    fold = np.exp(-(((np.abs(x) - (1.95 + 1.25 * t)) / 0.22) ** 2))
    blend(
        image, skin * (0.70, 0.58, 0.55), 0.20 * fold * smoothstep(-3.9, -4.7, y) * smoothstep(-7.2, -6.2, y)
    )


def _paint_lips(
    image: np.ndarray, who: Identity, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> None:
    w = MOUTH_HALF_WIDTH * who.mouth_width
    across = np.clip(1 - (x / (w + 0.05)) ** 2, 0, 1)
    d = y - MOUTH_Y
    bow = 0.16 * bump(x, y * 0, 0, 0, 0.38, 1) - 0.10 * twin_bump(x, y * 0, 0.62, 0, 0.4, 1)
    top = (0.86 * across**0.75 - bow * across) * who.lip_fullness
    bottom = 1.02 * across**0.62 * who.lip_fullness
    soft = 0.07
    mask = (
        smoothstep(-soft, soft, top - d) * smoothstep(-soft, soft, d + bottom) * smoothstep(0, 0.15, across)
    )
    lips = np.asarray(who.lips) * (1 + 0.05 * noise(rng, x.shape, 1.6, 9)[..., None])
    lips = lips * (0.90 + 0.10 * smoothstep(0.1, -0.4, d))[..., None]
    image += (lips - image) * (0.92 * mask)[..., None]
    skin = np.asarray(who.skin)
    blend(image, np.asarray(who.lips) * 0.38, 0.85 * np.exp(-((d / 0.07) ** 2)) * smoothstep(0, 0.1, across))
    corner = twin_bump(x, y, w + 0.05, MOUTH_Y, 0.28, 0.16)
    blend(image, skin * (0.45, 0.33, 0.32), 0.8 * corner)
    under = np.exp(-(((d + bottom + 0.28) / 0.24) ** 2)) * across
    blend(image, skin * (0.66, 0.54, 0.52), 0.5 * under)


def _paint_brows(
    image: np.ndarray, who: Identity, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> None:
    u = (np.abs(x) - 1.45) / 4.0  # 0 inner end, 1 outer end
    ridge = 1.62 * who.brow_height + 0.62 * np.sin(np.pi * np.clip(0.12 + 0.75 * u, 0, 1)) - 0.12 * u
    half = who.brow_weight * (0.36 - 0.24 * np.clip(u, 0, 1) ** 1.4)
    inside = smoothstep(0.10, -0.12, np.abs(y - ridge) - half) * smoothstep(-0.06, 0.10, u)
    inside *= smoothstep(1.05, 0.85, u)
    strokes = 0.78 + 0.22 * noise(rng, x.shape, 3.0, 1.2)
    dark = np.asarray(who.hair) * 0.62
    blend(image, dark, 0.88 * inside * np.clip(strokes, 0.3, 1))


def _paint_stubble(
    image: np.ndarray, who: Identity, x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> None:
    region = smoothstep(-5.0, -6.4, y + 0.16 * np.abs(x)) * smoothstep(7.5, 5.5, np.abs(x))
    region = np.maximum(region, 0.8 * bump(x, y, 0, -5.8, 2.0, 0.55))
    grain = 0.7 + 0.3 * noise(rng, x.shape, 1.0, 1.0)
    tone = 0.55 * np.asarray(who.skin) * (0.86, 0.88, 0.92) + 0.25 * np.asarray(who.hair)
    blend(image, tone, 0.62 * who.stubble * region * np.clip(grain, 0.2, 1))


def hair_tile(who: Identity) -> np.ndarray:
    """Strands run down the tile's columns; both directions wrap."""
    rng = np.random.default_rng([who.texture_seed, 2])
    size = HAIR_TILE
    fine = noise(rng, (size, size), 1.0, 40)
    locks = noise(rng, (size, size), 5.0, 60)
    tone = 1.0 + 0.15 * fine + 0.13 * locks
    return np.asarray(who.hair) * np.clip(tone, 0.35, 1.9)[..., None]


def eye_tile(who: Identity) -> np.ndarray:
    """The front of an eyeball, orthographic: the tile spans -1..1 radii."""
    size = EYE_TILE
    v, u = np.meshgrid(np.linspace(1, -1, size), np.linspace(-1, 1, size), indexing="ij")
    r = np.hypot(u, v)
    white = np.array([0.90, 0.88, 0.86])
    image = np.broadcast_to(white, (size, size, 3)).astype(np.float32)
    blend(image, (0.80, 0.62, 0.58), 0.55 * smoothstep(0.5, 1.0, np.abs(u)))
    rng = np.random.default_rng([who.texture_seed, 3])
    rays = np.interp(np.arctan2(v, u), np.linspace(-np.pi, np.pi, 91), rng.uniform(0.75, 1.25, 91))
    iris = np.asarray(who.iris) * (rays * (0.85 + 0.5 * smoothstep(0.2, 0.4, r)))[..., None]
    disc = smoothstep(0.53, 0.49, r)
    image += (iris - image) * disc[..., None]
    blend(image, np.asarray(who.iris) * 0.25, 0.8 * disc * smoothstep(0.41, 0.51, r))
    blend(image, (0.03, 0.03, 0.03), smoothstep(0.22, 0.18, r))
    image *= (1 - 0.45 * smoothstep(0.10, 0.55, v))[..., None]  # the upper lid's shadow
    blend(image, (1.0, 1.0, 1.0), 0.9 * smoothstep(0.10, 0.06, np.hypot(u + 0.14, v - 0.17)))
    return image


def cloth_tile(who: Identity) -> np.ndarray:
    rng = np.random.default_rng([who.texture_seed, 4])
    size = CLOTH_TILE
    folds = noise(rng, (size, size), 26, 60)
    weave = noise(rng, (size, size), 1.0, 1.0)
    return np.asarray(who.cloth) * np.clip(1 + 0.08 * folds + 0.03 * weave, 0.5, 1.5)[..., None]


def wall(who: Identity, width: int, height: int) -> np.ndarray:
    """The static background [height, width, 3]: a wall in soft light with a shelf out of focus."""
    rng = np.random.default_rng([who.texture_seed, 5])
    size = 256
    u, v = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    image = np.asarray(who.wall) * (1.08 - 0.30 * np.hypot(u - 0.35, v - 0.25))[..., None]
    for _ in range(9):
        left, top = rng.uniform(-0.1, 1.0), rng.uniform(-0.05, 0.75)
        box = smoothstep(-0.03, 0.03, u - left) * smoothstep(0.03, -0.03, u - left - rng.uniform(0.08, 0.3))
        box *= smoothstep(-0.03, 0.03, v - top) * smoothstep(0.03, -0.03, v - top - rng.uniform(0.1, 0.4))
        blend(image, np.asarray(who.wall) * rng.uniform(0.55, 1.15) * rng.uniform(0.92, 1.08, 3), 0.55 * box)
    soft = cv2.GaussianBlur(np.clip(image, 0, 1).astype(np.float32), (0, 0), 5)
    return cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
