"""Avatar models of a run's settings: fresh for a data set, or as a checkpoint has them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nerfad.cameras import Camera
from nerfad.config import TrainConfig, train_config_of
from nerfad.data.dataset import Dataset
from nerfad.engine.checkpoint import Checkpoint
from nerfad.engine.fusion_data import Masker
from nerfad.engine.references import choose_frames, make_references
from nerfad.engine.sampling import HEAD, FrameStore
from nerfad.engine.speech_region import stillness
from nerfad.engine.trainer import Scene, visual_hull
from nerfad.errors import DatasetError
from nerfad.models.avatar import AvatarModel, body_in_heights
from nerfad.models.head import Head, build_head, gate_of
from nerfad.models.identity_features import References
from nerfad.models.renderer import SceneBox

HULL_FRAMES = 24


def build_model(
    config: TrainConfig,
    n_codes: int,
    n_frames: int,
    references: References | None = None,
    gated: bool = False,
) -> AvatarModel:
    """An avatar model of the sizes that `config` asks for; `gated`: it has a `SpeechGate`."""
    n_speech = n_codes - 1  # the last code is the blink
    head = build_head(config, n_codes + config.optim.appearance_dims, references, n_speech if gated else None)
    return AvatarModel(
        head, config.torso, n_codes, config.optim.appearance_dims, n_frames, config.optim.refine_poses
    )


def fresh_model(
    config: TrainConfig,
    dataset: Dataset,
    frames: np.ndarray,
    n_codes: int,
    masker: Masker | None,
    mask: Tensor | None = None,
) -> tuple[AvatarModel, dict[str, Any] | None]:
    """A model that knows the data set's box and poses, and what a checkpoint says of its references.

    Args:
        frames: positions of the training frames.
        masker: hides what speech moves in the reference frames; None shows them whole.
        mask: the one A [1, 1, s, s] of the person, outside of which the field hears no speech; None: it
            hears speech everywhere.

    Raises:
        DatasetError: `mask` hides nothing.
    """
    box = SceneBox()
    box.fit(dataset.aabb)
    references, known, gated = None, None, False
    if config.uses_identity:
        chosen = choose_frames(dataset, frames, masker, config.identity.n_references)
        references = make_references(dataset, chosen, masker, config.identity, box)
        ids = [int(i) for i in dataset.frame_ids[chosen]]
        gated = mask is not None and config.field.speech_gate and config.field.kind == "hashgrid"
        known = {"frames": ids, "camera": dataclasses.asdict(references.camera), "gated": gated}
    model = build_model(config, n_codes, len(frames), references, gated)
    model.head.box.fit(dataset.aabb)
    model.to(config.device)
    scene = scene_of(model, dataset, frames)
    model.fit_poses(scene.c2w, scene.body)
    gate = gate_of(model.head)
    if gate is not None and mask is not None:
        still = stillness(gate.vertices, mask, dataset, frames, scene.c2w)
        if bool(still.all()):
            raise DatasetError(
                f"{dataset.root}: the attention of the fusion finds nothing that speech moves; look at its "
                "mask previews and train it longer, or pass --field.no-speech-gate."
            )
        gate.close(still)
    return model, known


def restored_model(saved: Checkpoint) -> AvatarModel:
    """The model in a checkpoint."""
    known, references = saved.meta.get("identity"), None
    if known is not None:
        camera, n_views = Camera(**known["camera"]), len(known["frames"])
        blank = torch.zeros(n_views, 3, camera.height, camera.width)
        references = References(camera, torch.eye(4).repeat(n_views, 1, 1), blank)
    n_frames = len(saved.tensors["model.appearance"])
    config = train_config_of(saved.meta["config"])
    gated = known is not None and bool(known.get("gated", False))
    model = build_model(config, int(saved.meta["n_codes"]), n_frames, references, gated)
    saved.restore(model, "model")
    return model


def scene_of(model: AvatarModel, dataset: Dataset, frames: np.ndarray) -> Scene:
    """What a trainer knows of the training frames, on the model's device."""
    body = body_in_heights(dataset.body, len(dataset), dataset.height)[frames]
    c2w = model.head.box.to_box(dataset.c2w[frames])
    return Scene(dataset.camera, c2w, body.to(c2w.device))


def carve(head: Head, store: FrameStore, scene: Scene) -> None:
    """Leave only the cells in the visual hull of the head's masks."""
    if head.occupancy is None:
        return
    chosen = torch.linspace(0, len(store) - 1, min(HULL_FRAMES, len(store)), device=store.device).long()
    masks = grown(store.labels[chosen] == HEAD, max(1, store.height // 64))
    head.occupancy.restrict(lambda points: visual_hull(points, masks, scene.camera, scene.c2w[chosen]))


def grown(masks: Tensor, n_pixels: int) -> Tensor:
    """Masks bool [n, H, W] with a border of `n_pixels` added."""
    size = 2 * n_pixels + 1
    return torch.nn.functional.max_pool2d(masks[:, None].float(), size, 1, n_pixels)[:, 0] > 0
