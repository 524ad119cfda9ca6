"""The hash-grid field that also sees identity features, and its renderer (eq. 7 in the fast form)."""

from __future__ import annotations

import torch
from torch import Tensor

from nerfad.config import FieldConfig
from nerfad.models.field import COND_SCALE, SH_DEGREE, TalkingField
from nerfad.models.identity_features import offset_penalty
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity, draw_in_chunks
from nerfad.models.renderer import HeadRays, HeadRenderer
from nerfad.nn import ConditionedMLP
from nerfad.ops import MarchResult, MLPSpec, composite, sh_encode

RAYS_PER_CHUNK = 4096
POINTS_PER_CHUNK = 16384


class IdentityField(TalkingField):
    """Density and colour of points in the unit box, under a condition and the identity features there.

    Args:
        config: sizes.
        n_cond: length of the condition.
        identity: where the features come from; may be replaced by the other form of the same encoder.
    """

    identity: PointIdentity | BakedIdentity

    def __init__(self, config: FieldConfig, n_cond: int, identity: PointIdentity | BakedIdentity) -> None:
        super().__init__(config, n_cond)
        self.identity = identity
        self.offsets: Tensor | None = None
        """Of the samples of the last call [k, n, 2], for `offset_penalty`; None with the baked form."""
        self.density_factor = 1.0
        self.density_net = ConditionedMLP(
            MLPSpec(
                d_in=self.encoding.n_outputs + identity.n_outputs,
                d_cond=n_cond,
                d_hidden=config.width,
                n_hidden=config.n_hidden_density,
                d_out=1 + config.n_geometry,
            ),
            cond_scale=COND_SCALE,
        )

    def forward(
        self, positions: Tensor, rays_d: Tensor, ray_indices: Tensor, cond: Tensor, cond_index: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Densities [n] and colours [n, 3] of samples.

        Args:
            positions: [n, 3] in [0, 1].
            rays_d: [n_rays, 3] unit directions.
            ray_indices: int32 [n], the ray of each sample.
            cond: [n_cond, c].
            cond_index: int32 [n], the condition of each sample; None: all use the first.
        """
        features, self.offsets = self.identity.reader()(positions, cond, cond_index)
        inputs = torch.cat([self.encoding(positions), features], 1)
        hidden = self.density_net(inputs, cond, cond_index, self.precision)
        views, codes = sh_encode(rays_d, SH_DEGREE), hidden[:, 1:].contiguous()
        rgbs = self.color_net(codes, views, ray_indices, self.precision)
        return self.density_factor * self._density(hidden[:, 0]), rgbs

    def integrate(
        self,
        positions: Tensor,
        rays_d: Tensor,
        samples: MarchResult,
        cond: Tensor,
        cond_index: Tensor | None,
        background: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `TalkingField.integrate`, of all samples: `render_samples` takes no features of points."""
        sample_cond = None if cond_index is None else cond_index[samples.ray_indices]
        sigmas, rgbs = self(positions, rays_d, samples.ray_indices, cond, sample_cond)
        return composite(sigmas, rgbs, samples.t_starts, samples.t_ends, samples.packed_info, background)

    @torch.no_grad()
    def densities(self, positions: Tensor, cond: Tensor) -> Tensor:
        """As `TalkingField.densities`."""
        encoded = self.encoding(positions)
        with self.identity.held():
            features = [self._features(positions, row) for row in (cond if self.identity.hears else cond[:1])]
        rows = []
        for k, row in enumerate(cond[:, None]):
            inputs = torch.cat([encoded, features[k % len(features)]], 1)
            rows.append(self._density(self.density_net(inputs, row.contiguous())[:, 0]))
        return torch.stack(rows)

    def _features(self, positions: Tensor, cond: Tensor) -> Tensor:
        """f_id [n, m] of many points under one condition, a part of them at a time."""
        read = self.identity.reader()
        return torch.cat([read(part, cond[None], None)[0] for part in positions.split(POINTS_PER_CHUNK)])


class IdentityHeadRenderer(HeadRenderer):
    """Draws an `IdentityField`: op by op, since identity features are no input of the fused render."""

    field: IdentityField
    exportable = False

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
        """As `HeadRenderer.forward`, with the penalty on the offsets of the point form."""
        rays = super().forward(rays_o, rays_d, cond, ray_cond_index, background, jitter, max_samples)
        if self.field.offsets is not None and len(rays.weights) > 0:
            rays.offset_penalty = offset_penalty(self.field.offsets, rays.weights)
        return rays

    def draw(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        cond: Tensor,
        background: Tensor,
        density_factor: float = 1.0,
        image_width: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `HeadRenderer.draw`; makes no use of `image_width`."""
        self.field.density_factor = density_factor
        try:
            return draw_in_chunks(self, self.field.identity, rays_o, rays_d, cond, background, RAYS_PER_CHUNK)
        finally:
            self.field.density_factor = 1.0
