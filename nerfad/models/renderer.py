"""From rays to pixels: box, march, field, integral over head, torso and background.

Everything in here happens in *box units*: the data set's box is carried into the unit cube, so that step
size, thresholds and densities mean the same for every data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nerfad.config import OccupancyConfig
from nerfad.models.field import TalkingField
from nerfad.nn import OccupancyGrid
from nerfad.ops import (
    RenderCache,
    march,
    ray_aabb,
    render_cache,
    render_cached,
    render_rays_fused,
    sample_positions,
)

UNIT_BOX = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)


class SceneBox(nn.Module):
    """The similarity from scene units to the unit cube (the smallest cube about the data set's box)."""

    origin: Tensor
    side: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.unit: Tensor
        self.register_buffer("origin", torch.zeros(3))
        self.register_buffer("side", torch.ones(()))
        self.register_buffer("unit", torch.tensor(UNIT_BOX), persistent=False)

    def fit(self, aabb: np.ndarray) -> None:
        """Take the box from a data set's aabb [6] (scene units)."""
        low, high = torch.from_numpy(np.asarray(aabb, np.float32)).split(3)
        self.side.copy_((high - low).max())
        self.origin.copy_((low + high - self.side) / 2)

    def to_box(self, c2w: np.ndarray | Tensor) -> Tensor:
        """Camera poses float32 [..., 4, 4] in box units."""
        c2w = torch.as_tensor(c2w, dtype=torch.float32, device=self.origin.device).clone()
        c2w[..., :3, 3] = (c2w[..., :3, 3] - self.origin) / self.side
        return c2w


@dataclass
class HeadRays:
    """What rays through the head's box gave; per ray unless said otherwise."""

    colors: Tensor
    opacities: Tensor
    depths: Tensor
    weights: Tensor  # per sample
    positions: Tensor  # per sample, in [0, 1]
    n_dropped: Tensor
    coarse_colors: Tensor | None = None  # of the paper's coarse network, trained by the same eq. 9
    offset_penalty: Tensor | None = None  # scalar, of identity features read point by point


class HeadRenderer(nn.Module):
    """Draws the field."""

    def __init__(self, field: TalkingField, config: OccupancyConfig) -> None:
        super().__init__()
        self.config = config
        self.field = field
        self.box = SceneBox()
        self.occupancy = OccupancyGrid(config.resolution)

    @property
    def in_one_pass(self) -> bool:
        """Whether the drawing kernels know the field: at a fixed pose it can then be drawn from a cache, and
        `nerfad.runtime` can draw it without torch."""
        return True

    @property
    def step_size(self) -> float:
        return 1.0 / self.config.n_steps

    def forward(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        cond: Tensor,
        ray_cond_index: Tensor | None,
        background: Tensor,
        jitter: Tensor | None = None,
        max_samples: int | None = None,
    ) -> HeadRays:
        """Head over background.

        Args:
            rays_o, rays_d: [n_rays, 3] in box units, unit directions.
            cond: [n_cond, c].
            ray_cond_index: int32 [n_rays], the condition of each ray; None: all use the first.
            background: [n_rays, 3], what lies behind the head.
            jitter: [n_rays] in [0, 1), shift of the samples in steps.
            max_samples: bound on the samples of the batch.
        """
        t_min, t_max = ray_aabb(rays_o, rays_d, self.box.unit)
        samples = march(
            rays_o,
            rays_d,
            t_min,
            t_max,
            self.box.unit,
            self.occupancy.density_bitfield,
            self.occupancy.resolution,
            self.step_size,
            0.0,
            jitter,
            max_samples,
            self.config.max_samples_per_ray,
        )
        positions = sample_positions(
            rays_o, rays_d, samples.t_starts, samples.t_ends, samples.packed_info, self.box.unit
        )
        colors, opacities, depths, weights = self.field.integrate(
            positions, rays_d, samples, cond, ray_cond_index, background
        )
        return HeadRays(colors, opacities, depths, weights, positions.detach(), samples.n_dropped)

    @torch.no_grad()
    def draw(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        cond: Tensor,
        background: Tensor,
        density_factor: float = 1.0,
        image_width: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Colours, opacities and depths of rays under one condition, in one pass; not differentiable.

        The same pixels as `forward` without jitter, up to rounding.

        Args:
            density_factor: multiplies every density.
            image_width: the rays are whole rows of pixels of this width, 0 if they are not: lets CUDA draw
                neighbours together. Changes no result.
        """
        field = self.field
        table, spec = field.grid
        return render_rays_fused(
            **self._marched(rays_o, rays_d),
            table=table,
            grid_spec=spec,
            **self._networks(density_factor),
            cond=cond,
            background=background,
            max_samples_per_ray=self.config.max_samples_per_ray,
            image_width=image_width,
            cells=field.cells,
        )

    @torch.no_grad()
    def cache(self, rays_o: Tensor, rays_d: Tensor, image_width: int = 0) -> RenderCache:
        """Samples and grid features of rays that will be drawn under many conditions; see `draw_cached`."""
        table, spec = self.field.grid
        return render_cache(
            **self._marched(rays_o, rays_d),
            table=table,
            grid_spec=spec,
            max_samples_per_ray=self.config.max_samples_per_ray,
            dtype=torch.bfloat16 if self.field.precision == "bfloat16" else torch.float32,  # the same pixels
            image_width=image_width,
        )

    @torch.no_grad()
    def draw_cached(
        self, cache: RenderCache, cond: Tensor, background: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `draw`, of rays in a cache: only the networks run."""
        return render_cached(cache, **self._networks(), cond=cond, background=background)

    def _marched(self, rays_o: Tensor, rays_d: Tensor) -> dict[str, Any]:
        """Rays and where they have samples, as the drawing ops name it."""
        t_min, t_max = ray_aabb(rays_o, rays_d, self.box.unit)
        return {
            "rays_o": rays_o,
            "rays_d": rays_d,
            "t_min": t_min,
            "t_max": t_max,
            "aabb": self.box.unit,
            "density_bitfield": self.occupancy.density_bitfield,
            "resolution": self.occupancy.resolution,
            "step_size": self.step_size,
        }

    def _networks(self, density_factor: float = 1.0) -> dict[str, Any]:
        """The networks, as the drawing ops name them."""
        field = self.field
        color = field.color_net.spec
        return {
            "sigma_params": field.density_net.params,
            "sigma_spec": field.density_net.spec,
            "color_params": field.color_net.params,
            # The flat parameters are the same whether the direction is an input or a condition.
            "color_spec": replace(color, d_in=color.d_in + color.d_cond, d_cond=0),
            "density_bias": field.config.density_bias + math.log(density_factor),
            "precision": field.precision,
        }
