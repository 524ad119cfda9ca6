"""The condition of each training frame: speech code, blink, appearance.

The field is trained on a mix of the codes measured on the frame and of what the audio encoder says of that
frame when it was left out (out-of-fold): measured codes keep the mouth sharp, predicted ones are what the
field gets in use. Noise keeps it from learning frames by heart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nerfad.config import OptimConfig
from nerfad.engine.train_audio import AudioFit


@dataclass
class ConditionTable:
    """Codes of the training frames, rows as in the frame store."""

    true_codes: Tensor | None  # [n, k], None where nothing could be measured
    heard_codes: Tensor  # [n, k]
    blink: Tensor  # [n, 1]

    @classmethod
    def of(cls, fit: AudioFit, frames: np.ndarray) -> ConditionTable:
        """The rows of `frames`, positions in the data set."""
        if fit.true_codes is None or fit.oof_codes is None:
            n = len(frames)
            return cls(None, torch.zeros(n, fit.codes.n_codes), torch.from_numpy(fit.blink[frames]))
        return cls(
            torch.from_numpy(fit.true_codes[frames]),
            torch.from_numpy(fit.oof_codes[frames]),
            torch.from_numpy(fit.blink[frames]),
        )

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> ConditionTable:
        """The inverse of `state`."""
        return cls(state.get("true_codes"), state["heard_codes"], state["blink"])

    def state(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint."""
        table = {"heard_codes": self.heard_codes, "blink": self.blink}
        return table if self.true_codes is None else {**table, "true_codes": self.true_codes}

    @property
    def n_codes(self) -> int:
        """Numbers of the condition that come from outside: speech codes and blink."""
        return self.heard_codes.shape[1] + 1

    @property
    def usual_blink(self) -> float:
        """The blink code of open eyes."""
        return float(self.blink.median())

    def draw(self, frames: Tensor, config: OptimConfig, generator: torch.Generator) -> Tensor:
        """Noisy conditions [len(frames), k + 1] of one training step."""
        codes = self.heard_codes[frames]
        if self.true_codes is not None:
            chosen = torch.rand(len(frames), 1, generator=generator) < config.true_code_share
            codes = torch.where(chosen, self.true_codes[frames], codes)
        noise = torch.randn(len(frames), codes.shape[1] + 1, generator=generator)
        noise[:, -1] *= 0.5
        return torch.cat([codes, self.blink[frames]], 1) + config.condition_noise * noise

    def spread(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` conditions [n, k + 1] drawn from all frames, for the occupancy grid."""
        frames = torch.randint(len(self.blink), (n,), generator=generator)
        codes = self.heard_codes if self.true_codes is None else self.true_codes
        return torch.cat([codes[frames], self.blink[frames]], 1)
