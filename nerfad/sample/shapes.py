"""Building blocks of the modelled head: spline profiles, closed grids, smooth bumps.

Lengths are centimetres in the head's own frame: x to the right of the picture, y up, z towards the
camera, origin between the eyes above the ears' axis.
"""

from dataclasses import dataclass

import numpy as np


def smoothstep(low: float, high: float, x: np.ndarray | float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bump(x: np.ndarray | float, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """A Gaussian of height 1 at (cx, cy)."""
    return np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)


def twin_bump(x: np.ndarray, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """A bump on either side of the middle plane."""
    return bump(np.abs(x), y, cx, cy, sx, sy)


def smooth_max(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """The larger of two surfaces with a fillet of the given radius."""
    blend = np.clip(0.5 + 0.5 * (a - b) / radius, 0.0, 1.0)
    return b + (a - b) * blend + radius * blend * (1.0 - blend)


def noise(rng: np.random.Generator, shape: tuple[int, ...], sigma_x: float, sigma_y: float) -> np.ndarray:
    """Smooth noise of zero mean and unit deviation that wraps around."""
    rows, columns = shape
    white = rng.standard_normal(shape)
    fx = np.fft.rfftfreq(columns)[None]
    fy = np.fft.fftfreq(rows)[:, None]
    gain = np.exp(-2 * np.pi**2 * ((fx * sigma_x) ** 2 + (fy * sigma_y) ** 2))
    smooth = np.fft.irfft2(np.fft.rfft2(white) * gain, (rows, columns))
    return smooth / (smooth.std() + 1e-12)


def catmull_rom(knots: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Interpolating spline through `knots` [k,a] at parameters `t` in 0..k-1."""
    last = len(knots) - 1
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    i = np.clip(np.floor(t).astype(np.int64), 0, last - 1)
    u = (t - i)[:, None]
    p0, p1, p2, p3 = (padded[i + k] for k in range(4))
    return 0.5 * (
        2 * p1 + (p2 - p0) * u + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2 + (3 * p1 - p0 - 3 * p2 + p3) * u**3
    )


def grid_triangles(rows: int, columns: int, closed: bool, offset: int = 0) -> np.ndarray:
    """Triangles of a row-major vertex grid, facing along (down a row) x (right a column)."""
    last = columns if closed else columns - 1
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(last), indexing="ij")
    right = (c + 1) % columns
    a, b = r * columns + c, r * columns + right
    down, diagonal = a + columns, b + columns
    triangles = np.stack([np.stack([a, down, b], -1), np.stack([b, down, diagonal], -1)], 2)
    return triangles.reshape(-1, 3) + offset


def grid_normals(points: np.ndarray, closed: bool) -> np.ndarray:
    """Unit normals of a grid of points [rows, columns, 3] by central differences."""
    down = np.empty_like(points)
    down[1:-1] = points[2:] - points[:-2]
    down[0] = points[1] - points[0]
    down[-1] = points[-1] - points[-2]
    right = np.empty_like(points)
    right[:, 1:-1] = points[:, 2:] - points[:, :-2]
    if closed:
        right[:, 0] = points[:, 1] - points[:, -1]
        right[:, -1] = points[:, 0] - points[:, -2]
    else:
        right[:, 0] = points[:, 1] - points[:, 0]
        right[:, -1] = points[:, -1] - points[:, -2]
    normals = np.empty_like(points)
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        normals[..., k] = down[..., i] * right[..., j] - down[..., j] * right[..., i]
    normals /= np.sqrt((normals**2).sum(-1, keepdims=True)) + 1e-9
    return normals


@dataclass(frozen=True)
class Profile:
    """A body of closed cross-sections: per knot its height y, half width, front z, back z, z of its widest
    point and roundness (exponent of the superellipse)."""

    knots: np.ndarray  # [k,6]

    def rows(self, parameters: np.ndarray) -> np.ndarray:
        """Cross-sections at `parameters` (0 = first knot), [rows,6]."""
        sections = catmull_rom(self.knots, parameters)
        sections[:, 1] = np.maximum(sections[:, 1], 0.0)
        return sections

    def parameter_of_height(self, heights: np.ndarray) -> np.ndarray:
        """The parameter at which the body, going down, reaches the given heights."""
        t = np.linspace(0, len(self.knots) - 1, 4001)
        return np.interp(-heights, -catmull_rom(self.knots, t)[:, 0], t)

    def points(self, sections: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Surface points [rows, columns, 3] of sections [rows,6] at angles `theta` (0 = front)."""
        height, width, front, back, middle, power = (sections[:, k, None] for k in range(6))
        sine, cosine = np.sin(theta)[None], np.cos(theta)[None]
        x = width * np.sign(sine) * np.abs(sine) ** (2.0 / power)
        reach = np.where(cosine >= 0, front - middle, middle - back)
        z = middle + reach * np.sign(cosine) * np.abs(cosine) ** (2.0 / power)
        return np.stack([x, np.broadcast_to(height, x.shape), z], -1)
