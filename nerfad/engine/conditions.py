"""The condition of each training frame: speech code, blink, appearance.

Where codes can be measured on the frames, the field is trained on a mix of measured codes and of what the
audio encoder says of that frame when it was left out (out-of-fold): measured codes keep the mouth sharp,
predicted ones are what the field gets in use. Where nothing can be measured, the encoder is trained through
the field, and the codes are whatever helps the picture. Noise keeps the field from learning frames by heart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nerfad.config import OptimConfig
from nerfad.data.dataset import Dataset
from nerfad.engine.code_fit import blink_codes
from nerfad.engine.fusion_data import person_windows
from nerfad.engine.hearing import dataset_windows
from nerfad.engine.train_audio import AudioFit
from nerfad.engine.voice import CodeVoice, FusedVoice, Voice
from nerfad.models.audio_net import AudioNet


class Conditions(Protocol):
    """Conditions of the training frames, rows as in the frame store. All tensors lie on one device."""

    blink: Tensor  # [n, 1]

    @property
    def n_codes(self) -> int:
        """Numbers of the condition that come from outside: speech codes and blink."""
        ...

    def draw(self, frames: Tensor, config: OptimConfig, generator: torch.Generator) -> Tensor:
        """Noisy conditions [len(frames), n_codes] of one training step."""
        ...

    def spread(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` conditions [n, n_codes] drawn from all frames, for the occupancy grid."""
        ...

    def heard(self, frame: int) -> Tensor:
        """The condition [n_codes] of one frame as the avatar hears it in use."""
        ...

    def parameters(self) -> dict[str, Tensor]:
        """What is trained along with the field, by name."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint."""
        ...

    def loss(self) -> Tensor | None:
        """What the last `draw` adds to the loss, if anything."""
        ...


@dataclass
class ConditionTable:
    """Codes that were measured on the frames, and what the sound says of them."""

    true_codes: Tensor  # [n, k]
    heard_codes: Tensor  # [n, k]
    blink: Tensor  # [n, 1]

    @property
    def n_codes(self) -> int:
        return self.heard_codes.shape[1] + 1

    def draw(self, frames: Tensor, config: OptimConfig, generator: torch.Generator) -> Tensor:
        at = frames.to(self.blink.device)
        chosen = torch.rand(len(frames), 1, generator=generator, device=generator.device)
        codes = torch.where(
            chosen.to(at.device) < config.true_code_share, self.true_codes[at], self.heard_codes[at]
        )
        return noisy(torch.cat([codes, self.blink[at]], 1), config, generator)

    def spread(self, n: int, generator: torch.Generator) -> Tensor:
        at = _any_frames(n, self.blink, generator)
        return torch.cat([self.true_codes[at], self.blink[at]], 1)

    def heard(self, frame: int) -> Tensor:
        return torch.cat([self.heard_codes[frame], self.blink[frame]])

    def parameters(self) -> dict[str, Tensor]:
        return {}

    def state(self) -> dict[str, Tensor]:
        return {"true_codes": self.true_codes, "heard_codes": self.heard_codes, "blink": self.blink}

    def loss(self) -> None:
        return None


@dataclass
class LearntConditions:
    """Codes that the audio encoder finds by itself, because its gradient comes through the field."""

    net: AudioNet
    windows: Tensor  # [n, f, w]
    blink: Tensor  # [n, 1]

    @property
    def n_codes(self) -> int:
        return self.net.shape[2] + 1

    def draw(self, frames: Tensor, config: OptimConfig, generator: torch.Generator) -> Tensor:
        at = frames.to(self.blink.device)
        self.net.train()
        codes = self.net(self.windows[at])
        return noisy(torch.cat([codes, self.blink[at]], 1), config, generator)

    @torch.no_grad()
    def spread(self, n: int, generator: torch.Generator) -> Tensor:
        at = _any_frames(n, self.blink, generator)
        self.net.eval()
        return torch.cat([self.net(self.windows[at]), self.blink[at]], 1)

    @torch.no_grad()
    def heard(self, frame: int) -> Tensor:
        self.net.eval()
        return torch.cat([self.net(self.windows[frame : frame + 1])[0], self.blink[frame]])

    def parameters(self) -> dict[str, Tensor]:
        return {f"audio.{name}": value for name, value in self.net.named_parameters() if value.requires_grad}

    def state(self) -> dict[str, Tensor]:
        return {"blink": self.blink}

    def loss(self) -> None:
        return None


class FaceConditions(ABC):
    """f^_aud-face of fused faces and the blink: what frozen and learning fusions have in common."""

    voice: FusedVoice
    blink: Tensor

    @property
    def n_codes(self) -> int:
        return self.voice.n_codes + 1

    @torch.no_grad()
    def spread(self, n: int, generator: torch.Generator) -> Tensor:
        return self.conditions_at(_any_frames(n, self.blink, generator))

    @torch.no_grad()
    def heard(self, frame: int) -> Tensor:
        return self.conditions_at(torch.tensor([frame], device=self.blink.device))[0]

    def state(self) -> dict[str, Tensor]:
        return {"blink": self.blink}

    @abstractmethod
    def conditions_at(self, at: Tensor) -> Tensor:
        """Conditions [m, n_codes] of frames as they are heard in use, without noise."""


@dataclass
class FusedConditions(FaceConditions):
    """f^_aud-face of faces that were fused with the frames' sound beforehand; E_f is trained through the
    field (section 2.2).
    """

    voice: FusedVoice
    faces: Tensor  # uint8 [n, s, s, 3]
    blink: Tensor  # [n, 1]

    def draw(self, frames: Tensor, config: OptimConfig, generator: torch.Generator) -> Tensor:
        at = frames.to(self.blink.device)
        codes = self.voice.encode(self.faces[at], follow=True)
        return noisy(torch.cat([codes, self.blink[at]], 1), config, generator)

    def parameters(self) -> dict[str, Tensor]:
        return {f"face_encoder.{name}": value for name, value in self.voice.encoder.named_parameters()}

    def loss(self) -> None:
        return None

    def conditions_at(self, at: Tensor) -> Tensor:
        return torch.cat([self.voice.encode(self.faces[at]), self.blink[at]], 1)


def fused_conditions(
    voice: FusedVoice, dataset: Dataset, frames: np.ndarray, device: str | torch.device = "cpu"
) -> FusedConditions:
    """The conditions of `frames`, positions in the data set, from the data set's own sound."""
    faces = voice.faces(person_windows(voice.net, dataset), dataset.segments)
    faces = faces[torch.from_numpy(frames)].to(device)
    voice.encoder.to(device)
    voice.calibrate(faces)
    blink = torch.from_numpy(blink_codes(dataset, frames)[frames])
    return FusedConditions(voice, faces, blink.to(device))


def fitted_conditions(
    fit: AudioFit, dataset: Dataset, frames: np.ndarray, device: str | torch.device = "cpu"
) -> Conditions:
    """The conditions of `frames`, positions in the data set."""
    state = {"blink": torch.from_numpy(fit.blink[frames])}
    if fit.true_codes is not None and fit.oof_codes is not None:
        state["true_codes"] = torch.from_numpy(fit.true_codes[frames])
        state["heard_codes"] = torch.from_numpy(fit.oof_codes[frames])
    return restored_conditions(state, CodeVoice(fit.net, fit.codes), dataset, frames, device)


def silent_conditions(
    dataset: Dataset, frames: np.ndarray, device: str | torch.device = "cpu"
) -> ConditionTable:
    """The conditions of `frames` without sound: blinks alone."""
    blink = torch.from_numpy(blink_codes(dataset, frames)[frames]).to(device)
    nothing = blink.new_zeros(len(frames), 0)
    return ConditionTable(nothing, nothing, blink)


def restored_conditions(
    state: dict[str, Tensor],
    voice: Voice,
    dataset: Dataset,
    frames: np.ndarray,
    device: str | torch.device = "cpu",
) -> Conditions:
    """The inverse of `Conditions.state`, for codes; faces are fused anew."""
    state = {name: value.to(device) for name, value in state.items()}
    if "true_codes" in state:
        return ConditionTable(**state)
    assert isinstance(voice, CodeVoice)
    net = voice.net
    windows = dataset_windows(dataset, net)[torch.from_numpy(frames)]
    return LearntConditions(net.to(device), windows.to(device), state["blink"])


def _any_frames(n: int, rows: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(len(rows), (n,), generator=generator, device=generator.device).to(rows.device)


def noisy(conditions: Tensor, config: OptimConfig, generator: torch.Generator) -> Tensor:
    """With noise in units of the codes' standard deviations, half of it on the blink."""
    noise = torch.randn(conditions.shape, generator=generator, device=generator.device)
    noise[:, -1] *= 0.5
    return conditions + config.condition_noise * noise.to(conditions.device)
