"""The audio encoder f_a: a window of sound features in, the expression codes of its frame out.

Symbols: ``b`` windows, ``f`` features per row (80 log-mel bands, 29 DeepSpeech logits, ...), ``w`` rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

MEL_RATE = 100  # rows of log-mel per second


@dataclass(frozen=True)
class AudioConfig:
    """Shape of the audio encoder and how it is fitted; stored in every checkpoint.

    The look-ahead is the delay of a live system: sound later than ``lookahead_s`` after a frame's middle
    never reaches that frame.
    """

    lookback_s: float = 0.3
    lookahead_s: float = 0.2
    n_components: int = 8  # principal components of the mouth beside the lip gap
    n_learnt: int = 16  # codes when nothing can be measured on the frames
    width: int = 64
    dropout: float = 0.4
    n_members: int = 3  # networks whose predictions are averaged
    n_folds: int = 4  # blocks of time for out-of-fold predictions
    n_epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    input_noise: float = 0.1  # of a standardised feature
    match_variance: float = 1.0  # 0: least squares (shrunk motion), 1: the variance of the true codes

    def __post_init__(self) -> None:
        if self.lookback_s <= 0 or self.lookahead_s < 0:
            raise ValueError("AudioConfig: lookback_s must be > 0 and lookahead_s >= 0")
        if self.n_members < 1 or self.n_folds < 2:
            raise ValueError("AudioConfig: n_members must be >= 1 and n_folds >= 2")

    @property
    def window_rows(self) -> int:
        """Rows of a log-mel window."""
        return round(MEL_RATE * (self.lookback_s + self.lookahead_s))


STREAMING = AudioConfig(lookahead_s=0.12)


class ConvEncoder(nn.Module):
    """Strided convolutions over time, then two linear layers: [b, f, w] to [b, k]."""

    def __init__(self, n_features: int, n_rows: int, n_codes: int, width: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, rows = n_features, n_rows
        while rows > 6:
            layers += [nn.Conv1d(channels, width, 3, 2, 1), nn.ReLU()]
            channels, rows = width, (rows + 1) // 2
        self.convs = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(channels * rows, width), nn.ReLU(), nn.Linear(width, n_codes)
        )

    def forward(self, windows: Tensor) -> Tensor:
        return self.head(self.convs(windows).flatten(1))


class AudioNet(nn.Module):
    """An ensemble of encoders with the input's standardisation and the output's gain inside.

    Example:
        >>> net = AudioNet(n_features=80, n_rows=50, n_codes=9)
        >>> net(torch.zeros(2, 80, 50)).shape
        torch.Size([2, 9])
    """

    def __init__(self, n_features: int, n_rows: int, n_codes: int, config: AudioConfig | None = None) -> None:
        super().__init__()
        self.config = config or AudioConfig()
        self.shape = (n_features, n_rows, n_codes)
        self.members = nn.ModuleList(
            ConvEncoder(n_features, n_rows, n_codes, self.config.width, self.config.dropout)
            for _ in range(self.config.n_members)
        )
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.gain: Tensor
        self.register_buffer("feature_mean", torch.zeros(n_features, 1))
        self.register_buffer("feature_std", torch.ones(n_features, 1))
        self.register_buffer("gain", torch.ones(n_codes))

    def standardise(self, windows: Tensor) -> Tensor:
        """Each feature to mean 0 and standard deviation 1 over the training sound."""
        return (windows - self.feature_mean) / self.feature_std

    def forward(self, windows: Tensor) -> Tensor:
        """Codes [b, k] of windows [b, f, w] of raw features."""
        n_features, n_rows, _ = self.shape
        if windows.shape[1:] != (n_features, n_rows):
            raise ValueError(
                f"AudioNet: windows must have shape [b, {n_features}, {n_rows}], got {list(windows.shape)}"
            )
        inputs = self.standardise(windows)
        return self.gain * torch.stack([member(inputs) for member in self.members]).mean(0)
