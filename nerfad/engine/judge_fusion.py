"""Does the fusion listen? Measured on held-out frames, by a regressor that it has never met.

    python -m nerfad.engine.judge_fusion RUN DATASET                      # a table
    python -m nerfad.engine.judge_fusion RUN DATASET --against W_O_AU --json

docs/fusion.md defines every figure.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nerfad.data.audio_windows import mel_windows
from nerfad.data.dataset import Dataset, load_dataset
from nerfad.data.face_crops import FaceCrops
from nerfad.engine.attention_data import as_input
from nerfad.engine.au_regressor import fit_regressor, read_units
from nerfad.engine.fusion_data import check_units, fusion_split
from nerfad.engine.pretrain_fusion import Fusion, load_fusion
from nerfad.errors import DatasetError, in_one_sentence
from nerfad.features.audio import load_wave, log_mel
from nerfad.metrics.action_units import au_agreement, presence_thresholds
from nerfad.metrics.lip_sync import correlation
from nerfad.models.audio_net import AudioConfig
from nerfad.progress import Progress

SEED = 101
"""Not a seed that anybody trains with."""
RIDGES = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
N_FOLDS = 5
MAX_LAG = 4
LIPS = "AU25"


def judge_fusion(
    run: str | Path,
    dataset: str | Path,
    *,
    against: str | Path | None = None,
    seed: int = SEED,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """All figures of a run on the held-out frames of a data set it was trained on, as JSON values.

    Args:
        against: another run (without the AU loss, say) on the same data set, read by the same regressor.

    Raises:
        CheckpointError: `run` holds no fusion, or was not trained on the data set.
        DatasetError: the data set has no AU25 or no held-out frame with a face.
    """
    fusion, data = load_fusion(run), load_dataset(dataset)
    fusion.person(data)
    units = fusion.masker.units
    check_units(data, units, Path(run))
    if LIPS not in units:
        raise DatasetError(f"{data.root}: {LIPS} is not among the run's units ({', '.join(units)}).")
    train, test = fusion_split(data, fusion.net.config)
    size = int(fusion.meta["size"])
    train, faces, codes = fusion.audio_faces(data, train, progress)
    test, real, truth = fusion.audio_faces(data, test, progress)
    if len(test) == 0:
        raise DatasetError(f"{data.root}: has no held-out frame with a face and action units.")
    regressor = fit_regressor(faces, codes, seed=seed, progress=progress)
    targets = as_input(real)
    decoded = fusion.decode_dataset(data, test)
    lips = units.index(LIPS)
    read, true = read_units(regressor, decoded).numpy(), truth.numpy()
    from_mel = ridge_from_mel(data, train, codes[:, lips].numpy(), test)
    mouths = _mouths(data, test, size)
    r = correlation(read[:, lips], true[:, lips])
    r_mel = correlation(from_mel, true[:, lips])
    result: dict[str, Any] = {
        "units": list(units),
        "n_frames": len(test),
        "au25": r,
        "au25_of_ridge_from_mel": r_mel,
        "au25_share_of_ridge": r / r_mel,
        "au25_amplitude": float(read[:, lips].std() / true[:, lips].std()),
        "au25_of_regressor": correlation(read_units(regressor, targets)[:, lips].numpy(), true[:, lips]),
        "au25_lag_frames": best_lag(read[:, lips], true[:, lips]),
        **swap_figures(decoded, targets, mouths),
        "error": float((decoded - targets).abs().mean()),
        "error_of_median": float((as_input(faces).median(0).values - targets).abs().mean()),
        "units_read": {name: correlation(read[:, k], true[:, k]) for k, name in enumerate(units)},
        "classifier": _agreement(fusion, codes, truth, {"real": targets, "decoded": decoded}),
    }
    if against is not None:
        other = load_fusion(against).decode_dataset(data, test)
        theirs = read_units(regressor, other)[:, lips].numpy()
        result["au25_against"] = correlation(theirs, true[:, lips])
        result["au25_gain"] = r - result["au25_against"]
    return result


def ridge_from_mel(data: Dataset, train: np.ndarray, values: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Ridge regression of a unit from log-mel windows about each frame: what any model should reach.

    The windows are those that the project's other encoders hear (0.2 s before and after); the ridge is chosen
    by cross-validation over blocks of time of the training frames.

    Args:
        train: positions, with `values` [n]; `test`: positions to predict.
    """
    audio = AudioConfig()
    mel = data.audio_features if data.audio_kind == "mel" else log_mel(load_wave(data.audio_path))
    windows = mel_windows(mel, data.frame_times, audio.near_s, audio.lookahead_s, data.segments)
    inputs = windows.reshape(len(windows), -1).astype(np.float64)
    mean, std = inputs[train].mean(0), inputs[train].std(0) + 1e-6
    x, ahead = (inputs[train] - mean) / std, (inputs[test] - mean) / std
    gram = x @ x.T / x.shape[1]
    blocks = np.array_split(np.arange(len(train)), N_FOLDS)
    scores = []
    for ridge in RIDGES:
        found = np.zeros(len(train))
        for block in blocks:
            rest = np.setdiff1d(np.arange(len(train)), block)
            found[block] = _ridge(gram[np.ix_(rest, rest)], values[rest], ridge, gram[np.ix_(block, rest)])
        scores.append(correlation(found, values))
    best = RIDGES[int(np.nanargmax(scores))]
    return _ridge(gram, values, best, ahead @ x.T / x.shape[1])


def _ridge(gram: np.ndarray, values: np.ndarray, ridge: float, wanted: np.ndarray) -> np.ndarray:
    mean = values.mean()
    weights = np.linalg.solve(gram + ridge * np.eye(len(gram)), values - mean)
    return np.asarray(mean + wanted @ weights)


def best_lag(read: np.ndarray, true: np.ndarray) -> int:
    """By how many frames `read` comes late, where it goes best with `true`; negative: early.

    >>> series = np.sin(np.arange(100.0) ** 1.5)
    >>> best_lag(np.roll(series, 2), series)
    2
    """
    inner = slice(MAX_LAG, len(true) - MAX_LAG)
    lags = range(-MAX_LAG, MAX_LAG + 1)
    return max(
        lags, key=lambda lag: np.nan_to_num(correlation(np.roll(read, -lag)[inner], true[inner]), nan=-1)
    )


def swap_figures(decoded: Tensor, targets: Tensor, mouths: Tensor) -> dict[str, float]:
    """How much the decoded mouth changes when the sound is that of another moment, over the true change.

    The reference frame is the same for all frames, so a frame decoded with another moment's sound is the
    frame decoded at that moment. Moments half the held-out stretch apart are exchanged.

    Args:
        decoded, targets: [n, 3, s, s].
        mouths: bool [n, s, s], the box of mouth and jaw; changes are means over it.
    """
    n = len(decoded)
    shift = n // 2
    box = mouths.float().mean(0)

    def change(pictures: Tensor) -> float:
        difference = (pictures - pictures.roll(shift, 0)).abs().mean((0, 1))
        return float((difference * box).sum() / box.sum())

    swapped, true = change(decoded), change(targets)
    return {"swap_change": swapped, "true_change": true, "swap_share": swapped / max(true, 1e-9)}


def _mouths(data: Dataset, frames: np.ndarray, size: int) -> Tensor:
    crops = FaceCrops(data, size)
    return torch.from_numpy(np.stack([crops.mouth_mask(int(i)) for i in frames]))


@torch.no_grad()
def _agreement(
    fusion: Fusion, codes: Tensor, truth: Tensor, pictures: dict[str, Tensor]
) -> dict[str, dict[str, float | None]]:
    """Agreement and kappa of what the frozen classifier reads with the labels: real faces, decoded faces."""
    thresholds, _ = presence_thresholds(codes.numpy())
    labels = (truth.numpy() > thresholds).astype(np.float32)
    result = {}
    for name, images in pictures.items():
        read = torch.cat([fusion.classifier(part) for part in images.split(64)]) > 0
        found = au_agreement(read.float().numpy(), labels, fusion.masker.units)
        result[name] = {"agreement": found.agreement, "kappa": found.kappa}
    return result


@in_one_sentence()
def main() -> None:
    """Print the figures of a run."""
    parser = argparse.ArgumentParser(description="Judge a run of nerfad pretrain-fusion.")
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--against", type=Path, help="another run, for instance without the AU loss")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    result = judge_fusion(arguments.run, arguments.dataset, against=arguments.against, seed=arguments.seed)
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
