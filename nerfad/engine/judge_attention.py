"""Is AU-Attention any good? Measured on held-out frames, by a regressor that it has never met.

    python -m nerfad.engine.judge_attention RUN DATASET           # a table
    python -m nerfad.engine.judge_attention RUN DATASET --json

docs/attention.md defines every figure. Those of localisation are given for a plain box round mouth and jaw,
too: a mask is only worth its training where it beats that.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nerfad.data.dataset import Dataset, load_dataset
from nerfad.data.face_crops import FaceCrops
from nerfad.data.ground_truth import speech_mask
from nerfad.engine.attention_data import as_input, codes_of, training_frames
from nerfad.engine.au_regressor import fit_regressor, read_units
from nerfad.engine.pretrain_attention import load_attention
from nerfad.errors import DatasetError, in_one_sentence
from nerfad.models.au_attention import AUAttention
from nerfad.models.au_regressor import AURegressor
from nerfad.progress import Progress

TOP_SHARE = 0.15
N_FRAMES = 64
N_CODES = 4
SEED = 101
"""Not a seed that anybody trains with."""


@dataclass(frozen=True)
class _Frames:
    """Held-out frames of the data set."""

    images: Tensor  # [n, 3, s, s] in [-1, 1]
    codes: Tensor  # [n, k]
    mouths: Tensor  # bool [n, s, s]


def judge_attention(
    run: str | Path, dataset: str | Path, *, seed: int = SEED, progress: Progress | None = None
) -> dict[str, Any]:
    """All figures of a run on the held-out frames of a data set, as JSON values.

    Raises:
        CheckpointError: `run` holds no attention.
        DatasetError: the data set lacks faces or the run's action units.
    """
    generator, meta = load_attention(run)
    data = load_dataset(dataset)
    units = tuple(meta["units"])
    missing = [name for name in units if name not in data.au_names]
    if data.aus is None or missing:
        raise DatasetError(
            f"{data.root}: lacks action units that the run was trained with ({', '.join(missing or units)})."
        )
    crops, codes = FaceCrops(data, meta["size"]), codes_of(data, units)
    train = [i for i in training_frames(data) if crops.has_face(i)]
    pictures = torch.from_numpy(np.stack([crops.crop(i) for i in train]))
    regressor = fit_regressor(pictures, torch.from_numpy(codes[train]), seed=seed, progress=progress)
    frames = _held_out(data, crops, codes, train[-1] + 1)
    random = torch.Generator().manual_seed(seed)
    pooled, localisation = _localisation(generator, frames, random)
    explained = explained_by_units(pictures.numpy(), codes[train])
    result: dict[str, Any] = {
        "units": list(units),
        "n_frames": len(frames.images),
        **localisation,
        **_expression(generator, regressor, frames, units, random),
        "regressor": _skill(regressor, frames, units),
        "explained_by_units": _against(pooled, _box_weight(frames), explained),
    }
    truth = true_region(data, crops)
    if truth is not None:
        result["speech_region"] = _against(pooled, _box_weight(frames), truth)
    return result


def judge_speech_region(run: str | Path, dataset: str | Path) -> dict[str, float] | None:
    """How well the mask finds the region that speech truly moves: `speech_region` of `judge_attention`.

    None for data sets without exact truth.
    """
    generator, meta = load_attention(run)
    data = load_dataset(dataset)
    crops = FaceCrops(data, meta["size"])
    truth = true_region(data, crops)
    if truth is None:
        return None
    first = training_frames(data)[-1] + 1
    frames = _held_out(data, crops, codes_of(data, tuple(meta["units"])), first)
    pooled, _ = _localisation(generator, frames, torch.Generator().manual_seed(SEED))
    return _against(pooled, _box_weight(frames), truth)


def _held_out(data: Dataset, crops: FaceCrops, codes: np.ndarray, first: int) -> _Frames:
    usable = [i for i in range(first, len(data)) if crops.has_face(i) and np.isfinite(codes[i]).all()]
    if not usable:
        raise DatasetError(f"{data.root}: has no held-out frame with a face and action units.")
    chosen = [usable[k] for k in np.linspace(0, len(usable) - 1, min(N_FRAMES, len(usable))).astype(int)]
    return _Frames(
        as_input(torch.from_numpy(np.stack([crops.crop(i) for i in chosen]))),
        torch.from_numpy(codes[chosen]),
        torch.from_numpy(np.stack([crops.mouth_mask(i) for i in chosen])),
    )


def _box_weight(frames: _Frames) -> np.ndarray:
    """How often every pixel lies in the box, float64 [s, s]; ties broken by nearness to its middle."""
    weight = frames.mouths.double().mean(0).numpy()
    rows, columns = np.mgrid[: len(weight), : len(weight)]
    middle = [(weight * axis).sum() / weight.sum() for axis in (rows, columns)]
    distance = np.hypot(rows - middle[0], columns - middle[1])
    return np.asarray(weight - 1e-3 * distance / len(weight))


@torch.no_grad()
def _localisation(
    generator: AUAttention, frames: _Frames, random: torch.Generator
) -> tuple[np.ndarray, dict[str, float]]:
    """The pooled 1 - A [s, s], over frames and several codes, and where its mass lies."""
    inside = frames.mouths[:, None].float()
    mass = outside = in_box = 0.0
    pooled = torch.zeros(frames.images.shape[2:])
    for _ in range(N_CODES):
        codes = frames.codes[torch.randperm(len(frames.codes), generator=random)]
        weight = 1 - generator(frames.images, codes).mask
        pooled += weight.mean((0, 1)) / N_CODES
        in_box += float((weight * inside).sum())
        mass += float(weight.sum())
        outside += float(((1 - weight) * (1 - inside)).sum() / (1 - inside).sum()) / N_CODES
    area = float(inside.mean())
    share = in_box / max(mass, 1e-9)
    return pooled.numpy(), {
        "mouth_mass": share,
        "mouth_area": area,
        "mouth_ratio": share / area,
        "mouth_ratio_of_box": 1 / area,
        "mask_outside": outside,
        "contrast": float(pooled.max() - pooled.min()),
    }


@torch.no_grad()
def _expression(
    generator: AUAttention,
    regressor: AURegressor,
    frames: _Frames,
    units: tuple[str, ...],
    random: torch.Generator,
) -> dict[str, Any]:
    """Does I_G show the code that was asked for?"""
    images, own = frames.images, frames.codes
    targets = own[torch.randperm(len(own), generator=random)]
    made = generator(images, targets).image
    read, before = read_units(regressor, made), read_units(regressor, images)
    error, idle = float((read - targets).square().mean()), float((before - targets).square().mean())
    back = generator(made, own).image
    result: dict[str, Any] = {
        "au_error": error,
        "au_error_of_doing_nothing": idle,
        "au_error_ratio": error / idle,
        "au_error_of_regressor": float((before - own).square().mean()),
        "cycle_error": float((back - images).abs().mean()),
        "slopes": {name: _slope(targets[:, k], read[:, k]) for k, name in enumerate(units)},
    }
    if "AU25" in units:
        lips = [k for k, name in enumerate(units) if name in ("AU25", "AU26")]
        result["au25_slope"] = _sweep(generator, regressor, frames, lips, units.index("AU25"))
        alone = [units.index("AU25")]
        result["au25_slope_alone"] = _sweep(generator, regressor, frames, alone, alone[0])
    return result


def _slope(x: Tensor, y: Tensor) -> float:
    """Least-squares slope of y over x."""
    centred = x - x.mean()
    return float((centred * (y - y.mean())).sum() / centred.square().sum().clamp_min(1e-9))


def _sweep(
    generator: AUAttention, regressor: AURegressor, frames: _Frames, moved: list[int], read: int
) -> float:
    """Mean rise of the unit `read` when the units `moved` go from 0 to 1 and the others stay."""
    levels = []
    for value in (0.0, 1.0):
        codes = frames.codes.clone()
        codes[:, moved] = value
        levels.append(read_units(regressor, generator(frames.images, codes).image)[:, read].mean())
    return float(levels[1] - levels[0])


def _skill(regressor: AURegressor, frames: _Frames, units: tuple[str, ...]) -> dict[str, float]:
    """Correlation of what the regressor reads on real held-out frames with their labels."""
    read = read_units(regressor, frames.images)
    return {name: float(np.corrcoef(read[:, k], frames.codes[:, k])[0, 1]) for k, name in enumerate(units)}


def _against(pooled: np.ndarray, box: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Agreement of a mask and of the plain box with the largest 15 % of a true map [s, s]."""
    wanted = top(truth)
    return {
        "iou": iou(top(pooled), wanted),
        "auc": auc(pooled, wanted),
        "iou_of_box": iou(top(box), wanted),
        "auc_of_box": auc(box, wanted),
    }


def top(values: np.ndarray, share: float = TOP_SHARE) -> np.ndarray:
    """The largest values of a map [s, s]: bool, exactly `share` of them."""
    order = np.argsort(values, axis=None, kind="stable")
    mask = np.zeros(values.size, bool)
    mask[order[values.size - round(share * values.size) :]] = True
    return mask.reshape(values.shape)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks.

    >>> iou(np.array([True, True, False]), np.array([False, True, True]))
    0.3333333333333333
    """
    return float((a & b).sum() / max((a | b).sum(), 1))


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive has a larger score than a negative; ties count half.

    >>> auc(np.array([0.1, 0.2, 0.9]), np.array([False, True, True]))
    1.0
    """
    _, rank, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[rank].reshape(scores.shape)
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (positive.size - n)))


def explained_by_units(
    pictures: np.ndarray, codes: np.ndarray, window: int = 51, ridge: float = 0.01
) -> np.ndarray:
    """Standard deviation of every pixel's grey that action units explain, float64 [s, s].

    Ridge regression on codes and their squares, after the mean of about two seconds was taken off both: slow
    drift is pose and light, not speech.

    Args:
        pictures: uint8 [n, s, s, 3], in time order.
        codes: [n, k].
    """
    grey = pictures.mean(3, dtype=np.float32).reshape(len(pictures), -1)
    inputs = np.concatenate([codes, codes**2], 1).astype(np.float64)
    grey, inputs = (_without_slow(values, window) for values in (grey, inputs))
    inputs = inputs / np.maximum(inputs.std(0), 1e-9)
    gram = inputs.T @ inputs + ridge * len(inputs) * np.eye(inputs.shape[1])
    fitted = inputs @ np.linalg.solve(gram, inputs.T @ grey)
    return np.asarray(fitted.std(0).reshape(pictures.shape[1:3]))


def _without_slow(values: np.ndarray, window: int) -> np.ndarray:
    """Values [n, m] minus their running mean."""
    padded = np.pad(values, ((window // 2 + 1, window // 2), (0, 0)), mode="edge").astype(np.float64)
    sums = np.cumsum(padded, 0)
    return np.asarray(values - (sums[window:] - sums[:-window]) / window)


def true_region(data: Dataset, crops: FaceCrops) -> np.ndarray | None:
    """How often every pixel of the crop is moved by speech, float64 [s, s]; None without exact truth."""
    total, n = np.zeros((crops.size, crops.size)), 0
    for i in range(len(data)):
        mask = speech_mask(data, i)
        if mask is not None and crops.has_face(i):
            total, n = total + crops.crop_of(i, mask.astype(np.float32)), n + 1
    return total / n if n else None


@in_one_sentence()
def main() -> None:
    """Print the figures of a run."""
    parser = argparse.ArgumentParser(description="Judge a run of nerfad pretrain-attention.")
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    result = judge_attention(arguments.run, arguments.dataset, seed=arguments.seed)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    for name, value in result.items():
        values = value.items() if isinstance(value, dict) else [("", value)]
        for key, figure in values:
            shown = f"{figure:.3f}" if isinstance(figure, float) else figure
            print(f"{name + (' ' + key if key else ''):36} {shown}")


if __name__ == "__main__":
    main()
