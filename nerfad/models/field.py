"""The conditional radiance field of a head: F(position, direction, condition) to colour and density (eq. 7).

The fast form: a multi-resolution hash grid of the position, a density network that also sees the condition
(speech code, blink, appearance) and hands a geometry code to a colour network that also sees the direction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nerfad.config import FieldConfig
from nerfad.nn import ConditionedMLP, GridEncoding
from nerfad.ops import GridSpec, MarchResult, MLPSpec, grid_encode, render_samples, sh_encode
from nerfad.ops.conditioned_mlp import Precision

SH_DEGREE = 4
LOG_DENSITY_LIMIT = 15.0
COND_SCALE = 0.1
"""At first the condition must not outshout the grid, whose features start near zero."""


class TalkingField(nn.Module):
    """Density and colour of points in the unit box, under a condition.

    Args:
        config: sizes.
        n_cond: length of the condition.
    """

    def __init__(self, config: FieldConfig, n_cond: int) -> None:
        super().__init__()
        self.config = config
        self.encoding = GridEncoding(
            GridSpec(
                n_dims=3,
                n_levels=config.n_levels,
                n_features=config.n_features,
                base_resolution=config.base_resolution,
                finest_resolution=config.finest_resolution,
                log2_table_size=config.log2_table_size,
            )
        )
        self.density_net = ConditionedMLP(
            MLPSpec(
                d_in=self.encoding.n_outputs,
                d_cond=n_cond,
                d_hidden=config.width,
                n_hidden=config.n_hidden_density,
                d_out=1 + config.n_geometry,
            ),
            cond_scale=COND_SCALE,
        )
        # The direction is the colour network's condition: its share is then computed once per ray.
        self.color_net = ConditionedMLP(
            MLPSpec(
                d_in=config.n_geometry,
                d_cond=SH_DEGREE**2,
                d_hidden=config.width,
                n_hidden=config.n_hidden_color,
                d_out=3,
                output_activation="sigmoid",
            )
        )

    @property
    def precision(self) -> Precision:
        """Of the networks' products; CUDA kernels know one precision only."""
        return "bfloat16" if self.config.precision == "bfloat16" and self.encoding.table.is_cpu else "float32"

    @property
    def grid(self) -> tuple[Tensor, GridSpec]:
        """The table that is read at a point, and its levels: the density network's inputs."""
        return self.encoding.table, self.encoding.spec

    @property
    def cells(self) -> Tensor | None:
        """The grid's coarse levels cell by cell, for drawing on CUDA; the CPU gains nothing from them."""
        return self.encoding.cells() if self.encoding.table.is_cuda else None

    def constrain(self) -> None:
        """Call after every change of the parameters: restores what they must not lose. Nothing here."""

    def integrate(
        self,
        positions: Tensor,
        rays_d: Tensor,
        samples: MarchResult,
        cond: Tensor,
        cond_index: Tensor | None,
        background: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Colours, opacities and depths of rays, and weights of their samples; see `render_samples`.

        Args:
            positions: [n, 3] in [0, 1], of the samples.
            rays_d: [n_rays, 3] unit directions.
            samples: where they lie along the rays.
            cond: [n_cond, c].
            cond_index: int32 [n_rays], the condition of each ray; None: all use the first.
            background: [n_rays, 3], what lies behind.
        """
        return render_samples(
            positions,
            *self.grid,
            self.density_net.params,
            self.density_net.spec,
            self.color_net.params,
            self.color_net.spec,
            sh_encode(rays_d, SH_DEGREE),
            samples.t_starts,
            samples.t_ends,
            samples.packed_info,
            background,
            cond,
            cond_index,
            self.config.density_bias,
            precision=self.precision,
        )

    @torch.no_grad()
    def densities(self, positions: Tensor, cond: Tensor) -> Tensor:
        """Densities [n_cond, n] of points [n, 3] under each of several conditions [n_cond, c]."""
        encoded = grid_encode(positions, *self.grid)
        log_densities = [self.density_net(encoded, row[None].contiguous())[:, 0] for row in cond]
        return self._density(torch.stack(log_densities))

    def _density(self, log_density: Tensor) -> Tensor:
        raw = log_density + self.config.density_bias
        return torch.exp(raw.clamp(-LOG_DENSITY_LIMIT, LOG_DENSITY_LIMIT))
