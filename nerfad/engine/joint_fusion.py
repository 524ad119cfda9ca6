"""The fusion goes on learning while the field is trained: eq. 9 reaches audio net, E_a and D through E_f, and
eqs. 4 to 6 keep the fused face a face.

A fusion that is frozen has seen the training frames: their faces are sharper than those of frames it has only
heard, and a field trained on them listens to what is not there in use. As with measured codes, part of the
steps (`true_code_share`) show E_f the frames' real Audio-faces instead: it keeps the mouth's whole range.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from nerfad.config import OptimConfig, fusion_config_of, to_dict
from nerfad.data.dataset import Dataset
from nerfad.engine.attention_data import as_input
from nerfad.engine.code_fit import blink_codes
from nerfad.engine.conditions import FaceConditions, noisy
from nerfad.engine.fusion_data import neighbours_of, person_windows, presence
from nerfad.engine.fusion_trainer import FusionLosses, picture_precision, sound_vectors
from nerfad.engine.pretrain_fusion import Fusion
from nerfad.engine.voice import FusedVoice
from nerfad.errors import CheckpointError
from nerfad.io.atomic import atomic_write
from nerfad.models.face_fusion import AUClassifier
from nerfad.models.fusion_losses import unit_weights

TARGETS_NAME = "fusion_targets.safetensors"
"""Lies in the run's folder beside the checkpoints, of which none repeats it: it never changes."""


@dataclass
class FusionTargets:
    """What the fused faces of the training frames should look like, and show.

    Attributes:
        faces: I_fus-af, uint8 [n, s, s, 3].
        labels: presence of the action units, float32 [n, k], 0 or 1.
        known: bool [n]; frames without a face or action units have no target.
        losses: eqs. 4 to 6.
    """

    faces: Tensor
    labels: Tensor
    known: Tensor
    losses: FusionLosses

    @classmethod
    def of(cls, fusion: Fusion, dataset: Dataset, frames: np.ndarray) -> FusionTargets:
        """The targets of `frames`, positions in a data set that the fusion was trained on."""
        found, faces, codes = fusion.audio_faces(dataset, frames)
        at = torch.from_numpy(np.searchsorted(frames, found))
        all_faces = torch.zeros(len(frames), *faces.shape[1:], dtype=torch.uint8)
        labels, known = torch.zeros(len(frames), codes.shape[1]), torch.zeros(len(frames), dtype=torch.bool)
        all_faces[at], labels[at], known[at] = faces, presence(codes), True
        weights = unit_weights(torch.tensor(fusion.meta["unit_rates"]))
        losses = FusionLosses(fusion_config_of(fusion.meta["config"]), fusion.classifier, weights)
        return cls(all_faces, labels, known, losses)

    def save(self, run: Path) -> None:
        """Write them into a run's folder: resuming then needs neither the fusion's folder nor new crops."""
        tensors = {"faces": self.faces, "labels": self.labels, "known": self.known}
        tensors["unit_weights"] = self.losses.unit_weights
        tensors |= {f"classifier.{key}": v for key, v in self.losses.classifier.state_dict().items()}
        about = {"config": json.dumps(to_dict(self.losses.config))}
        with atomic_write(run / TARGETS_NAME, sync=True) as file:
            file.write(safetensors.torch.save(tensors, about))

    @staticmethod
    def exist(run: Path) -> bool:
        """Whether a run's folder holds them."""
        return (run / TARGETS_NAME).is_file()

    @classmethod
    def load(cls, run: Path) -> FusionTargets:
        """The inverse of `save`; raises CheckpointError where the file is damaged."""
        path = run / TARGETS_NAME
        try:
            with safetensors.safe_open(path, "pt") as file:
                config = fusion_config_of(json.loads(file.metadata()["config"]))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: is damaged; train again into a new folder.") from error
        faces, labels, known = (tensors.pop(name) for name in ("faces", "labels", "known"))
        weights = tensors.pop("unit_weights")
        classifier = AUClassifier(labels.shape[1], config.size, config.classifier_width)
        classifier.load_state_dict({key.removeprefix("classifier."): v for key, v in tensors.items()})
        return cls(faces, labels, known, FusionLosses(config, classifier.eval(), weights))

    def to(self, device: str | torch.device) -> FusionTargets:
        """On another device; the classifier is frozen."""
        losses = self.losses
        frozen = losses.classifier.to(device).requires_grad_(False)
        losses = FusionLosses(losses.config, frozen, losses.unit_weights.to(device))
        return FusionTargets(self.faces.to(device), self.labels.to(device), self.known.to(device), losses)

    def loss(self, decoded: Tensor, rows: Tensor) -> Tensor:
        """The fusion's loss of `decoded` [m, 3, s, s], faces of the frames `rows` [m]."""
        known = self.known[rows]
        if not bool(known.any()):
            return decoded.sum() * 0
        rows = rows[known]
        terms = self.losses(decoded[known], as_input(self.faces[rows]), self.labels[rows])
        return torch.stack(list(terms.values())).sum()


@dataclass
class JointConditions(FaceConditions):
    """f^_aud-face of faces that are fused anew in every step. Everything lies on one device.

    Attributes:
        windows: the audio net's inputs float32 [m, f, w], of every frame of the clip.
        near: rows of `windows`, int64 [n, 8], of each training frame's neighbours in time order.
        blink: [n, 1].
    """

    voice: FusedVoice
    windows: Tensor
    near: Tensor
    blink: Tensor
    targets: FusionTargets

    def __post_init__(self) -> None:
        self.voice.networks.requires_grad_(True)
        self.last_loss: Tensor | None = None

    def draw(self, frames: Tensor, config: OptimConfig, generator: torch.Generator) -> Tensor:
        at = frames.to(self.blink.device)
        self.voice.net.train()
        # All frames of a step or none: most of what fusing costs does not depend on their number.
        real = float(torch.rand((), generator=generator, device=generator.device)) < config.true_code_share
        fused = ~self.targets.known[at] if real else torch.ones_like(self.targets.known[at])
        shown = as_input(self.targets.faces[at])
        self.last_loss = None
        if bool(fused.any()):
            decoded = self._decode(at[fused], self.targets.losses.config.sound_noise)
            self.last_loss = config.fusion_weight * self.targets.loss(decoded, at[fused])
            shown = shown.masked_scatter(fused[:, None, None, None], decoded)
        codes = self._encode(shown, follow=True)
        return noisy(torch.cat([codes, self.blink[at]], 1), config, generator)

    def parameters(self) -> dict[str, Tensor]:
        voice = self.voice
        modules = {"face_encoder": voice.encoder, "fusion": voice.networks, "fusion.audio": voice.net}
        return {
            f"{name}.{key}": value
            for name, module in modules.items()
            for key, value in module.named_parameters()
            if value.requires_grad
        }

    def loss(self) -> Tensor | None:
        return self.last_loss

    def _decode(self, at: Tensor, sound_noise: float = 0.0) -> Tensor:
        rows, which = self.near[at].unique(return_inverse=True)
        sounds = sound_vectors(self.voice.net, self.windows[rows], sound_noise)
        reference = as_input(self.voice.reference).to(at.device, memory_format=torch.channels_last)
        with picture_precision(self.targets.losses.config, at.device):
            return self.voice.networks(reference, sounds[which])

    def _encode(self, faces: Tensor, follow: bool = False) -> Tensor:
        with picture_precision(self.targets.losses.config, faces.device):
            faces = faces.contiguous(memory_format=torch.channels_last)
            return self.voice.encoder.encode(faces, follow).float()

    def conditions_at(self, at: Tensor) -> Tensor:
        self.voice.net.eval()
        return torch.cat([self._encode(self._decode(at)), self.blink[at]], 1)


def joint_conditions(
    voice: FusedVoice,
    targets: FusionTargets,
    dataset: Dataset,
    frames: np.ndarray,
    blink: Tensor | None = None,
    device: str | torch.device = "cpu",
) -> JointConditions:
    """The conditions of `frames`, positions in the data set.

    Args:
        targets: of the same frames.
        blink: [n, 1], if an earlier call has measured it.
    """
    for module in (voice.net, voice.networks, voice.encoder):
        module.to(device)
    targets = targets.to(device)
    voice.calibrate(targets.faces[targets.known])
    near = torch.from_numpy(neighbours_of(dataset.segments, np.arange(len(dataset)))[frames])
    windows = person_windows(voice.net, dataset)
    if blink is None:
        blink = torch.from_numpy(blink_codes(dataset, frames)[frames])
    return JointConditions(voice, windows.to(device), near.to(device), blink.to(device), targets)
