"""What several people share, and how somebody new starts from it.

A base is one field with identity encoder and E_f, trained on several people at once (`train_base`); each has
an occupancy grid, a torso and reference frames of their own. `nerfad train --base` continues on one person.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nerfad.config import FieldConfig, IdentityOptions, PaperFieldConfig, TrainConfig, train_config_of
from nerfad.engine import checkpoint
from nerfad.engine.checkpoint import Checkpoint
from nerfad.engine.settings import difference
from nerfad.errors import CheckpointError
from nerfad.models.avatar import AvatarModel
from nerfad.models.head import identity_of
from nerfad.models.identity_features import IdentityEncoder
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity
from nerfad.models.paper_field import PaperRenderer

KIND = "base"
_SIZES = {"field": FieldConfig(), "paper_field": PaperFieldConfig(), "identity": IdentityOptions()}


@dataclass(frozen=True)
class Base:
    """A finished base."""

    saved: Checkpoint
    config: TrainConfig

    def settings(self, config: TrainConfig) -> TrainConfig:
        """`config` with the base's sizes and, where it names none, the base's fusion.

        Raises:
            CheckpointError: it asks for other sizes.
        """
        for name, usual in _SIZES.items():
            asked, known = getattr(config, name), getattr(self.config, name)
            if asked not in (usual, known):
                name, asked, known = difference(name, asked, known)
                raise CheckpointError(
                    f"{self.saved.run}: this base has {name} {known}, not {asked}; leave it out, or train "
                    "another base."
                )
        asked, known = config.optim.appearance_dims, self.config.optim.appearance_dims
        if asked != known:
            raise CheckpointError(
                f"{self.saved.run}: this base has optim.appearance_dims {known}, not {asked}; give the same "
                "number, or train another base."
            )
        sizes = {name: getattr(self.config, name) for name in _SIZES}
        return dataclasses.replace(config, fusion=config.fusion or self.config.fusion, **sizes)

    def give(self, model: AvatarModel, encoder: nn.Module) -> None:
        """Copy the shared weights into somebody's model and E_f.

        Raises:
            CheckpointError: they do not fit, because the fusion is of another size.
        """
        n_codes = int(self.saved.meta["n_codes"])
        if model.n_codes != n_codes:
            raise CheckpointError(
                f"{self.saved.run}: this base was trained with a condition of {n_codes} numbers, the fusion "
                f"gives {model.n_codes}; give the base's own, {self.config.fusion}, or one of its size."
            )
        for name, module in shared_modules(model).items():
            self.saved.restore(module, f"shared.{name}")
        self.saved.restore(encoder, "face_encoder")


def load_base(run: str | Path) -> Base:
    """Open a base.

    Raises:
        CheckpointError: the folder holds none.
    """
    run = Path(run)
    if not checkpoint.exists(run):
        raise CheckpointError(
            f"{run}: holds no base; make it with `nerfad train-base DATASET... --fusion RUN --out {run}`."
        )
    saved = checkpoint.load(run)
    saved.require_kind(KIND)
    return Base(saved, train_config_of(saved.meta["config"]))


def shared_modules(model: AvatarModel) -> dict[str, nn.Module]:
    """The modules that do not depend on the person, by the names under which a base stores them."""
    head = model.head
    modules: dict[str, nn.Module] = {}
    if isinstance(head, PaperRenderer):
        modules |= {"head.coarse": head.coarse, "head.fine": head.fine}
    else:
        field = head.field
        modules |= {name: getattr(field, name) for name in ("encoding", "density_net", "color_net")}
    points = _points_of(model)
    return modules if points is None else {**modules, "identity_encoder": points.encoder}


def share(model: AvatarModel, first: AvatarModel) -> None:
    """Replace the shared modules of `model` by those of `first`: the same parameters from now on."""
    theirs = shared_modules(first)
    points = _points_of(model)
    for name, module in theirs.items():
        if isinstance(module, IdentityEncoder):
            assert points is not None
            points.encoder = module
        elif isinstance(model.head, PaperRenderer):
            setattr(model.head, name.removeprefix("head."), module)
        else:
            setattr(model.head.field, name, module)


def own_tensors(model: AvatarModel) -> dict[str, Tensor]:
    """The state of a person's model without what is shared."""
    shared = {id(module) for module in shared_modules(model).values()}
    places = tuple(f"{name}." for name, module in model.named_modules() if id(module) in shared)
    return {key: value for key, value in model.state_dict().items() if not key.startswith(places)}


def _points_of(model: AvatarModel) -> PointIdentity | None:
    identity = identity_of(model.head)
    return identity.points if isinstance(identity, BakedIdentity) else identity


def known_people(meta: dict[str, Any]) -> list[str]:
    """Fingerprints of the data sets of a base."""
    return [entry["fingerprint"] for entry in meta["datasets"]]
