"""Checkpoints: tensors in a safetensors file, everything else in a JSON file beside it. Never pickle.

`checkpoint.json` names the tensor file that belongs to it and is written last, atomically: whatever
interrupts a save, the pair on disk is either the old or the new one.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from nerfad.data.dataset import Dataset
from nerfad.errors import CheckpointError
from nerfad.io.atomic import atomic_write

FORMAT = "nerfad-checkpoint"
FORMAT_VERSION = 1
META_NAME = "checkpoint.json"

_RUNS = {
    None: "a run of `nerfad train`",
    "base": "a run of `nerfad train-base`",
    "fusion": "a run of `nerfad pretrain-fusion`",
    "attention": "a run of `nerfad pretrain-attention`",
}

CONVENTIONS = {
    "c2w": "OpenGL camera-to-world; x right, y up, the camera looks along -z; scene units",
    "box": "unit cube = (scene - origin) / side",
    "pixel": "(column, row) from the top left; rays pass through pixel + pixel_offset",
    "depth": "along the unit ray",
    "body": "dx, dy in picture heights, rotation in rad, log scale; about the middle of the lower edge",
    "condition": "speech codes, blink, appearance",
    "color": "sRGB 0..1, no linearisation",
    "density": "exp(clamp(output 0 of the density network + density_bias, -15, 15)) per box side",
    "mlp": "per layer weight [out, in + cond] row by row, then bias [out]",
    "grid": "instant-ngp levels; see GridSpec",
    "occupancy": "Morton order, bit i of byte i // 8",
}


@dataclass
class Checkpoint:
    """What a run folder holds."""

    run: Path
    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `prefix.`, without it."""
        start = prefix + "."
        return {key[len(start) :]: value for key, value in self.tensors.items() if key.startswith(start)}

    def restore(self, module: nn.Module, prefix: str) -> None:
        """Fill `module` with the tensors under `prefix.`; raise CheckpointError where they do not fit."""
        try:
            module.load_state_dict(self.part(prefix))
        except RuntimeError:
            made_by = self.meta.get("versions", {}).get("nerfad", "another version")
            raise CheckpointError(
                f"{self.run}: its {prefix} was laid out by nerfad {made_by} in a way that this version does "
                "not know; train again into another --out, or use the nerfad that made it."
            ) from None

    def require_kind(self, kind: str | None) -> None:
        """Raise CheckpointError unless this is a run of that kind; None is an avatar."""
        found = self.meta.get("kind")
        if found != kind:
            raise CheckpointError(
                f"{self.run}: holds {_RUNS.get(found, 'something else')}, not {_RUNS[kind]}; choose another "
                "folder."
            )

    def check_dataset(self, dataset: Dataset) -> None:
        """Raise CheckpointError unless this checkpoint was trained on `dataset`."""
        known = self.meta["dataset"]
        if known["fingerprint"] != dataset.fingerprint():
            raise CheckpointError(
                f"{self.run}: was trained on another data set ({known['root']}), not on {dataset.root}; "
                "choose another --out or give the data set it was trained on."
            )


def exists(run: Path) -> bool:
    """Whether `run` holds a checkpoint."""
    return (run / META_NAME).is_file()


def save(run: Path, meta: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a checkpoint; an earlier one stays whole until this one is complete.

    Raises:
        OutputError: it cannot be written, for instance because the disk is full.
    """
    name = f"checkpoint-{meta['step']:08d}.safetensors"
    previous = _tensor_file(run)
    if name == previous:
        name = f"checkpoint-{meta['step']:08d}b.safetensors"
    whole = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tensors": name,
        "conventions": CONVENTIONS,
        **meta,
    }
    content = safetensors.torch.save({key: value.detach().contiguous() for key, value in tensors.items()})
    with atomic_write(run / name, sync=True) as file:
        file.write(content)
    with atomic_write(run / META_NAME, "w", sync=True) as file:
        json.dump(whole, file, indent=1)
    for old in run.glob("checkpoint-*.safetensors"):
        if old.name != name:
            with contextlib.suppress(OSError):
                old.unlink()


def load(run: str | Path) -> Checkpoint:
    """Read the checkpoint of a run folder.

    Raises:
        CheckpointError: there is none, or it is damaged, or of another kind or version.
    """
    run = Path(run)
    meta = load_meta(run)
    path = run / str(meta["tensors"])
    try:
        tensors = safetensors.torch.load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: is missing or damaged; train again into a new folder.") from error
    return Checkpoint(run, meta, tensors)


def load_meta(run: str | Path) -> dict[str, Any]:
    """The JSON part of a checkpoint; raises like `load`."""
    path = Path(run) / META_NAME
    if not path.is_file():
        raise CheckpointError(
            f"{run}: holds no checkpoint; make one with `nerfad train DATASET --out {run}`."
        )
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged; train again into a new folder.") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise CheckpointError(f"{path}: is not a checkpoint of nerfad; choose the folder of a training run.")
    if meta["format_version"] > FORMAT_VERSION:
        raise CheckpointError(f"{path}: was written by a newer nerfad; update nerfad to read it.")
    return meta


def _tensor_file(run: Path) -> str | None:
    try:
        return str(load_meta(run)["tensors"])
    except CheckpointError:
        return None
