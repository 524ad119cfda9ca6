"""Weights of metrics that no package carries: read from the user's models folder, or unavailable."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from nerfad.metrics.unavailable import Unavailable
from nerfad.models_store import search_path


def load_weights(name: str, models: str | Path | None = None) -> dict[str, Tensor]:
    """Read a state dictionary (as torch saves it) from the models folders.

    Raises `Unavailable` with the places that were searched if there is none.
    """
    import torch

    folders = search_path(models)
    for folder in folders:
        path = folder / name
        if path.is_file():
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:
                raise Unavailable(
                    f"unavailable: {path} holds no weights that can be read ({error})"
                ) from error
    places = ", ".join(str(folder / name) for folder in folders)
    raise Unavailable(f"unavailable: weights not found at {places}")
