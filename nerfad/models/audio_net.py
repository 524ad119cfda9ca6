"""The audio encoder f_a: a window of sound features in, the expression codes of its frame out.

Symbols: ``b`` windows, ``f`` features per row (144 of the speech encoder, 42 phones, 80 log-mel bands, 29
DeepSpeech logits, ...), ``w`` rows, ``k`` codes.

Two encoders. A minute of one speaker is some 1,400 frames: that little is fitted best by *kernel regression*,
whose optimum is one linear solve; it is the default. *Convolutions* are what trains end to end, when nothing
could be measured on the frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nerfad.models.speech_encoder import N_FEATURES as N_SPEECH
from nerfad.models.speech_encoder import SpeechEncoder

ROW_RATE = 100  # rows of a window per second
FEATURE_SIZES = {"speech": N_SPEECH, "mel": 80, "phones": 42}
# Gaussians of the phone model that an encoder of phones carries along: phones, streams, Gaussians, cepstra.
_PHONE_BUFFERS = {
    "phone_means": (42, 3, 128, 13),
    "phone_variances": (42, 3, 128, 13),
    "phone_log_weights": (42, 3, 3, 128),
    "cepstral_mean": (13,),
}


@dataclass(frozen=True)
class AudioConfig:
    """What the audio encoder hears and how it is fitted; stored in every checkpoint.

    The look-ahead is the delay of a live system: sound later than ``lookahead_s`` after a frame's middle
    never reaches that frame, nor does sound earlier than ``lookback_s`` before it.
    """

    lookback_s: float = 0.8
    lookahead_s: float = 0.2
    near_s: float = 0.2  # rows of a window begin here; what came before is context of the speech encoder
    features: str = "auto"  # speech, phones, mel joined by +; auto: what predicts best; windows: given ones
    encoder: str = "kernel"  # or "conv"
    n_components: int = 8  # principal components of the mouth beside the lip gap
    n_learnt: int = 16  # codes when nothing can be measured on the frames
    n_folds: int = 5  # blocks of time for out-of-fold predictions
    match_variance: float = 1.0  # 0: least squares (shrunk motion), 1: the variance of the true codes
    focus_s: float = 0.065  # kernel: rows count by a Gaussian of this width about the frame
    max_support: int = 2500  # kernel: frames that are kept as support
    width: int = 64  # conv and the following
    dropout: float = 0.4
    n_members: int = 3  # networks whose predictions are averaged
    n_epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    input_noise: float = 0.1  # of a standardised feature

    def __post_init__(self) -> None:
        if self.lookback_s <= 0 or self.lookahead_s < 0:
            raise ValueError("AudioConfig: lookback_s must be > 0 and lookahead_s >= 0")
        if self.n_members < 1 or self.n_folds < 2:
            raise ValueError("AudioConfig: n_members must be >= 1 and n_folds >= 2")
        known = self.features in ("auto", "windows") or set(self.features.split("+")) <= set(FEATURE_SIZES)
        if not known:
            raise ValueError(
                "AudioConfig: features must be auto, windows, or speech, phones and mel joined by +, "
                f"got {self.features!r}"
            )
        if self.encoder not in ("kernel", "conv"):
            raise ValueError(f"AudioConfig: encoder must be kernel or conv, got {self.encoder!r}")

    @property
    def rows_before(self) -> int:
        """Rows of a window before the frame's middle."""
        return round(ROW_RATE * min(self.near_s, self.lookback_s))

    @property
    def window_rows(self) -> int:
        """Rows of a window, other than given ones."""
        return self.rows_before + round(ROW_RATE * self.lookahead_s)

    @property
    def parts(self) -> dict[str, int]:
        """Kinds of features and their sizes, in the order of a window's rows."""
        return {name: FEATURE_SIZES[name] for name in self.features.split("+") if name in FEATURE_SIZES}

    def hears(self, kind: str) -> bool:
        """Whether ``kind`` ("speech", "phones", "mel") is among the features."""
        return kind in self.parts


STREAMING = AudioConfig(lookahead_s=0.12)


class KernelEncoder(nn.Module):
    """Kernel ridge regression with a Gaussian kernel on windows: [b, f, w] to [b, k].

    ``code = offset + sum_i coefficients_i exp(-gamma |e(x) - support_i|^2)``, where ``e`` weights rows and
    features and averages a few rows at a time.
    """

    def __init__(self, n_features: int, n_rows: int, n_codes: int) -> None:
        super().__init__()
        self.pool = max(1, n_rows // 10)
        n_inputs = n_features * -(-n_rows // self.pool)
        self.row_weights: Tensor
        self.feature_weights: Tensor
        self.support: Tensor
        self.gamma: Tensor
        self.register_buffer("row_weights", torch.ones(n_rows))
        self.register_buffer("feature_weights", torch.ones(n_features))
        self.register_buffer("support", torch.zeros(0, n_inputs))
        self.register_buffer("gamma", torch.ones(()))
        self.coefficients = nn.Parameter(torch.zeros(0, n_codes))
        self.offset = nn.Parameter(torch.zeros(n_codes))

    def embed(self, windows: Tensor) -> Tensor:
        """e(x): [b, f, w] to [b, n_inputs]; of mean square 1 for standardised windows."""
        weighted = windows * self.row_weights * self.feature_weights[:, None]
        pooled = nn.functional.avg_pool1d(weighted, self.pool, ceil_mode=True)
        size = self.feature_weights.square().sum() * self.row_weights.square().mean() * pooled.shape[2]
        return pooled.flatten(1) / size.sqrt()

    def forward(self, windows: Tensor) -> Tensor:
        return (
            self.offset + gaussian_kernel(self.embed(windows), self.support, self.gamma) @ self.coefficients
        )

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:  # type: ignore[no-untyped-def]
        """The number of support frames is part of the state, not of the shape."""
        n_support = len(state_dict.get(prefix + "support", self.support))
        self.support = self.support.new_zeros(n_support, self.support.shape[1])
        self.coefficients.data = self.coefficients.data.new_zeros(n_support, self.coefficients.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *args)


def gaussian_kernel(a: Tensor, b: Tensor, gamma: Tensor | float) -> Tensor:
    """exp(-gamma |a_i - b_j|^2) of [n, d] and [m, d]: [n, m]."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T
    return torch.exp(-gamma * squares.clamp_min(0))


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
    """Encoders whose predictions are averaged, with the input's standardisation and the output's gain inside.

    Example:
        >>> net = AudioNet(n_features=80, n_rows=40, n_codes=9)
        >>> net(torch.zeros(2, 80, 40)).shape
        torch.Size([2, 9])
    """

    speech: SpeechEncoder
    phone_means: Tensor
    phone_variances: Tensor
    phone_log_weights: Tensor
    cepstral_mean: Tensor

    def __init__(self, n_features: int, n_rows: int, n_codes: int, config: AudioConfig | None = None) -> None:
        super().__init__()
        self.config = config or AudioConfig()
        self.shape = (n_features, n_rows, n_codes)
        self.members = nn.ModuleList(make_encoder(self.shape, self.config) for _ in range(self.n_members))
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.gain: Tensor
        self.register_buffer("feature_mean", torch.zeros(n_features, 1))
        self.register_buffer("feature_std", torch.ones(n_features, 1))
        self.register_buffer("gain", torch.ones(n_codes))
        if self.config.hears("speech"):
            self.speech = SpeechEncoder()
        if self.config.hears("phones"):
            for name, shape in _PHONE_BUFFERS.items():
                self.register_buffer(name, torch.ones(shape))

    @property
    def n_members(self) -> int:
        """Encoders in the average."""
        return 1 if self.config.encoder == "kernel" else self.config.n_members

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


def make_encoder(shape: tuple[int, int, int], config: AudioConfig) -> nn.Module:
    """A fresh encoder of the kind and size that ``config`` asks for."""
    if config.encoder == "kernel":
        return KernelEncoder(*shape)
    return ConvEncoder(*shape, config.width, config.dropout)
