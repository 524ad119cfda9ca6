"""Weights of metrics that no package carries: read from the user's models folder, or unavailable."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor

from nerfad.metrics.unavailable import Unavailable


def _folders(models: str | os.PathLike[str] | None) -> list[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nerfad" / "models"
    given = [models, os.environ.get("NERFAD_MODELS")]
    return [Path(folder) for folder in given if folder] + [cache]


def load_weights(name: str, models: str | os.PathLike[str] | None = None) -> dict[str, Tensor]:
    """Read a state dictionary (`.pth`, `.pt`, `.model` or `.safetensors`) from the models folders.

    Raises `Unavailable` with the places that were searched if there is none.
    """
    import torch

    for folder in _folders(models):
        path = folder / name
        if path.is_file():
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:
                raise Unavailable(
                    f"unavailable: {path} holds no weights that can be read ({error})"
                ) from error
    places = ", ".join(str(folder / name) for folder in _folders(models))
    raise Unavailable(f"unavailable: weights not found at {places}")
