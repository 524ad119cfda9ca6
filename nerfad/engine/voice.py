"""What an avatar hears with: sound in, the speech part of the field's condition out.

`CodeVoice` predicts expression codes, `SilentVoice` hears nothing. `FusedVoice` is the paper's way (section
2.2): the sound is fused with the Audio-face of one reference frame, and an encoder E_f turns the fused face
into f^_aud-face; E_f is trained with the field.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nerfad.data.dataset import Dataset
from nerfad.engine.attention_data import as_input
from nerfad.engine.checkpoint import Checkpoint
from nerfad.engine.fusion_data import check_sound, check_units, neighbours_of, usual_face
from nerfad.engine.hearing import hear, heard_windows
from nerfad.engine.pretrain_fusion import Fusion, decode_faces, restored_net
from nerfad.models.audio_net import AudioNet
from nerfad.models.expression import ExpressionCodes
from nerfad.models.face_fusion import (
    NEIGHBOURS_AFTER,
    NEIGHBOURS_BEFORE,
    ConditionEncoder,
    FaceFusion,
    vector_size,
)

DECODE_BATCH = 64
CALIBRATION_FACES = 256
"""At most, and at least half as many where a clip has them."""


class Voice(Protocol):
    """Sound to codes. A frame hears from `lookback_s` before its middle to `lookahead_s` after it."""

    @property
    def n_codes(self) -> int:
        """Numbers per frame."""
        ...

    @property
    def lookback_s(self) -> float: ...

    @property
    def lookahead_s(self) -> float: ...

    def codes(
        self,
        sound: np.ndarray,
        frame_times: np.ndarray,
        segments: np.ndarray | None = None,
        own_level: bool = False,
    ) -> np.ndarray:
        """Codes float32 [n, n_codes]; arguments as in `nerfad.engine.hearing.hear`."""
        ...

    def meta(self) -> dict[str, Any]:
        """What a checkpoint says of it, beside `state`."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors for a checkpoint."""
        ...


@dataclasses.dataclass
class CodeVoice:
    """The audio encoder, and what its codes mean."""

    net: AudioNet
    meaning: ExpressionCodes

    @property
    def n_codes(self) -> int:
        return self.net.shape[2]

    @property
    def lookback_s(self) -> float:
        return self.net.config.lookback_s

    @property
    def lookahead_s(self) -> float:
        return self.net.config.lookahead_s

    def codes(
        self,
        sound: np.ndarray,
        frame_times: np.ndarray,
        segments: np.ndarray | None = None,
        own_level: bool = False,
    ) -> np.ndarray:
        return hear(self.net, sound, frame_times, segments, own_level)

    def meta(self) -> dict[str, Any]:
        codes = {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in self.meaning.state().items()
        }
        return {**_net_meta(self.net), "codes": codes}

    def state(self) -> dict[str, Tensor]:
        return {f"audio.{key}": value for key, value in self.net.state_dict().items()}


@dataclasses.dataclass
class SilentVoice:
    """No sound: a plain NeRF. The reach is kept all the same, so that its frames are those of other runs."""

    lookback_s: float
    lookahead_s: float
    n_codes = 0

    def codes(
        self,
        sound: np.ndarray,
        frame_times: np.ndarray,
        segments: np.ndarray | None = None,
        own_level: bool = False,
    ) -> np.ndarray:
        return np.zeros((len(frame_times), 0), np.float32)

    def meta(self) -> dict[str, Any]:
        return {"silent": dataclasses.asdict(self)}

    def state(self) -> dict[str, Tensor]:
        return {}


@dataclasses.dataclass
class FusedVoice:
    """E_a, D and the audio net of a fusion, and E_f.

    Attributes:
        reference: I_aud-face of the person, uint8 [1, s, s, 3].
        encoder: E_f.
        fps: frames per second of the faces that D has learnt.
        mask: the one A [1, 1, s, s] of all frames of the person; None where there is no such thing.
    """

    net: AudioNet
    networks: FaceFusion
    reference: Tensor
    encoder: ConditionEncoder
    fps: float
    mask: Tensor | None = None

    @classmethod
    def of(cls, fusion: Fusion, person: int, fps: float) -> FusedVoice:
        """The voice of one of the fusion's people; E_f starts as E_a."""
        mask = None if fusion.masks is None else fusion.masks[person : person + 1]
        return cls._with(fusion, fusion.references[person : person + 1], fps, mask)

    @classmethod
    def of_newcomer(cls, fusion: Fusion, dataset: Dataset) -> FusedVoice:
        """The voice of somebody whom the fusion has never seen, with a reference face of theirs.

        Raises:
            DatasetError: the data set lacks faces or action units, or its sound is of another kind.
        """
        check_sound(fusion.net, dataset)
        check_units(dataset, fusion.masker.units, Path("the fusion"))
        size = int(fusion.meta["size"])
        reference, mask = usual_face(dataset, fusion.masker, size, fusion.net.config)
        return cls._with(fusion, reference, dataset.fps, mask)

    @classmethod
    def _with(cls, fusion: Fusion, reference: Tensor, fps: float, mask: Tensor | None = None) -> FusedVoice:
        size, width = int(fusion.meta["size"]), int(fusion.meta["config"]["width"])
        encoder = ConditionEncoder(size, width)
        encoder.load_state_dict({**encoder.state_dict(), **fusion.networks.encoder.state_dict()})
        return cls(fusion.net, fusion.networks.requires_grad_(False), reference, encoder, fps, mask)

    @property
    def n_codes(self) -> int:
        return vector_size(self.networks.width)

    @property
    def lookback_s(self) -> float:
        return self.net.config.lookback_s + NEIGHBOURS_BEFORE / self.fps

    @property
    def lookahead_s(self) -> float:
        return self.net.config.lookahead_s + NEIGHBOURS_AFTER / self.fps

    @torch.no_grad()
    def faces(self, windows: Tensor, segments: np.ndarray) -> Tensor:
        """The fused Audio-faces I^_fus-af of consecutive frames, uint8 [n, s, s, 3].

        Args:
            windows: the audio net's inputs [n, f, w].
            segments: [n] index of the take of each frame.
        """
        self.net.eval()
        near = torch.from_numpy(neighbours_of(segments, np.arange(len(windows))))
        decoded = decode_faces(self.net, self.networks, as_input(self.reference), windows, near)
        return ((decoded + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def calibrate(self, faces: Tensor) -> None:
        """Let E_f know faces uint8 [n, s, s, 3] of many frames before training; see `ConditionEncoder`."""
        self.encoder.calibrate(as_input(faces[:: len(faces) // CALIBRATION_FACES + 1]))

    def encode(self, faces: Tensor, follow: bool = False) -> Tensor:
        """f^_aud-face [n, n_codes] of faces uint8 [n, s, s, 3]; differentiable in E_f.

        Args:
            follow: as in `ConditionEncoder.encode`.
        """
        return self.encoder.encode(as_input(faces), follow)

    @torch.no_grad()
    def codes(
        self,
        sound: np.ndarray,
        frame_times: np.ndarray,
        segments: np.ndarray | None = None,
        own_level: bool = False,
    ) -> np.ndarray:
        windows = heard_windows(self.net, sound, frame_times, segments, own_level)
        takes = np.zeros(len(windows), np.int64) if segments is None else np.asarray(segments)
        parts = self.faces(windows, takes).split(DECODE_BATCH)
        return torch.cat([self.encode(part) for part in parts]).numpy()

    def meta(self) -> dict[str, Any]:
        size, width = self.networks.size, self.networks.width
        return {**_net_meta(self.net), "fusion": {"size": size, "width": width, "fps": self.fps}}

    def state(self) -> dict[str, Tensor]:
        modules = {"audio": self.net, "fusion": self.networks, "face_encoder": self.encoder}
        tensors = {f"{name}.{key}": v for name, m in modules.items() for key, v in m.state_dict().items()}
        masks = {} if self.mask is None else {"reference.mask": self.mask}
        return {**tensors, "reference.face": self.reference, **masks}


def restored_voice(saved: Checkpoint) -> Voice:
    """The voice of a run, as `meta` and `state` described it under "audio"."""
    audio = saved.meta["audio"]
    if "silent" in audio:
        return SilentVoice(**audio["silent"])
    net = restored_net(saved)
    if "fusion" not in audio:
        return CodeVoice(net, ExpressionCodes.from_state(audio["codes"]))
    size, width = audio["fusion"]["size"], audio["fusion"]["width"]
    networks, encoder = FaceFusion(size, width), ConditionEncoder(size, width)
    saved.restore(networks, "fusion")
    saved.restore(encoder, "face_encoder")
    reference, mask = saved.tensors["reference.face"], saved.tensors.get("reference.mask")
    networks.eval().requires_grad_(False)
    return FusedVoice(net, networks, reference, encoder, float(audio["fusion"]["fps"]), mask)


def _net_meta(net: AudioNet) -> dict[str, Any]:
    return {"config": dataclasses.asdict(net.config), "shape": list(net.shape)}
