"""The hash-grid field that also sees identity features, and its renderer (eq. 7 in the fast form).

A baked lattice is read as further levels of the hash grid, by the kernels that know nothing of it. Features
that are computed point by point go through the networks op by op.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from nerfad.config import ConfigError, FieldConfig
from nerfad.models.field import COND_SCALE, SH_DEGREE, TalkingField
from nerfad.models.identity_features import offset_penalty
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity, draw_in_chunks
from nerfad.models.renderer import HeadRays, HeadRenderer
from nerfad.models.speech_gate import SpeechGate
from nerfad.nn import ConditionedMLP
from nerfad.nn.derived import Derived
from nerfad.ops import GridSpec, MarchResult, MLPSpec, composite, grid_encode, sh_encode

RAYS_PER_CHUNK = 4096
EARLY_STOP_EPS = 1e-4
POINTS_PER_CHUNK = 16384


class IdentityField(TalkingField):
    """Density and colour of points in the unit box, under a condition and the identity features there.

    Args:
        config: sizes.
        n_cond: length of the condition.
        identity: where the features come from; may be replaced by the other form of the same encoder.
        gate: where the field hears speech; None: everywhere.
    """

    identity: PointIdentity | BakedIdentity

    def __init__(
        self,
        config: FieldConfig,
        n_cond: int,
        identity: PointIdentity | BakedIdentity,
        gate: SpeechGate | None = None,
    ) -> None:
        super().__init__(config, n_cond)
        self.identity = identity
        self.gate = gate
        self._joined = Derived()
        if isinstance(identity, BakedIdentity):
            _check_levels(config, identity, 0 if gate is None else 1)
        self.offsets: Tensor | None = None
        """Of the samples of the last call [k, n, 2]; None with the baked form."""
        self.offset_penalty: Tensor | None = None
        """Of the samples before the stop of the rays last integrated; None where there are no offsets."""
        self.density_factor = 1.0
        n_gate = 0 if gate is None else gate.spec.n_features
        self.density_net = ConditionedMLP(
            MLPSpec(
                d_in=self.encoding.n_outputs + identity.n_outputs + n_gate,
                d_cond=n_cond,
                d_hidden=config.width,
                n_hidden=config.n_hidden_density,
                d_out=1 + config.n_geometry,
            ),
            cond_scale=COND_SCALE,
        )
        self.constrain()

    def constrain(self) -> None:
        """Call after every change of the parameters: keeps units that hear speech apart from the others."""
        if self.gate is not None:
            self.gate.constrain(self.density_net)

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
        hidden, self.offsets = self._hidden(positions, cond, cond_index)
        views, codes = sh_encode(rays_d, SH_DEGREE), hidden[:, 1:].contiguous()
        rgbs = self.color_net(codes, views, ray_indices, self.precision)
        return self.density_factor * self._density(hidden[:, 0]), rgbs

    @property
    def grid(self) -> tuple[Tensor, GridSpec]:
        """As `TalkingField.grid`, with the levels of lattice and gate behind the encoding's."""
        identity, table = self.identity, self.encoding.table
        if not isinstance(identity, BakedIdentity):
            return super().grid
        levels, tables = identity.spec.resolutions, [table, identity.table]
        if self.gate is not None:
            levels, tables = (*levels, *self.gate.spec.resolutions), [*tables, self.gate.table]
        spec = replace(self.encoding.spec, dense_levels=levels)
        if self.training or torch.is_grad_enabled():  # fused optimisers change a table without counting
            return torch.cat(tables), spec
        return self._joined.of(lambda: torch.cat([t.to(table.dtype) for t in tables]), *tables), spec

    def train(self, mode: bool = True) -> IdentityField:
        self._joined.forget()
        return super().train(mode)

    def _hidden(
        self, positions: Tensor, cond: Tensor, cond_index: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """What the density network says of samples [n, 1 + n_geometry], and their offsets."""
        if isinstance(self.identity, BakedIdentity):
            inputs, offsets = grid_encode(positions, *self.grid), None
        else:
            features, offsets = self.identity.reader()(positions, cond, cond_index)
            inputs = torch.cat([self.encoding(positions), features, *self._gate_at(positions)], 1)
        return self.density_net(inputs, cond, cond_index, self.precision), offsets

    def _gate_at(self, positions: Tensor) -> list[Tensor]:
        """The gate's inputs [n, n_features] where it is not read with the grid."""
        return [] if self.gate is None else [grid_encode(positions, self.gate.table, self.gate.spec)]

    def integrate(
        self,
        positions: Tensor,
        rays_d: Tensor,
        samples: MarchResult,
        cond: Tensor,
        cond_index: Tensor | None,
        background: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `TalkingField.integrate`; with features of points in two passes, since no kernel knows them.

        Densities alone, without gradients, say first which samples lie before the early stop. The others have
        weight and gradient zero; the second pass leaves them out.
        """
        if isinstance(self.identity, BakedIdentity):
            self.offsets = self.offset_penalty = None
            return super().integrate(positions, rays_d, samples, cond, cond_index, background)
        sample_cond = None if cond_index is None else cond_index[samples.ray_indices]
        seen, packed_info = self._before_the_stop(positions, samples, cond, sample_cond)
        sigmas, rgbs = self(
            positions[seen],
            rays_d,
            samples.ray_indices[seen],
            cond,
            None if sample_cond is None else sample_cond[seen],
        )
        t_starts, t_ends = samples.t_starts[seen], samples.t_ends[seen]
        colors, opacities, depths, weights = composite(
            sigmas, rgbs, t_starts, t_ends, packed_info, background, EARLY_STOP_EPS
        )
        self.offset_penalty = None
        if self.offsets is not None and len(seen) > 0:
            self.offset_penalty = offset_penalty(self.offsets, weights)
        return colors, opacities, depths, weights.new_zeros(len(positions)).index_put((seen,), weights)

    @torch.no_grad()
    def _before_the_stop(
        self, positions: Tensor, samples: MarchResult, cond: Tensor, sample_cond: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Samples [m] that `composite` looks at, and the `packed_info` [n_rays, 2] of these alone."""
        hidden = self._hidden(positions, cond, sample_cond)[0]
        passed = self.density_factor * self._density(hidden[:, 0]) * (samples.t_ends - samples.t_starts)
        passed = passed.double()
        before = passed.cumsum(0) - passed
        rays, first = samples.ray_indices.long(), samples.packed_info[:, 0]
        # Half the threshold: rounding must not leave out a sample that `composite` does not.
        seen = (before - before[first[rays]] <= -math.log(EARLY_STOP_EPS / 2)).nonzero()[:, 0]
        kept = torch.zeros_like(first).index_add_(0, rays[seen], torch.ones_like(seen))
        return seen, torch.stack([kept.cumsum(0) - kept, kept], 1)

    @torch.no_grad()
    def densities(self, positions: Tensor, cond: Tensor) -> Tensor:
        """As `TalkingField.densities`."""
        if isinstance(self.identity, BakedIdentity):
            return super().densities(positions, cond)
        encoded, gate = self.encoding(positions), self._gate_at(positions)
        with self.identity.held():
            features = [self._features(positions, row) for row in (cond if self.identity.hears else cond[:1])]
        rows = []
        for k, row in enumerate(cond[:, None]):
            inputs = torch.cat([encoded, features[k % len(features)], *gate], 1)
            rows.append(self._density(self.density_net(inputs, row.contiguous())[:, 0]))
        return torch.stack(rows)

    def _features(self, positions: Tensor, cond: Tensor) -> Tensor:
        """f_id [n, m] of many points under one condition, a part of them at a time."""
        read = self.identity.reader()
        return torch.cat([read(part, cond[None], None)[0] for part in positions.split(POINTS_PER_CHUNK)])


def _check_levels(config: FieldConfig, identity: BakedIdentity, n_gates: int) -> None:
    n_levels, n_features = len(identity.spec.resolutions) + n_gates, identity.spec.n_features
    if n_features != config.n_features:
        raise ConfigError(
            f"the identity lattice has {n_features} features a level, the field's grid {config.n_features}."
        )
    if config.n_levels + n_levels > 32:
        raise ConfigError(
            f"identity features and speech gate take {n_levels} of the grid's 32 levels: field.n_levels must "
            f"be at most {32 - n_levels}, or field.n_features larger."
        )


class IdentityHeadRenderer(HeadRenderer):
    """Draws an `IdentityField`: op by op where its features are computed point by point."""

    field: IdentityField

    @property
    def in_one_pass(self) -> bool:
        return isinstance(self.field.identity, BakedIdentity)

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
        rays.offset_penalty = self.field.offset_penalty
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
        """As `HeadRenderer.draw`; op by op makes no use of `image_width`."""
        if self.in_one_pass:
            return super().draw(rays_o, rays_d, cond, background, density_factor, image_width)
        self.field.density_factor = density_factor
        try:
            return draw_in_chunks(self, self.field.identity, rays_o, rays_d, cond, background, RAYS_PER_CHUNK)
        finally:
            self.field.density_factor = 1.0
