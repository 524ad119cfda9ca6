"""AU-Attention (section 2.1, fig. 2): which part of a face speech moves, learnt from action units alone.

Symbols: ``n`` pictures of side ``s`` (a multiple of 16), ``k`` action units. Pictures are in [-1, 1], codes
are intensities in [0, 1].

``A`` is the weight of what speech does *not* change: I_G keeps I_crop where A is high (the paper's prose says
the opposite of its formulas; the formulas are followed).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

MULTIPLE = 16
"""Sides of pictures are multiples of this: the critic halves them four times."""
_CRITIC_LAYERS = 4


class AttentionOutput(NamedTuple):
    """What the generator makes of crops and codes.

    mask: A [n, 1, s, s] in (0, 1), the weight of what speech does not change.
    warp: I_W [n, 3, s, s] in (-1, 1).
    image: I_G = A * I_crop + (1 - A) * I_W.
    """

    mask: Tensor
    warp: Tensor
    image: Tensor


def audio_face(mask: Tensor, crop: Tensor) -> Tensor:
    """I_aud-face = (1 - A) * I_crop: what speech moves.

    >>> float(audio_face(torch.tensor(0.25), torch.tensor(1.0)))
    0.75
    """
    return (1 - mask) * crop


def identity_face(mask: Tensor, crop: Tensor) -> Tensor:
    """A * I_crop: what speech leaves alone; pasted back into its frame it is I_id-face.

    >>> float(identity_face(torch.tensor(0.25), torch.tensor(1.0)))
    0.25
    """
    return mask * crop


class AUAttention(nn.Module):
    """The generators G_M and G_W on a shared trunk.

    Encoder and decoder of GANimation (two halvings, residual blocks) with two changes: up-sampling and
    convolution where it has transposed convolutions, which leave stripes; and no normalisation of the
    first layer, because the code is constant over the plane and instance normalisation would take it out.

    Args:
        n_units: k.
        width: channels at full resolution; 64 is the paper's.
        n_blocks: residual blocks at a quarter of the resolution.

    Example:
        >>> crop, code = torch.zeros(2, 3, 16, 16), torch.rand(2, 5)
        >>> out = AUAttention(5, width=4, n_blocks=1)(crop, code)
        >>> out.mask.shape, out.image.shape
        (torch.Size([2, 1, 16, 16]), torch.Size([2, 3, 16, 16]))
    """

    def __init__(self, n_units: int, width: int = 64, n_blocks: int = 6) -> None:
        super().__init__()
        self.n_units = n_units
        self.trunk = nn.Sequential(
            nn.Conv2d(3 + n_units, width, 7, 1, 3),
            nn.ReLU(inplace=True),
            *_normed(nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)),
            *_normed(nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False)),
            *[_Residual(4 * width) for _ in range(n_blocks)],
            nn.Upsample(scale_factor=2, mode="nearest"),
            *_normed(nn.Conv2d(4 * width, 2 * width, 3, 1, 1, bias=False)),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            *_normed(nn.Conv2d(2 * width, width, 3, 1, 1, bias=False)),
        )
        self.mask_head = nn.Conv2d(width, 1, 7, 1, 3)
        self.warp_head = nn.Conv2d(width, 3, 7, 1, 3)
        for head in (self.mask_head, self.warp_head):
            nn.init.normal_(head.weight, std=0.02)
            if head.bias is not None:
                nn.init.zeros_(head.bias)

    def forward(self, crop: Tensor, code: Tensor) -> AttentionOutput:
        """Mask, warped map and generated picture.

        Args:
            crop: I_crop [n, 3, s, s] in [-1, 1].
            code: [n, k] intensities in [0, 1].
        """
        planes = code[:, :, None, None].expand(-1, -1, *crop.shape[2:])
        features = self.trunk(torch.cat([crop, planes.to(crop.dtype)], 1))
        # Heads in one convolution: half the passes over the largest maps.
        heads = (self.mask_head, self.warp_head)
        weight = torch.cat([head.weight for head in heads])
        bias = torch.cat([head.bias for head in heads if head.bias is not None])
        out = nn.functional.conv2d(features, weight, bias, padding=3).to(crop.dtype)
        mask, warp = torch.sigmoid(out[:, :1]), torch.tanh(out[:, 1:])
        return AttentionOutput(mask, warp, mask * crop + (1 - mask) * warp)


def masks_at(generator: AUAttention, crops: Tensor, codes: Tensor, size: int) -> Tensor:
    """A of crops [n, 3, h, w] from a generator that was trained on crops of side `size`; [n, 1, h, w]."""
    if crops.shape[-1] == size:
        return generator(crops, codes).mask
    resize = nn.functional.interpolate
    at_size = resize(crops, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return resize(generator(at_size, codes).mask, crops.shape[2:], mode="bilinear", align_corners=False)


class Critic(nn.Module):
    """The critic W_D and the action-unit classifier C: stacks of halving convolutions.

    Args:
        n_units: k.
        size: side s of the pictures.
        width: channels after the first halving; they double with every further one.
        shared: one stack for both (as GANimation has it), or one for each (as fig. 2 draws them).

    Example:
        >>> realness, code = Critic(5, size=32, width=4)(torch.zeros(2, 3, 32, 32))
        >>> realness.shape, code.shape
        (torch.Size([2, 1, 2, 2]), torch.Size([2, 5]))
    """

    def __init__(self, n_units: int, size: int, width: int = 64, shared: bool = True) -> None:
        super().__init__()
        if size % MULTIPLE:
            raise ValueError(f"Critic: size must be a multiple of {MULTIPLE}, got {size}")
        channels = width * 2 ** (_CRITIC_LAYERS - 1)
        self.stack = _halvings(width)
        self.code_stack = None if shared else _halvings(width)
        self.realness_head = nn.Conv2d(channels, 1, 3, 1, 1, bias=False)
        self.code_head = nn.Conv2d(channels, n_units, size // 2**_CRITIC_LAYERS)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """W_D, a map [n, 1, s/16, s/16] of numbers without bounds, and C, the code [n, k]."""
        features = self.stack(picture)
        of_code = features if self.code_stack is None else self.code_stack(picture)
        return self.realness_head(features), self.code_head(of_code)[:, :, 0, 0]

    def realness(self, picture: Tensor) -> Tensor:
        """W_D alone."""
        return self.realness_head(self.stack(picture))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normed(nn.Conv2d(channels, channels, 3, 1, 1, bias=False)),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.body(features)


def _normed(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    channels = convolution.out_channels
    return convolution, nn.InstanceNorm2d(channels, affine=True), nn.ReLU(inplace=True)


def _halvings(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for k in range(_CRITIC_LAYERS):
        layers += [nn.Conv2d(channels, width * 2**k, 4, 2, 1), nn.LeakyReLU(0.01, inplace=True)]
        channels = width * 2**k
    return nn.Sequential(*layers)
