"""A z-buffer rasterizer in vectorised NumPy for meshes of many small triangles.

All candidate (triangle, pixel) pairs are laid out in one long list, tested at once and merged with one
`maximum.at` on 1/z, so there is no loop in Python. That is fast when triangles cover a few pixels each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# discard(triangle [k], bary [k,3]) -> bool [k], True where the fragment is a hole
Discard = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Fragments:
    """The visible surface: one row per covered pixel."""

    pixel: np.ndarray  # [k] int64, row-major index into the buffer
    triangle: np.ndarray  # [k] int64
    bary: np.ndarray  # [k,3] float32, perspective-correct weights of the triangle's corners
    depth: np.ndarray  # [k] float32, distance along the optical axis

    def interpolate(self, triangles: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Per-vertex `values` [v,a] at the fragments, [k,a]."""
        corners = triangles[self.triangle]
        out = self.bary[:, :1] * values[corners[:, 0]]
        out += self.bary[:, 1:2] * values[corners[:, 1]]
        out += self.bary[:, 2:] * values[corners[:, 2]]
        return out


def rasterize(
    points: np.ndarray,
    depth: np.ndarray,
    triangles: np.ndarray,
    width: int,
    height: int,
    holes: np.ndarray | None = None,
    discard: Discard | None = None,
) -> Fragments:
    """Visible fragments of `triangles` [t,3] whose vertices lie at `points` [v,2] pixels, `depth` [v] > 0.

    Pixel (i, j) is sampled at its centre (i + 0.5, j + 0.5). Triangles that turn their back (clockwise on
    the screen, y down) are skipped. Fragments of triangles flagged in `holes` [t] are offered to `discard`.
    """
    # columns, not rows: reductions over an axis of length 3 are slow
    x, y = np.ascontiguousarray(points[:, 0]), np.ascontiguousarray(points[:, 1])
    i0, i1, i2 = triangles.T
    x0, x1, x2, y0, y1, y2 = x[i0], x[i1], x[i2], y[i0], y[i1], y[i2]
    area = (x2 - x0) * (y1 - y0) - (x1 - x0) * (y2 - y0)
    first_x, last_x = _span(x0, x1, x2, width)
    first_y, last_y = _span(y0, y1, y2, height)
    keep = np.flatnonzero((area > 1e-12) & (last_x >= first_x) & (last_y >= first_y))
    first_x, first_y = first_x[keep], first_y[keep]
    n_columns = last_x[keep] - first_x + 1
    counts = n_columns * (last_y[keep] - first_y + 1)
    owner = np.repeat(np.arange(keep.size), counts)
    within = np.arange(owner.size) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column = np.divmod(within, n_columns[owner])
    column += first_x[owner]
    row += first_y[owner]

    # barycentric weights of corners 1 and 2 as affine functions of the pixel
    inverse_area = 1.0 / area[keep]
    kx0, ky0 = x0[keep], y0[keep]
    dx1, dy1, dx2, dy2 = x1[keep] - kx0, y1[keep] - ky0, x2[keep] - kx0, y2[keep] - ky0
    px = column + (0.5 - kx0[owner])
    py = row + (0.5 - ky0[owner])
    b1 = px * (-dy2 * inverse_area)[owner] + py * (dx2 * inverse_area)[owner]
    b2 = px * (dy1 * inverse_area)[owner] - py * (dx1 * inverse_area)[owner]
    b0 = 1.0 - b1 - b2
    tolerance = -1e-6
    inside = np.flatnonzero((b0 >= tolerance) & (b1 >= tolerance) & (b2 >= tolerance))
    triangle = keep[owner[inside]]
    bary = np.stack([b0[inside], b1[inside], b2[inside]], 1)
    pixel = row[inside] * width + column[inside]

    bary *= (1.0 / depth)[triangles[triangle]]
    inverse_depth = bary[:, 0] + bary[:, 1] + bary[:, 2]
    bary /= inverse_depth[:, None]
    if holes is not None and discard is not None:
        candidate = np.flatnonzero(holes[triangle])
        gone = candidate[discard(triangle[candidate], bary[candidate])]
        inverse_depth[gone] = 0.0
    return _nearest(pixel, triangle, bary.astype(np.float32), inverse_depth, width * height)


def _span(a: np.ndarray, b: np.ndarray, c: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last pixel whose centre lies between the three coordinates, clipped to the buffer."""
    low = np.minimum(np.minimum(a, b), c)
    high = np.maximum(np.maximum(a, b), c)
    first = np.maximum(np.ceil(low - 0.5), 0).astype(np.int64)
    last = np.minimum(np.floor(high - 0.5), size - 1).astype(np.int64)
    return first, last


def _nearest(
    pixel: np.ndarray, triangle: np.ndarray, bary: np.ndarray, inverse_depth: np.ndarray, n_pixels: int
) -> Fragments:
    """Keep the nearest fragment of every pixel; among equals the last one."""
    buffer = np.zeros(n_pixels)
    np.maximum.at(buffer, pixel, inverse_depth)
    winners = np.flatnonzero((inverse_depth > 0) & (inverse_depth >= buffer[pixel]))
    slot = np.full(n_pixels, -1, np.int64)
    slot[pixel[winners]] = winners
    covered = np.flatnonzero(slot >= 0)
    chosen = slot[covered]
    depth = (1.0 / inverse_depth[chosen]).astype(np.float32)
    return Fragments(covered, triangle[chosen], bary[chosen], depth)
