"""Identity features f_id of points in space (section 2.2 of the paper, after DFRF).

A few reference frames, whose Identity-faces and poses are known, become feature maps. A point is projected
into every reference view; a small network moves each projection by some pixels; the features found there are
fused by slot attention into one vector. Sound has no part in it (unless `audio_in_offset` asks for DFRF's
form), so that f_id is a fixed function of space for a whole video and can be baked (`identity_lattice`).

Symbols: ``k`` reference views, ``n`` points, ``c`` channels of the maps, ``s`` slots of width ``d``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nerfad.cameras import Camera
from nerfad.config import ConfigError
from nerfad.nn import ConditionedMLP
from nerfad.ops import MLPSpec, freq_encode, gather_features

OFFSET_PENALTY = 5e-8
"""Weight of the mean squared offset in pixels (the authors')."""


@dataclass(frozen=True)
class IdentityConfig:
    """Sizes of the identity features; stored in every checkpoint.

    Args:
        n_channels: c, of the feature maps.
        n_slots, slot_width, n_iterations: of the slot attention; f_id has n_slots * slot_width numbers.
        position_octaves, camera_octaves: of the embedded point and of the embedded camera centre.
        max_offset_px: bound on a projection's offset, in pixels of the reference pictures.
        n_projected: length of the learned projection of f_id that the hash-grid field sees; the baked form
            keeps these numbers.
        audio_in_offset: let the offsets hear the condition, as in DFRF; such features cannot be baked.
        n_audio: length of that condition.
    """

    n_channels: int = 128
    n_slots: int = 2
    slot_width: int = 128
    n_iterations: int = 2
    position_octaves: int = 10
    camera_octaves: int = 4
    max_offset_px: float = 10.0
    n_projected: int = 16
    audio_in_offset: bool = False
    n_audio: int = 0

    def __post_init__(self) -> None:
        def require(condition: bool, sentence: str) -> None:
            if not condition:
                raise ConfigError(f"identity.{sentence}")

        require(16 <= self.n_channels <= 128, "n_channels must be between 16 and 128.")
        require(self.n_slots >= 1 and self.slot_width >= 1, "n_slots and slot_width must be at least 1.")
        require(self.n_iterations >= 1, "n_iterations must be at least 1.")
        require(self.max_offset_px > 0, "max_offset_px must be more than 0.")
        require(
            self.n_projected in (1, 2, 4) or (self.n_projected > 0 and self.n_projected % 8 == 0),
            "n_projected must be 1, 2, 4 or a multiple of 8.",
        )
        require(
            self.audio_in_offset == (self.n_audio > 0),
            "n_audio must be more than 0 exactly if identity.audio_in_offset is set.",
        )

    @property
    def n_features(self) -> int:
        """Length of f_id."""
        return self.n_slots * self.slot_width


@dataclass(frozen=True)
class References:
    """Reference frames: one camera, k poses and pictures.

    Attributes:
        camera: intrinsics of the pictures.
        c2w: [k, 4, 4] in box units.
        images: [k, 3, H, W] Identity-faces, RGB in [0, 1].
    """

    camera: Camera
    c2w: Tensor
    images: Tensor

    def __post_init__(self) -> None:
        size = (len(self.c2w), 3, self.camera.height, self.camera.width)
        if self.c2w.shape[1:] != (4, 4) or tuple(self.images.shape) != size:
            raise ConfigError(
                f"the reference frames need poses [k, 4, 4] and pictures {list(size)}, "
                f"got {list(self.c2w.shape)} and {list(self.images.shape)}."
            )

    def project(self, points: Tensor) -> Tensor:
        """Pixels [k, n, 2] (column, row) at which points [n, 3] appear in every view."""
        return self.camera.project(self.c2w[:, None], points.expand(len(self.c2w), *points.shape))


def choose_references(c2w: Tensor, n_references: int = 4) -> Tensor:
    """Frames int64 [n_references] whose viewing directions are spread widest, the most usual one first.

    Farthest-point choice on the unit directions from the head, hence the same for the same poses.

    Args:
        c2w: [n_frames, 4, 4], n_frames >= n_references.

    Example:
        >>> import torch
        >>> poses = torch.eye(4).repeat(3, 1, 1)
        >>> poses[2, :3, 2] = torch.tensor([1.0, 0.0, 0.0])
        >>> choose_references(poses, 2).tolist()
        [0, 2]
    """
    if len(c2w) < n_references:
        raise ConfigError(f"{n_references} reference frames are asked for, but there are only {len(c2w)}.")
    directions = nn.functional.normalize(c2w[:, :3, 2], dim=1)
    chosen = [int((directions @ directions.mean(0)).argmax())]
    while len(chosen) < n_references:
        nearest = (directions @ directions[chosen].T).amax(1)
        nearest[chosen] = torch.inf
        chosen.append(int(nearest.argmin()))
    return torch.tensor(chosen, device=c2w.device)


def embed_points(points: Tensor, n_octaves: int) -> Tensor:
    """Frequency encoding [n, 3 + 6 * n_octaves] of points [n, 3] of the unit box, carried to [-1, 1]."""
    return freq_encode((2 * points - 1).contiguous(), n_octaves)


class FeatureNet(nn.Module):
    """Identity-faces with the embedded centre of their cameras to feature maps, at full resolution."""

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config
        n_inputs = 3 + 3 * (1 + 2 * config.camera_octaves)
        half = config.n_channels // 2
        self.layers = nn.Sequential(
            nn.Conv2d(n_inputs, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, config.n_channels, 3, padding=1),
        )

    def forward(self, references: References) -> Tensor:
        """Maps [k, H, W, c]."""
        images = references.images
        centres = freq_encode(references.c2w[:, :3, 3].contiguous(), self.config.camera_octaves)
        plane = centres[:, :, None, None].expand(-1, -1, *images.shape[2:])
        x = torch.cat([2 * images - 1, plane], 1).contiguous(memory_format=torch.channels_last)
        return self.layers(x).permute(0, 2, 3, 1).contiguous()


class SlotAttention(nn.Module):
    """Fuses a point's k features into s slots (Locatello et al. 2020).

    The slots start from learned vectors, not from random ones: f_id must be the same whenever it is asked
    for.
    """

    def __init__(self, n_inputs: int, n_slots: int, width: int, n_iterations: int) -> None:
        super().__init__()
        self.width, self.n_iterations = width, n_iterations
        self.slots = nn.Parameter(torch.randn(n_slots, width) * width**-0.5)
        self.normalise_inputs = nn.LayerNorm(n_inputs)
        self.normalise_slots = nn.LayerNorm(width)
        self.to_keys = nn.Linear(n_inputs, width, bias=False)
        self.to_values = nn.Linear(n_inputs, width, bias=False)
        self.to_queries = nn.Linear(width, width, bias=False)
        self.update = nn.GRUCell(width, width)
        self.refine = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """[n, s * d] of inputs [n, k, n_inputs]; the order of the k inputs does not matter."""
        inputs = self.normalise_inputs(inputs)
        keys, values = self.to_keys(inputs), self.to_values(inputs)
        slots = self.slots.expand(len(inputs), -1, -1)
        for _ in range(self.n_iterations):
            queries = self.to_queries(self.normalise_slots(slots)) * self.width**-0.5
            # Slots compete for every input; each slot then takes the mean of what it won.
            attention = torch.softmax(keys @ queries.transpose(1, 2), dim=2) + 1e-8
            won = (attention / attention.sum(1, keepdim=True)).transpose(1, 2) @ values
            slots = self.update(won.flatten(0, 1), slots.flatten(0, 1)).view(slots.shape)
            slots = slots + self.refine(slots)
        return slots.flatten(1)


class IdentityEncoder(nn.Module):
    """Reference frames and points to f_id."""

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__()
        self.config = config
        n_point = 3 + 6 * config.position_octaves
        self.feature_net = FeatureNet(config)
        self.offset_net = ConditionedMLP(
            MLPSpec(
                d_in=n_point + config.n_channels,
                d_cond=config.n_audio,
                d_hidden=config.n_channels,
                n_hidden=2,
                d_out=2,
            ),
            output_scale=0.01,
        )
        self.fusion = SlotAttention(
            config.n_channels + 2 + n_point, config.n_slots, config.slot_width, config.n_iterations
        )
        self.projection = nn.Linear(config.n_features, config.n_projected)

    def forward(
        self,
        references: References,
        maps: Tensor,
        points: Tensor,
        audio: Tensor | None = None,
        audio_index: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """f_id [n, s * d] of points, and the offsets [k, n, 2] in pixels by which projections moved.

        Args:
            maps: [k, H, W, c] of `feature_net(references)`.
            points: [n, 3] in [0, 1].
            audio: [n_cond, n_audio], only with `audio_in_offset`.
            audio_index: int32 [n], the row of `audio` of each point; None: all use the first.
        """
        n_views = len(maps)
        pixels = references.project(points)
        embedded = embed_points(points, self.config.position_octaves).expand(n_views, -1, -1)
        seen = torch.cat([embedded, gather_features(maps, pixels)], 2)
        raw = self._raw_offsets(seen.flatten(0, 1), audio, audio_index, n_views)
        limit = self.config.max_offset_px
        offsets = limit * torch.tanh(raw.view(n_views, -1, 2) / limit)
        found = pixels + offsets
        sides = found.new_tensor([references.camera.width, references.camera.height])
        inputs = torch.cat([gather_features(maps, found), 2 * found / sides - 1, embedded], 2)
        return self.fusion(inputs.transpose(0, 1)), offsets

    def _raw_offsets(
        self, seen: Tensor, audio: Tensor | None, audio_index: Tensor | None, n_views: int
    ) -> Tensor:
        if not self.config.audio_in_offset:
            return self.offset_net(seen)
        if audio_index is not None:
            audio_index = audio_index.repeat(n_views)
        return self.offset_net(seen, audio, audio_index)


def offset_penalty(offsets: Tensor, weights: Tensor) -> Tensor:
    """Penalty on the offsets [k, n, 2] (pixels) of samples that carry weights [n] on their rays.

    .. math:: 5\\cdot 10^{-8} \\; \\mathrm{mean}_{v,i} \\big( (1 - w_i) \\, |o_{v,i}|^2 \\big)

    Where a sample lies on the surface the offset may find what it needs; elsewhere it should rest.
    """
    squares = offsets.square().sum(2)
    return OFFSET_PENALTY * ((1 - weights.detach()) * squares).mean()
