"""Neck and torso: a picture that a similarity (the body's motion) and a learnt 2-D deformation move.

Half of a head-only model's error sits at neck and collar, which follow the body and not the head. So the
torso is a layer of its own, drawn under the head: a pixel is first carried back by the body's measured
motion, then displaced by a small network that knows the head's pose, then looked up in a learnt picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nerfad.config import TorsoConfig
from nerfad.nn import ConditionedMLP, GridEncoding
from nerfad.ops import GridSpec, MLPSpec, freq_encode

N_POSE = 10
"""Numbers that describe head and body: 3 + 3 of the head's pose, 4 of the body's motion."""


class Torso(nn.Module):
    """Colour and opacity of the layer under the head.

    Coordinates are in units of the picture's height, from the middle of its lower edge.
    """

    def __init__(self, config: TorsoConfig) -> None:
        super().__init__()
        self.config = config
        n_position = 2 + 4 * config.deformation_octaves
        self.deformation = ConditionedMLP(
            MLPSpec(d_in=n_position, d_cond=N_POSE, d_hidden=config.width, n_hidden=2, d_out=2),
            output_scale=0.01,
        )
        self.encoding = GridEncoding(
            GridSpec(
                n_dims=2,
                n_levels=config.n_levels,
                n_features=config.n_features,
                base_resolution=config.base_resolution,
                finest_resolution=config.finest_resolution,
                log2_table_size=config.log2_table_size,
            )
        )
        self.picture = ConditionedMLP(
            MLPSpec(
                d_in=self.encoding.n_outputs,
                d_cond=0,  # a pose moves the cloth but does not repaint it
                d_hidden=config.width,
                n_hidden=config.n_hidden,
                d_out=4,
                output_activation="sigmoid",
            )
        )

    def forward(
        self, points: Tensor, body: Tensor, pose: Tensor, frame_index: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Colours [n, 3], opacities [n] and displacements [n, 2] of pixels.

        Args:
            points: [n, 2] pixels (right, down) in picture heights from the middle of the
                lower edge.
            body: [n_frames, 4] the body's similarity against the reference: dx, dy (picture heights),
                rotation (rad), log scale.
            pose: [n_frames, N_POSE] standardised description of head and body.
            frame_index: int32 [n], the frame of each pixel.
        """
        still = undo_similarity(points, body[frame_index.long()])
        waves = freq_encode(2.0 * still, self.config.deformation_octaves)
        shift = self.config.max_deformation * torch.tanh(self.deformation(waves, pose, frame_index))
        encoded = self.encoding(to_grid(still + shift))
        rgba = self.picture(encoded)
        return rgba[:, :3], rgba[:, 3], shift


def to_grid(points: Tensor) -> Tensor:
    """Points in picture heights (x in -0.5..0.5, y in -1..0 and a margin) in the grid's unit square."""
    return torch.stack([points[:, 0] * 0.5 + 0.5, points[:, 1] * 0.5 + 0.75], 1).clamp(0.0, 1.0)


def undo_similarity(points: Tensor, body: Tensor) -> Tensor:
    """Where points [n, 2] lay in the reference frame, given each one's similarity [n, 4].

    The forward motion is p' = c + s R (p - c) + d about the middle c of the lower edge, here the origin.
    """
    moved = points - body[:, :2]
    cos, sin = torch.cos(body[:, 2]), torch.sin(body[:, 2])
    shrink = torch.exp(-body[:, 3])
    x = shrink * (cos * moved[:, 0] + sin * moved[:, 1])
    y = shrink * (cos * moved[:, 1] - sin * moved[:, 0])
    return torch.stack([x, y], 1)
