"""Fits the audio encoder to a data set: sound in, expression codes out.

`fit_audio` trains on the first part of the clip only and also returns *out-of-fold* codes: what the encoder
says of a training frame when that frame's stretch of time was left out. A field trained on a mix of true and
out-of-fold codes sees in training what it will be given in use.

    python -m nerfad.engine.train_audio DATASET        # prints the score of every code on the held-out part
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nerfad.data.audio_windows import mel_windows
from nerfad.data.dataset import Dataset, load_dataset
from nerfad.features.audio import log_mel
from nerfad.models.audio_net import AudioConfig, AudioNet
from nerfad.models.expression import ExpressionCodes, blink_code, eye_openness

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class AudioFit:
    """What `fit_audio` found.

    ``true_codes`` and ``blink`` are NaN on frames outside the training split, so that whatever was measured
    on held-out frames cannot leak into a rendering unnoticed. ``oof_codes`` are out-of-fold on the training
    frames and the encoder's output elsewhere; both are None for learnt codes.
    """

    net: AudioNet
    codes: ExpressionCodes
    true_codes: np.ndarray | None  # float32 [n, k]
    oof_codes: np.ndarray | None  # float32 [n, k]
    blink: np.ndarray  # float32 [n, 1], 0 open to 1 closed
    report: dict[str, object]


def fit_audio(
    dataset: Dataset, config: AudioConfig | None = None, *, seed: int = 0, progress: Progress | None = None
) -> AudioFit:
    """Train the encoder of ``dataset``'s speaker; deterministic for a given ``seed``.

    Args:
        dataset: any layout; its landmarks, else its action units, define the codes.
        progress: called with the share done (0..1) and a short text.
    """
    config = config or AudioConfig()
    train, _ = dataset.split(config.lookback_s, config.lookahead_s)
    windows = dataset_windows(dataset, config)
    codes = _fit_codes(dataset, train, config)
    measured = measurements(dataset, codes)
    net = AudioNet(windows.shape[1], windows.shape[2], codes.n_codes, config)
    _set_standardisation(net, windows[train])
    blink = _blink(dataset, train)
    if measured is None:
        return AudioFit(net, codes, None, None, blink, {"codes": codes.kind, "n_train": len(train)})

    true_codes = np.full((len(windows), codes.n_codes), np.nan, np.float32)
    true_codes[train] = codes.encode(measured[train])
    with torch.no_grad():
        inputs = net.standardise(windows)
    targets = torch.from_numpy(np.nan_to_num(true_codes))
    jobs = _folds(dataset, train, config)
    oof = np.zeros_like(true_codes)
    for i, (fit_on, predict_on) in enumerate(jobs):
        _report(progress, i / (len(jobs) + 1), f"sound, fold {i + 1} of {len(jobs)}")
        members = _fit_members(net, inputs[fit_on], targets[fit_on], config, 1000 * (i + 1) + seed)
        oof[predict_on] = _predict(members, inputs[predict_on])
    gain = _gain(true_codes[train], oof[train], config)
    _report(progress, len(jobs) / (len(jobs) + 1), "sound, all frames")
    net.members = _fit_members(net, inputs[train], targets[train], config, seed)
    net.gain.copy_(torch.from_numpy(gain))
    net.eval()
    oof *= gain
    others = np.setdiff1d(np.arange(len(windows)), train)
    oof[others] = predict(net, windows[others])
    report = {
        "codes": codes.kind,
        "n_train": len(train),
        "seed": seed,
        "out_of_fold": score(codes.names, true_codes[train], oof[train]),
    }
    _report(progress, 1.0, "sound")
    return AudioFit(net, codes, true_codes, oof.astype(np.float32), blink, report)


def predict(net: AudioNet, windows: Tensor, batch_size: int = 512) -> np.ndarray:
    """Codes float32 [n, k] of windows [n, f, w], in evaluation mode."""
    net.eval()
    with torch.no_grad():
        parts = [net(part) for part in windows.split(batch_size)]
    return torch.cat(parts).numpy() if parts else np.zeros((0, net.shape[2]), np.float32)


def predict_wave(
    net: AudioNet, wave: np.ndarray, frame_times: np.ndarray, segments: np.ndarray | None = None
) -> np.ndarray:
    """Codes float32 [n, k] of the frames at ``frame_times`` [n] seconds in ``wave`` (16 kHz mono)."""
    config = net.config
    mel = log_mel(wave)
    windows = mel_windows(mel, frame_times, config.lookback_s, config.lookahead_s, segments)
    return predict(net, torch.as_tensor(windows, dtype=torch.float32))


def dataset_windows(dataset: Dataset, config: AudioConfig) -> Tensor:
    """The encoder's inputs float32 [n, f, w], one window per frame of ``dataset``."""
    features = dataset.audio_features
    if dataset.audio_kind == "mel":
        windows = mel_windows(
            features, dataset.frame_times, config.lookback_s, config.lookahead_s, dataset.segments
        )
    else:  # already one window [w, f] per frame
        windows = features[np.minimum(dataset.audio_ids, len(features) - 1)].transpose(0, 2, 1)
    return torch.from_numpy(np.ascontiguousarray(windows, np.float32))


def score(
    names: tuple[str, ...], true_codes: np.ndarray, predicted: np.ndarray
) -> dict[str, dict[str, float]]:
    """Correlation and amplitude (ratio of standard deviations) of every code."""
    table = {}
    for i, name in enumerate(names):
        t, p = true_codes[:, i], predicted[:, i]
        constant = t.std() < 1e-8 or p.std() < 1e-8
        r = 0.0 if constant else float(np.corrcoef(t, p)[0, 1])
        table[name] = {"r": r, "amplitude": float(p.std() / max(t.std(), 1e-8))}
    return table


def held_out_score(dataset: Dataset, fit: AudioFit) -> dict[str, dict[str, float]]:
    """`score` on the part of the clip that `fit_audio` did not train on."""
    _, test = dataset.split(fit.net.config.lookback_s, fit.net.config.lookahead_s)
    truth = fit.codes.encode(measurements(dataset, fit.codes)[test])
    return score(fit.codes.names, truth, fit.oof_codes[test])


def measurements(dataset: Dataset, codes: ExpressionCodes) -> np.ndarray | None:
    """What `ExpressionCodes.encode` takes, for every frame of ``dataset``; None for learnt codes."""
    if codes.kind == "landmarks":
        return dataset.landmarks
    if codes.kind == "aus":
        return dataset.aus[:, [list(dataset.au_names).index(name) for name in codes.names]]
    return None


def _fit_codes(dataset: Dataset, train: np.ndarray, config: AudioConfig) -> ExpressionCodes:
    if dataset.landmarks is not None and dataset.au_source != "exact":
        return ExpressionCodes.fit_landmarks(dataset.landmarks[train], config.n_components)
    if dataset.aus is not None:
        # Lids have a code of their own, which sound does not drive; the lips' unit comes first, as code 0.
        names = sorted((n for n in dataset.au_names if n != "AU45"), key=lambda n: n != "AU25")
        columns = [list(dataset.au_names).index(name) for name in names]
        return ExpressionCodes.fit_aus(dataset.aus[train][:, columns], tuple(names))
    return ExpressionCodes.learnt(config.n_learnt)


def _blink(dataset: Dataset, train: np.ndarray) -> np.ndarray:
    blink = np.full((len(dataset.frame_ids), 1), np.nan, np.float32)
    has_unit = dataset.aus is not None and "AU45" in dataset.au_names
    if dataset.landmarks is not None and not (has_unit and dataset.au_source == "exact"):
        blink[train] = blink_code(eye_openness(dataset.landmarks), train)[train]
    elif has_unit:
        closed = dataset.aus[train, list(dataset.au_names).index("AU45")]
        blink[train] = np.clip(closed, 0, 1)[:, None]
    else:
        blink[train] = 0
    return blink


def _set_standardisation(net: AudioNet, windows: Tensor) -> None:
    net.feature_mean.copy_(windows.mean((0, 2))[:, None])
    net.feature_std.copy_(windows.std((0, 2)).clamp_min(1e-3)[:, None])


def _folds(dataset: Dataset, train: np.ndarray, config: AudioConfig) -> list[tuple[np.ndarray, np.ndarray]]:
    """(fit on, predict on) per block of time; no window of one touches a window of the other."""
    guard = round(dataset.fps * (config.lookback_s + config.lookahead_s)) + 1
    folds = []
    for block in np.array_split(train, config.n_folds):
        far = (dataset.audio_ids[train] < dataset.audio_ids[block[0]] - guard) | (
            dataset.audio_ids[train] > dataset.audio_ids[block[-1]] + guard
        )
        folds.append((train[far], block))
    return folds


def _fit_members(
    net: AudioNet, inputs: Tensor, targets: Tensor, config: AudioConfig, seed: int
) -> torch.nn.ModuleList:
    fresh = []
    for i in range(config.n_members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(100_000 * (i + 1) + seed)
            member = AudioNet(*net.shape, replace(config, n_members=1)).members[0]
            _fit_member(member, inputs, targets, config)
        fresh.append(member)
    return torch.nn.ModuleList(fresh)


def _fit_member(member: torch.nn.Module, inputs: Tensor, targets: Tensor, config: AudioConfig) -> None:
    optimiser = torch.optim.AdamW(member.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    n_batches = max(1, len(inputs) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=config.n_epochs * n_batches
    )
    member.train()
    for _ in range(config.n_epochs):
        order = torch.randperm(len(inputs))
        for batch in order[: n_batches * config.batch_size].split(config.batch_size):
            x = inputs[batch] + config.input_noise * torch.randn_like(inputs[batch])
            loss = (member(x) - targets[batch]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    member.eval()


@torch.no_grad()
def _predict(members: torch.nn.ModuleList, inputs: Tensor) -> np.ndarray:
    return torch.stack([member(inputs) for member in members]).mean(0).numpy()


def _gain(
    true_codes: np.ndarray, predicted: np.ndarray, config: AudioConfig, r_floor: float = 0.3
) -> np.ndarray:
    """Per-code gain that undoes the shrinking of least squares; unexplained codes stay small."""
    gains = np.ones(true_codes.shape[1], np.float32)
    for i, entry in enumerate(score(tuple(map(str, range(len(gains)))), true_codes, predicted).values()):
        full = 1 / max(entry["amplitude"], 1e-3)
        trust = np.clip(entry["r"] / r_floor, 0, 1)
        gains[i] = 1 + config.match_variance * trust * (min(full, 3.0) - 1)
    return gains


def _report(progress: Progress | None, done: float, text: str) -> None:
    if progress is not None:
        progress(done, text)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("dataset", help="a data set folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lookahead", type=float, default=AudioConfig.lookahead_s, help="seconds")
    args = parser.parse_args(arguments)
    dataset = load_dataset(args.dataset)
    fit = fit_audio(dataset, AudioConfig(lookahead_s=args.lookahead), seed=args.seed)
    print(json.dumps({**fit.report, "held_out": held_out_score(dataset, fit)}, indent=1))


if __name__ == "__main__":
    main()
