"""A whole frame from an avatar model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nerfad.cameras import Camera
from nerfad.models.avatar import AvatarModel

CHUNK = 65536
"""Pixels at a time, in whole rows: bounds the memory of the torso's features."""


@dataclass(frozen=True)
class RenderedFrame:
    """One frame and the layers below it.

    `depth` is the surface's distance along the (unit) ray times the opacity, in scene units: divide by the
    opacity for the distance.
    """

    image: np.ndarray  # uint8 [H, W, 3]
    head: np.ndarray  # float32 [H, W, 3], the head over black
    opacity: np.ndarray  # float32 [H, W], of the head
    depth: np.ndarray  # float32 [H, W]

    def over(self, behind: np.ndarray) -> np.ndarray:
        """The head over another picture float32 [H, W, 3] (0 to 1): uint8 [H, W, 3]."""
        colors = self.head + (1 - self.opacity[..., None]) * behind
        return (colors.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def torso_over(layer: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """A torso picture uint8 RGBA [H, W, 4] over a background uint8 [H, W, 3]: float32 [H, W, 3], 0 to 1."""
    opaque = layer[..., 3:].astype(np.float32) / 255
    return (opaque * layer[..., :3] + (1 - opaque) * plate) / np.float32(255)


@torch.no_grad()
def draw_frame(
    model: AvatarModel,
    camera: Camera,
    c2w: Tensor,
    body: Tensor | None,
    cond: Tensor,
    background: Tensor,
    window: tuple[int, int, int, int] | None = None,
    surface_depth: bool = True,
) -> RenderedFrame:
    """Render every pixel, or those of a window.

    Args:
        c2w: [4, 4] in box units.
        body: [4] in picture heights; None where the background shows the torso already.
        cond: [c] the whole condition.
        background: float32 [H, W, 3].
        window: (left, top, right, bottom) in pixels, right and bottom exclusive; the frame's layers then
            have the window's size and the same values as in the whole frame.
        surface_depth: measure depth in a second pass, closer to the surface; else it is the mean's.
    """
    left, top, right, bottom = window or (0, 0, camera.width, camera.height)
    height, width = bottom - top, right - left
    pixels = pixels_of((left, top, right, bottom), background.device)
    behind = background[top:bottom, left:right].reshape(-1, 3)
    torso = None if body is None else body[None]
    parts = []
    whole_rows = max(CHUNK // width, 1) * width
    for chunk in torch.arange(len(pixels), device=pixels.device).split(whole_rows):
        rays = model.draw(
            *(camera, c2w[None], torso, pixels[chunk], cond[None], behind[chunk], surface_depth, width)
        )
        parts.append((rays.colors, rays.opacities, rays.depths, rays.behind))
    colors, opacities, depths, behind = (torch.cat(part) for part in zip(*parts, strict=True))
    return assembled(model, colors, opacities, depths, behind, (height, width))


def pixels_of(window: tuple[int, int, int, int], device: torch.device) -> Tensor:
    """The pixels (column, row) int64 [n, 2] of a window (left, top, right, bottom), row by row."""
    left, top, right, bottom = window
    rows, columns = torch.meshgrid(
        torch.arange(top, bottom, device=device), torch.arange(left, right, device=device), indexing="ij"
    )
    return torch.stack([columns.flatten(), rows.flatten()], 1)


def assembled(
    model: AvatarModel,
    colors: Tensor,
    opacities: Tensor,
    depths: Tensor,
    behind: Tensor,
    shape: tuple[int, int],
) -> RenderedFrame:
    """The picture of all pixels, row by row: colours [n, 3], opacities [n], depths [n] in box units, and what
    lies behind the head [n, 3]."""
    alone = colors - (1 - opacities[:, None]) * behind
    image = colors.clamp(0, 1).mul(255).add(0.5).to(torch.uint8)
    return RenderedFrame(
        image.view(*shape, 3).cpu().numpy(),
        alone.view(*shape, 3).cpu().numpy(),
        opacities.view(shape).cpu().numpy(),
        (depths * model.head.box.side).view(shape).cpu().numpy(),
    )
