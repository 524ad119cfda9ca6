"""Everything that is learnt about one person's picture: head field, torso, and what a pose is measured by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nerfad.cameras import Camera
from nerfad.config import TorsoConfig
from nerfad.models.head import Head
from nerfad.models.renderer import HeadRays
from nerfad.models.still import StillHead
from nerfad.models.torso import N_POSE, Torso

SURFACE_DENSITY_FACTOR = 2.0
"""Densities are multiplied by this where a surface's distance is wanted. Skin looks the same when its
density is smeared inwards, so training leaves it smeared, and the mean lies behind the surface; with doubled
density the mean is about where the transmittance falls to one half.
"""

PIXELS_AT_ONCE = 65536
"""Bounds the memory of the torso's features."""


@dataclass
class LayeredRays:
    """Final colours and the layers they came from."""

    colors: Tensor
    head: HeadRays
    behind: Tensor  # torso over background
    torso_opacities: Tensor | None
    torso_shift: Tensor | None


@dataclass
class DrawnRays:
    """Pixels drawn without a gradient."""

    colors: Tensor
    opacities: Tensor  # of the head
    depths: Tensor
    behind: Tensor


class AvatarModel(nn.Module):
    """Head over torso over background.

    Args:
        head: draws the head, in any of the field's forms.
        n_codes: numbers of the condition that are not learnt (speech codes and blink).
        n_appearance: length of the learnt appearance code of every training frame (0: none).
        n_frames: training frames.
        refine_poses: learn a small correction of every training pose.
    """

    pose_mean: Tensor
    pose_std: Tensor

    def __init__(
        self,
        head: Head,
        torso: TorsoConfig,
        n_codes: int,
        n_appearance: int = 0,
        n_frames: int = 0,
        refine_poses: bool = False,
    ) -> None:
        super().__init__()
        self.n_codes, self.n_appearance = n_codes, n_appearance
        self.head = head
        self.torso = Torso(torso) if torso.enabled else None
        self.appearance = nn.Parameter(torch.zeros(n_frames, n_appearance))
        self.pose_delta = nn.Parameter(torch.zeros(n_frames if refine_poses else 0, 6))
        self.register_buffer("pose_mean", torch.zeros(N_POSE))
        self.register_buffer("pose_std", torch.ones(N_POSE))

    def forward(
        self,
        camera: Camera,
        c2w: Tensor,
        body: Tensor,
        pixels: Tensor,
        frame_index: Tensor,
        cond: Tensor,
        background: Tensor,
        jitter: Tensor | None = None,
        pose_noise: float = 0.0,
    ) -> LayeredRays:
        """Colours of pixels of a few frames.

        Args:
            camera: intrinsics of `pixels`.
            c2w: [n_frames, 4, 4] in box units.
            body: [n_frames, 4] dx, dy in picture heights, rotation, log scale.
            pixels: [n_rays, 2] (column, row).
            frame_index: int32 [n_rays].
            cond: [n_frames, n_codes + n_appearance].
            background: [n_rays, 3].
            pose_noise: standard deviation of noise on the torso's standardised pose.
        """
        pose = self.describe_pose(c2w, body)
        if pose_noise > 0:
            pose = pose + pose_noise * torch.randn_like(pose)
        behind, torso_opacities, shift = self._behind(camera, body, pose, pixels, frame_index, background)
        rays_o, rays_d = camera.rays(c2w[frame_index.long()], pixels)
        head = self.head(rays_o.contiguous(), rays_d.contiguous(), cond, frame_index, behind, jitter)
        return LayeredRays(head.colors, head, behind, torso_opacities, shift)

    @torch.no_grad()
    def draw(
        self,
        camera: Camera,
        c2w: Tensor,
        body: Tensor | None,
        pixels: Tensor,
        cond: Tensor,
        background: Tensor,
        surface_depth: bool = False,
        image_width: int = 0,
    ) -> DrawnRays:
        """Pixels [n, 2] of one frame in one pass: c2w [1, 4, 4], body [1, 4], cond [1, c]; like `forward`.

        Without a body, the background is taken to show the torso already. `surface_depth` measures the depth
        in a second pass, nearer to the surface than the mean of the density, which is smeared inwards.
        `image_width`: see `HeadRenderer.draw`.
        """
        rays_o, rays_d, behind = self._rays(camera, c2w, body, pixels, background)
        colors, opacities, depths = self.head.draw(rays_o, rays_d, cond, behind, image_width=image_width)
        if surface_depth:
            _, dense, near = self.head.draw(rays_o, rays_d, cond, behind, SURFACE_DENSITY_FACTOR, image_width)
            depths = near / dense.clamp_min(1e-6) * opacities
        return DrawnRays(colors, opacities, depths, behind)

    @torch.no_grad()
    def still(
        self,
        camera: Camera,
        c2w: Tensor,
        body: Tensor | None,
        pixels: Tensor,
        background: Tensor,
        image_width: int = 0,
    ) -> StillHead:
        """Pixels of one pose, to be drawn under many conditions; arguments as those of `draw`."""
        parts = [
            self._rays(camera, c2w, body, *some)
            for some in zip(pixels.split(PIXELS_AT_ONCE), background.split(PIXELS_AT_ONCE), strict=True)
        ]
        rays_o, rays_d, behind = (torch.cat(part) for part in zip(*parts, strict=True))
        return StillHead.at(self.head, rays_o, rays_d, behind, image_width)

    def _rays(
        self, camera: Camera, c2w: Tensor, body: Tensor | None, pixels: Tensor, background: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Origins, directions and what lies behind the head, of pixels of one frame."""
        behind = background
        if body is not None:
            pose = self.describe_pose(c2w, body)
            index = torch.zeros(len(pixels), dtype=torch.int32, device=pixels.device)
            behind, _, _ = self._behind(camera, body, pose, pixels, index, background)
        rays_o, rays_d = camera.rays(c2w.expand(len(pixels), 4, 4), pixels)
        return rays_o.contiguous(), rays_d.contiguous(), behind

    def _behind(
        self,
        camera: Camera,
        body: Tensor,
        pose: Tensor,
        pixels: Tensor,
        frame_index: Tensor,
        background: Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Torso over background, the torso's opacities and its deformation."""
        if self.torso is None:
            return background, None, None
        points = picture_points(camera, pixels)
        colors, opacities, shift = self.torso(points, body, pose, frame_index)
        behind = colors * opacities[:, None] + background * (1 - opacities[:, None])
        return behind, opacities, shift

    def describe_pose(self, c2w: Tensor, body: Tensor) -> Tensor:
        """What moves the torso: [n_frames, N_POSE] of poses in box units, standardised, within ±3."""
        raw = raw_pose(c2w, body)
        return ((raw - self.pose_mean) / self.pose_std).clamp(-3.0, 3.0)

    def fit_poses(self, c2w: Tensor, body: Tensor) -> None:
        """Set the standardisation from the training poses."""
        raw = raw_pose(c2w, body)
        self.pose_mean.copy_(raw.mean(0))
        self.pose_std.copy_(raw.std(0, correction=0).clamp_min(1e-4))


def moved_cameras(c2w: Tensor, delta: Tensor) -> Tensor:
    """Poses [n, 4, 4] in box units, turned about the box's middle and shifted.

    Differentiable in delta [n, 6]: a rotation vector in rad and a shift.
    """
    x, y, z = delta[:, 0], delta[:, 1], delta[:, 2]
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
    turn = torch.linalg.matrix_exp(skew)
    axes = turn @ c2w[:, :3, :3]
    place = (turn @ (c2w[:, :3, 3:] - 0.5)) + 0.5 + delta[:, 3:, None]
    return torch.cat([torch.cat([axes, place], 2), c2w[:, 3:]], 1)


def raw_pose(c2w: Tensor, body: Tensor) -> Tensor:
    """[n, N_POSE]: three angles and the place of the head seen from the camera, and the body's similarity."""
    to_head = c2w[:, :3, :3].transpose(1, 2)
    place = -(to_head @ (c2w[:, :3, 3:] - 0.5))[..., 0]
    yaw = torch.atan2(to_head[:, 0, 2], to_head[:, 2, 2])
    pitch = torch.asin(to_head[:, 1, 2].clamp(-1, 1))
    roll = torch.atan2(to_head[:, 1, 0], to_head[:, 1, 1])
    return torch.cat([torch.stack([yaw, pitch, roll], 1), place, body], 1)


def picture_points(camera: Camera, pixels: Tensor) -> Tensor:
    """Pixel centres [n, 2] in picture heights from the middle of the lower edge."""
    pivot = torch.tensor([camera.width / 2, float(camera.height)], device=pixels.device)
    return (pixels + 0.5 - pivot) / camera.height


def body_in_heights(body: np.ndarray | None, n_frames: int, height: int) -> Tensor:
    """A data set's body motion (pixels) float32 [n, 4] with shifts in picture heights; zero without it."""
    if body is None:
        return torch.zeros(n_frames, 4)
    scaled = np.asarray(body, np.float32) / np.array([height, height, 1, 1], np.float32)
    return torch.from_numpy(scaled.astype(np.float32))
