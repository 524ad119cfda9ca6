"""Steps of the fusion: first the action-unit classifier on real Audio-faces, then E_a, audio net and D."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nerfad.config import FusionConfig
from nerfad.engine.attention_data import as_input
from nerfad.engine.attention_trainer import rate_scale
from nerfad.engine.fusion_data import FusionData, seeded
from nerfad.models import fusion_losses as losses
from nerfad.models.audio_net import AudioNet
from nerfad.models.face_fusion import AUClassifier, FaceFusion
from nerfad.progress import Progress, report

_CLASSIFIER_RATE = 1e-3
_CLASSIFIER_BATCH = 32


@dataclass
class FusionLosses:
    """Eqs. 4 to 6 of decoded Audio-faces, weighted.

    Attributes:
        classifier: x^ of eqs. 4 and 5.
        unit_weights: w [k] of eq. 4.
    """

    config: FusionConfig
    classifier: AUClassifier
    unit_weights: Tensor

    def __call__(self, decoded: Tensor, targets: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the loss.

        Args:
            decoded, targets: [n, 3, s, s] in [-1, 1].
            labels: [n, k], 0 or 1.
        """
        weights = self.config.weights
        terms = {"reconstruction": weights.reconstruction * losses.reconstruction_loss(decoded, targets)}
        if self.config.au_loss:
            with picture_precision(self.config, decoded.device):
                logits = self.classifier(disturbed(decoded, self.config))
            terms["bce"] = weights.au * losses.weighted_bce(logits, labels, self.unit_weights)
            terms["dice"] = weights.au * losses.weighted_dice(logits.sigmoid(), labels, self.unit_weights)
        return terms


class FusionTrainer:
    """Holds everything that a step changes; every step's chance is drawn from the seed and its number.

    Args:
        config: settings.
        data: the training frames.
        net: the audio net, which knows its inputs' scale.
    """

    def __init__(self, config: FusionConfig, data: FusionData, net: AudioNet) -> None:
        self.config, self.data = config, data
        with seeded(config.seed):
            fusion = FaceFusion(config.size, config.width)
            classifier = AUClassifier(len(data.units), config.size, config.classifier_width)
        self.fusion = fusion.to(config.device)
        self.classifier = classifier.to(config.device)
        self.net = net.to(config.device)
        unit_weights = losses.unit_weights(data.rates).to(config.device)
        self._losses = FusionLosses(config, self.classifier, unit_weights)
        trained = {f"fusion.{key}": value for key, value in self.fusion.named_parameters()}
        trained |= {f"audio.members.{key}": value for key, value in self.net.members.named_parameters()}
        self._parameters = trained
        self._adam = torch.optim.AdamW(
            list(trained.values()), config.learning_rate, weight_decay=config.weight_decay
        )
        self.n_steps = 0

    def train_classifier(self, progress: Progress | None = None) -> None:
        """Stage 1: the classifier of eqs. 4 and 5 on real Audio-faces; frozen afterwards."""
        config, data = self.config, self.data
        optimiser = torch.optim.AdamW(self.classifier.parameters(), _CLASSIFIER_RATE, weight_decay=1e-2)
        for step in range(config.classifier_steps):
            with seeded(config.seed, -1 - step):
                rows = torch.randint(len(data.faces), (_CLASSIFIER_BATCH,))
                pictures = as_input(data.faces[rows]).to(config.device)
                pictures = torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, pictures.flip(3), pictures)
                pictures = disturbed(pictures, config)
            for group in optimiser.param_groups:
                group["lr"] = _CLASSIFIER_RATE * rate_scale(step / config.classifier_steps)
            with picture_precision(config, config.device):
                logits = self.classifier(pictures)
            labels = data.labels[rows].to(config.device)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if step % 20 == 0:
                text = f"teaching the action-unit classifier, loss {float(loss.detach()):.3f}"
                report(progress, 0.0, f"{text} ({step / config.classifier_steps:.0%})")
        self.classifier.requires_grad_(False)

    def step(self, share: float) -> dict[str, float]:
        """One step of E_a, audio net, filter and D; returns its figures.

        Args:
            share: share of the run that is over, which sets the learning rate and switches the filter on.
        """
        config = self.config
        for group in self._adam.param_groups:
            group["lr"] = config.learning_rate * rate_scale(share)
        self.net.train()
        with seeded(config.seed, self.n_steps):
            draw = torch.Generator().manual_seed(torch.initial_seed())
            batch = self.data.batch(config, share >= config.smooth_from, draw)
            decoded = self.decode(batch.references, batch.windows, config.sound_noise)
            terms = self._losses(decoded, batch.targets.to(config.device), batch.labels.to(config.device))
        self._adam.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        self._adam.step()
        self.n_steps += 1
        return {key: float(value.detach()) for key, value in terms.items()}

    def decode(self, references: Tensor, windows: Tensor, sound_noise: float = 0.0) -> Tensor:
        """I^_fus-af [n, 3, s, s] of windows of raw features [n, f, w] or [n, 8, f, w].

        Args:
            references: I_aud-face [n or 1, 3, s, s].
            sound_noise: standard deviation of the noise on the standardised features.
        """
        device = self.config.device
        sounds = sound_vectors(self.net, windows.to(device), sound_noise)
        references = references.to(device).contiguous(memory_format=torch.channels_last)
        with picture_precision(self.config, device):
            return self.fusion(references, sounds)

    @torch.no_grad()
    def preview(self, rows: Tensor) -> Tensor:
        """Reference, decoded and target of some training rows side by side: [n, 3, s, 3 s] in [-1, 1]."""
        self.net.eval()
        starts = torch.tensor([start for start, _ in self.data.people])
        people = torch.searchsorted(starts, rows, right=True) - 1
        references = as_input(self.data.faces[torch.tensor(self.data.references)[people]])
        decoded = self.decode(references, self.data.windows[self.data.neighbours[rows]]).cpu()
        return torch.cat([references, decoded, as_input(self.data.faces[rows])], 3)

    def state(self) -> dict[str, Tensor]:
        """Everything that resuming needs, the networks included."""
        modules = {"fusion": self.fusion, "audio": self.net, "classifier": self.classifier}
        tensors = {
            f"{name}.{key}": value
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }
        for key, parameter in self._parameters.items():
            tensors |= {f"adam.{name}.{key}": value for name, value in self._adam.state[parameter].items()}
        return tensors

    def load_state(self, n_steps: int, tensors: dict[str, Tensor]) -> None:
        """The optimiser's part of `state`; the networks are restored by their owner."""
        self.n_steps = n_steps
        self.classifier.requires_grad_(False)
        for key_of_tensor, value in tensors.items():
            if key_of_tensor.startswith("adam."):
                name, key = key_of_tensor.removeprefix("adam.").split(".", 1)
                parameter = self._parameters[key]
                # The count of steps stays on the CPU, where AdamW keeps it.
                place = parameter.device if value.dim() else value.device
                self._adam.state[parameter][name] = value.to(place, copy=True)


def disturbed(pictures: Tensor, config: FusionConfig) -> Tensor:
    """Pictures with noise, shifted by a few pixels: a frozen classifier that sees single pixels could be
    fooled by single pixels.
    """
    reach, size = config.shift_px, pictures.shape[-1]
    if reach > 0:
        padded = nn.functional.pad(pictures, (reach,) * 4, mode="replicate")
        down, across = torch.randint(2 * reach + 1, (2,), device="cpu").tolist()
        pictures = padded[:, :, down : down + size, across : across + size]
    return pictures + config.picture_noise * torch.randn_like(pictures)


def picture_precision(
    config: FusionConfig, device: str | torch.device
) -> contextlib.AbstractContextManager[None]:
    """The arithmetic of the picture networks."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=config.bfloat16)


def sound_vectors(net: AudioNet, windows: Tensor, noise: float = 0.0) -> Tensor:
    """f_a [n, 64] of windows [n, f, w], or [n, 8, 64] of windows [n, 8, f, w], before the filter."""
    flat = windows.flatten(0, -3)
    if noise > 0:
        flat = flat + noise * net.feature_std * torch.randn_like(flat)
    return net(flat).unflatten(0, windows.shape[:-2])
