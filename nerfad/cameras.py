"""Pinhole cameras, in the one convention used inside the package.

Camera-to-world matrices are OpenGL: x right, y up, the camera looks along -z. A pixel is (column, row),
both counted from 0 at the top left, and its ray passes through `(column + pixel_offset, row +
pixel_offset)` in the units of `cx, cy`. Every other convention is converted once, in data/formats.

All functions take NumPy arrays or torch tensors alike and only use arithmetic, so that torch
differentiates through them and this module needs neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Camera:
    """Intrinsics of a pinhole camera: focal lengths, principal point and image size in pixels."""

    fl_x: float
    fl_y: float
    cx: float
    cy: float
    height: int
    width: int
    pixel_offset: float = 0.5

    def rays(self, c2w: Any, pixels: Any) -> tuple[Any, Any]:
        """World rays through pixels: `rays_d = normalise(R · [(u-cx)/fl_x, -(v-cy)/fl_y, -1])`.

        Args:
            c2w: [4, 4] or [n_rays, 4, 4] camera-to-world, OpenGL axes, in the scene's units.
            pixels: [n_rays, 2] (column, row), integers or floats.

        Returns:
            `(rays_o, rays_d)`, both [n_rays, 3], rays_d of unit length; differentiable in c2w.

        Example:
            >>> import numpy as np
            >>> camera = Camera(100.0, 100.0, 1.0, 1.0, height=2, width=2)
            >>> rays_o, rays_d = camera.rays(np.eye(4), np.array([[0.5, 0.5]]))
            >>> rays_d.round(3).tolist()
            [[0.0, 0.0, -1.0]]
        """
        x = ((pixels[..., 0] + self.pixel_offset - self.cx) / self.fl_x)[..., None]
        y = ((pixels[..., 1] + self.pixel_offset - self.cy) / self.fl_y)[..., None]
        right, up, back = c2w[..., :3, 0], c2w[..., :3, 1], c2w[..., :3, 2]
        rays_d = right * x - up * y - back
        rays_d = rays_d / ((rays_d * rays_d).sum(-1) ** 0.5)[..., None]
        rays_o = c2w[..., :3, 3] + 0.0 * rays_d
        return rays_o, rays_d

    def project(self, c2w: Any, points: Any) -> Any:
        """Pixels (column, row) [n, 2] at which world points [n, 3] appear; the inverse of `rays`."""
        offset = points - c2w[..., :3, 3]
        right, up, back = c2w[..., :3, 0], c2w[..., :3, 1], c2w[..., :3, 2]
        depth = -(offset * back).sum(-1)
        pixels = 0.0 * points[..., :2]
        pixels[..., 0] = self.fl_x * (offset * right).sum(-1) / depth + self.cx - self.pixel_offset
        pixels[..., 1] = -self.fl_y * (offset * up).sum(-1) / depth + self.cy - self.pixel_offset
        return pixels

    def resized(self, height: int, width: int) -> Camera:
        """The same view on another number of pixels: focal lengths scale too, and the principal point is
        scaled from the image's corner whatever the pixel offset.
        """
        scale_x, scale_y = width / self.width, height / self.height
        to_corner = 0.5 - self.pixel_offset
        return replace(
            self,
            fl_x=self.fl_x * scale_x,
            fl_y=self.fl_y * scale_y,
            cx=(self.cx + to_corner) * scale_x - to_corner,
            cy=(self.cy + to_corner) * scale_y - to_corner,
            height=height,
            width=width,
        )
