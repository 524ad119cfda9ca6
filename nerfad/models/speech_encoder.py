"""The lower blocks of a conformer that recognises phonemes: what was said, before it is written down.

Symbols: ``b`` stretches of sound, ``r`` rows of log-mel at 100 Hz, ``n = ceil(r / 2)`` tokens at 50 Hz,
``d = 144`` features per token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

N_FEATURES = 144
_N_HEADS = 4
_N_MELS = 80
_N_FFT_BINS = 201


class SpeechEncoder(nn.Module):
    """Log-mel [b, r, 80] to tokens [b, n, 144]; token i is centred on row 2 i.

    Every token attends to the whole stretch: what lies outside it cannot be heard.

    Example:
        >>> SpeechEncoder(n_blocks=1)(torch.zeros(2, 30, 80)).shape
        torch.Size([2, 15, 144])
    """

    def __init__(self, n_blocks: int = 2, log_floor: float = -23.02585) -> None:
        super().__init__()
        self.log_floor = log_floor
        self.filters: Tensor
        self.register_buffer("filters", torch.zeros(_N_FFT_BINS, _N_MELS))
        self.subsample = nn.Conv1d(_N_MELS, N_FEATURES, 3, 2, 1)
        self.blocks = nn.ModuleList(ConformerBlock(N_FEATURES, _N_HEADS, 31) for _ in range(n_blocks))
        self.requires_grad_(False)

    def forward(self, mel: Tensor) -> Tensor:
        """``mel`` is 0 where it is silent, as `nerfad.features.speech.speech_mel` makes it."""
        rows = (mel + self.log_floor).transpose(1, 2)
        tokens = nn.functional.silu(self.subsample(rows)).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class ConformerBlock(nn.Module):
    """Half a feed-forward, self-attention, a convolution over time, half a feed-forward; residual each."""

    def __init__(self, width: int, n_heads: int, kernel: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_ffn1, self.ffn1 = nn.LayerNorm(width), _feed_forward(width)
        self.norm_attention = nn.LayerNorm(width)
        self.to_qkv, self.from_heads = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm_conv = nn.LayerNorm(width)
        self.pointwise1 = nn.Conv1d(width, 2 * width, 1)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.pointwise2 = nn.Conv1d(width, width, 1)
        self.norm_ffn2, self.ffn2 = nn.LayerNorm(width), _feed_forward(width)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.ffn1(self.norm_ffn1(x))
        x = x + self._attend(self.norm_attention(x))
        x = x + self._convolve(self.norm_conv(x))
        x = x + 0.5 * self.ffn2(self.norm_ffn2(x))
        return self.norm_out(x)

    def _attend(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        heads = self.to_qkv(x).view(b, n, 3, self.n_heads, width // self.n_heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*heads)
        return self.from_heads(mixed.transpose(1, 2).reshape(b, n, width))

    def _convolve(self, x: Tensor) -> Tensor:
        gated = nn.functional.glu(self.pointwise1(x.transpose(1, 2)), 1)
        return self.pointwise2(nn.functional.silu(self.depthwise(gated))).transpose(1, 2)


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))
