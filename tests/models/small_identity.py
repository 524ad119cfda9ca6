"""Small reference views about the unit box, for the tests of identity features and of the paper's field."""

import math
from dataclasses import replace

import numpy as np
import torch

from nerfad.cameras import Camera
from nerfad.models.identity_features import IdentityConfig, IdentityEncoder, References

CAMERA = Camera(40.0, 44.0, 9.5, 8.5, height=18, width=20)
SMALL = IdentityConfig(n_channels=16, slot_width=8, position_octaves=4)
HEARING = replace(SMALL, audio_in_offset=True, n_audio=5)


def turned(yaw: float) -> np.ndarray:
    """A camera at distance 3 from the box's middle, looking at it."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    c2w = np.eye(4, dtype=np.float32)
    c2w[:3, 0], c2w[:3, 2] = (cos, 0, -sin), (sin, 0, cos)
    c2w[:3, 3] = 0.5 + 3.0 * c2w[:3, 2]
    return c2w


def references(n: int = 4, seed: int = 0) -> References:
    poses = torch.from_numpy(np.stack([turned(0.3 * k - 0.4) for k in range(n)]))
    images = torch.rand(n, 3, 18, 20, generator=torch.Generator().manual_seed(seed))
    return References(CAMERA, poses, images)


def encoder(config: IdentityConfig = SMALL) -> IdentityEncoder:
    torch.manual_seed(0)
    return IdentityEncoder(config)


def points(n: int = 11) -> torch.Tensor:
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(1))
