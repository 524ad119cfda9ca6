"""The networks that fuse a face with sound (NeRF-AD, section 2.2).

Symbols: ``n`` frames, ``s`` side of the crops, ``k`` action units. Pictures are float32 [n, 3, s, s] in
[-1, 1]; an Audio-face is (1 - A) * I_crop, so what speech does not touch is 0 there.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

MULTIPLE = 16
"""Sides of pictures are multiples of this: the encoder halves them four times."""
AUDIO_SIZE = 64
NEIGHBOURS_BEFORE, NEIGHBOURS_AFTER = 4, 3
"""The smoothing filter sees this many frames before and after its own."""
N_NEIGHBOURS = NEIGHBOURS_BEFORE + 1 + NEIGHBOURS_AFTER
_FOLLOW = 0.01
_STRENGTH = 0.5
_LEAST_VARIANCE = 1e-16
_SLOPE = 0.1
_OWN_FRAME_LOGIT = 2.0


def vector_size(width: int) -> int:
    """Length of f_aud-face and of f^_aud-face for networks of this width; 256 at the paper's 16."""
    return 16 * width


class FaceEncoder(nn.Module):
    """E_a, and by another training E_f: four halving 5x5 convolutions and two linear layers.

    Args:
        size: s.
        width: channels w of the first layer; they double three times. 16 is the paper's: 16-32-64-128, then
            1024, then 256.

    Example:
        >>> vector, maps = FaceEncoder(size=32, width=2)(torch.zeros(1, 3, 32, 32))
        >>> vector.shape, [tuple(m.shape[1:]) for m in maps]
        (torch.Size([1, 32]), [(2, 16, 16), (4, 8, 8), (8, 4, 4), (16, 2, 2)])
    """

    def __init__(self, size: int = 112, width: int = 16) -> None:
        super().__init__()
        if size % MULTIPLE:
            raise ValueError(f"FaceEncoder: size must be a multiple of {MULTIPLE}, got {size}")
        channels = [3, *(width * 2**k for k in range(4))]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 5, 2, 2) for a, b in itertools.pairwise(channels))
        n_flat = channels[-1] * (size // MULTIPLE) ** 2
        self.head = nn.Sequential(
            nn.Linear(n_flat, 64 * width), nn.LeakyReLU(_SLOPE), nn.Linear(64 * width, vector_size(width))
        )

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """f_aud-face [n, 16 w], and the four maps [n, w 2^i, s / 2^(i+1), ...] for the skips."""
        maps, features = [], pictures
        for conv in self.convs:
            features = nn.functional.leaky_relu(conv(features), _SLOPE)
            maps.append(features)
        return self.head(features.flatten(1)), maps

    def encode(self, pictures: Tensor) -> Tensor:
        """The vector [n, 16 w] alone: what E_f gives the field."""
        return self(pictures)[0]


class ConditionEncoder(FaceEncoder):
    r"""E_f: a face encoder whose vectors tell frames apart.

    Most of an Audio-face is the same in all frames. Vectors v that are normalised each by itself keep that
    part and little else: the field then sees lips at a tenth of the strength that its noise on the condition
    and its rates are made for, and draws them narrow. So the mean m over frames is taken off first:

    .. math:: f = \tfrac{1}{2} d / \sqrt{\mathrm{mean}_j(d_j^2) + s^2},\quad d = v - m

    with s^2 the variance over frames. A frame near the mean stays near 0, and no vector is longer than half
    the square root of its length, however fast E_f learns. m and s^2 follow it slowly.

    Args:
        size, width: as in `FaceEncoder`.
    """

    mean: Tensor
    variance: Tensor
    calibrated: Tensor

    def __init__(self, size: int = 112, width: int = 16) -> None:
        super().__init__(size, width)
        self.register_buffer("mean", torch.zeros(vector_size(width)))
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("calibrated", torch.tensor(False))

    def encode(self, pictures: Tensor, follow: bool = False) -> Tensor:
        """f^_aud-face [n, 16 w]: what E_f gives the field.

        Args:
            pictures: [n, 3, s, s] in [-1, 1].
            follow: these are frames of a training step: move mean and variance towards theirs.
        """
        vectors = super().encode(pictures)
        if follow:
            with torch.no_grad():
                self.mean.lerp_(vectors.mean(0).to(self.mean), _FOLLOW)
                self.variance.lerp_((vectors - self.mean).square().mean().to(self.variance), _FOLLOW)
        apart = vectors - self.mean
        length = (apart.square().mean(1, keepdim=True) + self.variance).clamp_min(_LEAST_VARIANCE).sqrt()
        return _STRENGTH * apart / length

    @torch.no_grad()
    def calibrate(self, pictures: Tensor, batch_size: int = 64) -> None:
        """Take mean and variance from pictures of many frames, where no earlier call has."""
        if bool(self.calibrated):
            return
        vectors = torch.cat([super(ConditionEncoder, self).encode(p) for p in pictures.split(batch_size)])
        self.mean.copy_(vectors.mean(0))
        self.variance.copy_((vectors - self.mean).square().mean())
        self.calibrated.fill_(True)


class FusionDecoder(nn.Module):
    """D: f_aud-face and f_a to the fused Audio-face I^_fus-af, with E_a's maps as skips.

    Up-sampling and convolution where the paper has transposed convolutions, which leave stripes. No batch
    normalisation: with a fixed reference frame the statistics of a batch hide what is the same in it, and a
    decoder that had it did not listen to the sound.

    Args:
        size: s.
        width: as in `FaceEncoder`.

    Example:
        >>> vector, maps = FaceEncoder(32, 2)(torch.zeros(1, 3, 32, 32))
        >>> FusionDecoder(32, 2)(vector, maps, torch.zeros(1, AUDIO_SIZE)).shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(self, size: int = 112, width: int = 16) -> None:
        super().__init__()
        self.shape = (16 * width, size // MULTIPLE, size // MULTIPLE)
        n_flat = self.shape[0] * self.shape[1] * self.shape[2]
        self.head = nn.Sequential(
            nn.Linear(vector_size(width) + AUDIO_SIZE, 64 * width),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(64 * width, n_flat),
            nn.LeakyReLU(_SLOPE),
        )
        inputs = [16 * width + 8 * width, 8 * width + 4 * width, 4 * width + 2 * width, 2 * width + width]
        outputs = [8 * width, 4 * width, 2 * width, width]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in zip(inputs, outputs, strict=True))
        self.picture = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, vector: Tensor, maps: list[Tensor], sound: Tensor) -> Tensor:
        """I^_fus-af [n, 3, s, s] in (-1, 1).

        Args:
            vector: f_aud-face [n, 16 w], or [1, 16 w] of one reference for all frames.
            maps: of the same reference frames, as `FaceEncoder` gives them.
            sound: f_a [n, 64].
        """
        n = len(sound)
        features = self.head(torch.cat([vector.expand(n, -1), sound.to(vector.dtype)], 1))
        features = features.view(n, *self.shape)
        *coarse, finest = self.convs
        assert isinstance(finest, nn.Conv2d)
        for conv, skip in zip(coarse, reversed(maps[1:]), strict=True):
            features = torch.cat([features, skip.expand(n, -1, -1, -1)], 1)
            features = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = nn.functional.leaky_relu(conv(features), _SLOPE)
        features = torch.cat([features, maps[0].expand(n, -1, -1, -1)], 1)
        features = nn.functional.leaky_relu(_upsampled_conv(finest, features), _SLOPE)
        return torch.tanh(nn.functional.pixel_shuffle(_phase_conv(self.picture, features), 2).float())


def _taps_of_phases() -> Tensor:
    """[2, 2, 3, 3]: for pixels of phase a (their row modulo 2) of a map twice as fine as another, which tap u
    of a 3-tap filter meets phase b of the coarse row y - 1, y or y + 1 in which the pixel lies.
    """
    taps = torch.zeros(2, 2, 3, 3)
    for phase in range(2):
        for tap in range(3):
            row = phase + tap - 1
            taps[phase, row % 2, row // 2 + 1, tap] = 1
    return taps


_TAPS = _taps_of_phases()


def _upsampled_conv(conv: nn.Conv2d, features: Tensor) -> Tensor:
    """conv(up-sampled features) with its four phases as channels: [n, c, h, w] to [n, 4 o, h, w], of which
    `pixel_shuffle` makes [n, o, 2 h, 2 w]; the up-sampled map is never made.
    """
    taps = _TAPS.sum(1).to(conv.weight)
    weight = torch.einsum("ayu,bxv,ocuv->oabcyx", taps, taps, conv.weight)
    return _with_phases(conv, features, weight.flatten(0, 2))


def _phase_conv(conv: nn.Conv2d, features: Tensor) -> Tensor:
    """The same of a map that is as fine as the result, both with their phases as channels:
    [n, 4 c, h, w] to [n, 4 o, h, w]. Few channels at full resolution are what convolutions are slowest at.
    """
    taps = _TAPS.to(conv.weight)
    weight = torch.einsum("aiyu,bjxv,ocuv->oabcijyx", taps, taps, conv.weight)
    return _with_phases(conv, features, weight.flatten(3, 5).flatten(0, 2))


def _with_phases(conv: nn.Conv2d, features: Tensor, weight: Tensor) -> Tensor:
    assert conv.bias is not None
    return nn.functional.conv2d(features, weight, conv.bias.repeat_interleave(4), padding=1)


class SmoothingFilter(nn.Module):
    """Weights the sound of eight neighbouring frames by what they say (cited: AD-NeRF): f_a without jitter.

    It starts close to the frame's own vector alone: switching it on during a run hardly changes anything.

    Example:
        >>> SmoothingFilter()(torch.ones(2, N_NEIGHBOURS, AUDIO_SIZE)).shape
        torch.Size([2, 64])
    """

    def __init__(self, size: int = AUDIO_SIZE) -> None:
        super().__init__()
        channels = [size, 16, 8, 4, 2, 1]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(channels):
            layers += [nn.Conv1d(a, b, 3, 1, 1), nn.LeakyReLU(0.02)]
        self.convs = nn.Sequential(*layers)
        self.head = nn.Linear(N_NEIGHBOURS, N_NEIGHBOURS)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.fill_(-_OWN_FRAME_LOGIT)
            self.head.bias[NEIGHBOURS_BEFORE] = _OWN_FRAME_LOGIT

    def forward(self, sounds: Tensor) -> Tensor:
        """[n, 64] of the neighbours' [n, 8, 64] in time order."""
        logits = self.head(self.convs(sounds.transpose(1, 2))[:, 0])
        return (logits.softmax(1)[:, :, None] * sounds).sum(1)


class FaceFusion(nn.Module):
    """E_a, D and the smoothing filter; the audio net is an `AudioNet` beside it.

    Args:
        size: s.
        width: as in `FaceEncoder`.

    Example:
        >>> fusion = FaceFusion(32, 2)
        >>> fusion(torch.zeros(1, 3, 32, 32), torch.zeros(5, N_NEIGHBOURS, AUDIO_SIZE)).shape
        torch.Size([5, 3, 32, 32])
    """

    def __init__(self, size: int = 112, width: int = 16) -> None:
        super().__init__()
        self.size, self.width = size, width
        self.encoder = FaceEncoder(size, width)
        self.smoothing = SmoothingFilter()
        self.decoder = FusionDecoder(size, width)

    def forward(self, reference: Tensor, sounds: Tensor) -> Tensor:
        """I^_fus-af [n, 3, s, s] in (-1, 1).

        Args:
            reference: I_aud-face [n, 3, s, s], or [1, 3, s, s]: one for all frames.
            sounds: the audio net's vectors, [n, 64], or [n, 8, 64] of neighbouring frames to be smoothed.
        """
        sound = self.smoothing(sounds) if sounds.dim() == 3 else sounds
        return self.decoder(*self.encoder(reference), sound)


class AUClassifier(nn.Module):
    """Presence of action units in a masked face: x^ of eqs. 4 and 5, trained on real Audio-faces and frozen.

    Args:
        n_units: k.
        size: s.
        width: channels of the first layer; they double three times.

    Example:
        >>> AUClassifier(5, size=32, width=2)(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 5])
    """

    def __init__(self, n_units: int, size: int = 112, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for k in range(4):
            layers += [nn.Conv2d(channels, width * 2**k, 4, 2, 1), nn.LeakyReLU(_SLOPE)]
            channels = width * 2**k
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(channels * (size // MULTIPLE) ** 2, n_units)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits [n, k] of x^."""
        return self.head(self.layers(pictures)).float()
