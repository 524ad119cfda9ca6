"""Fits the audio encoder to a data set: sound in, expression codes out.

`fit_audio` trains on the first part of the clip only and also returns *out-of-fold* codes: what the encoder
says of a training frame when that frame's stretch of time was left out. A field trained on a mix of true and
out-of-fold codes sees in training what it will be given in use.

    python -m nerfad.engine.train_audio DATASET        # prints the score of every code on the held-out part
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from nerfad.data.dataset import Dataset, load_dataset
from nerfad.engine.code_fit import blink_codes, fit_codes, measurements
from nerfad.engine.hearing import dataset_windows, equip, predict, predict_wave
from nerfad.errors import DatasetError, in_one_sentence
from nerfad.features import phones, speech
from nerfad.models.audio_net import (
    ROW_RATE,
    AudioConfig,
    AudioNet,
    KernelEncoder,
    gaussian_kernel,
    make_encoder,
)
from nerfad.models.expression import ExpressionCodes
from nerfad.progress import Progress
from nerfad.progress import report as report_progress

__all__ = ["AudioFit", "dataset_windows", "fit_audio", "held_out_score", "predict", "predict_wave", "score"]

GAMMAS = (0.25, 0.5, 1.0)
RIDGES = (0.1, 0.3, 1.0)
MAX_GAIN = 3.0
TRUSTED_R = 0.3  # out-of-fold correlation from which a code's variance is matched fully
Folds = list[tuple[np.ndarray, np.ndarray]]
GIVEN_ROW_RATE = 50  # rows per second of DeepSpeech, wav2vec2 and HuBERT windows


@dataclass(frozen=True)
class AudioFit:
    """What `fit_audio` found.

    ``true_codes`` and ``blink`` are NaN on frames outside the training split, so that whatever was measured
    on held-out frames cannot leak into a rendering unnoticed. ``oof_codes`` are out-of-fold on the training
    frames and the encoder's output elsewhere; both are None for learnt codes.

    On training frames ``oof_codes`` are scaled to be least-squares predictions (the mean of the true code for
    that sound), without the encoder's gain. A field that learns from a mix of these and true codes keeps its
    response to a code; with the gain it would learn to move the mouth less than asked. The gain is for use.
    """

    net: AudioNet
    codes: ExpressionCodes
    true_codes: np.ndarray | None  # float32 [n, k]
    oof_codes: np.ndarray | None  # float32 [n, k]
    blink: np.ndarray  # float32 [n, 1], 0 open to 1 closed
    report: dict[str, object]


@dataclass(frozen=True)
class _Fitted:
    net: AudioNet
    oof: np.ndarray  # [n_train, k], before the gain
    note: dict[str, object]


def fit_audio(
    dataset: Dataset,
    config: AudioConfig | None = None,
    *,
    seed: int = 0,
    codes: str = "auto",
    progress: Progress | None = None,
) -> AudioFit:
    """Train the encoder of ``dataset``'s speaker; deterministic for a given ``seed``.

    Args:
        dataset: any layout; its landmarks, else its action units, define the codes.
        codes: "learnt" leaves them to be learnt through the field though they could be measured; "measured"
            refuses a data set on which nothing can be measured; "auto" does what it can.
        progress: called with the share done (0..1) and a short text.
    """
    config = config or AudioConfig()
    train, _ = dataset.split(config.lookback_s, config.lookahead_s)
    meaning = fit_codes(dataset, train, config, codes)
    measured = measurements(dataset, meaning)
    blink = blink_codes(dataset, train)
    if measured is None:
        features = feature_sets(dataset, config)[0]
        config = replace(config, encoder="conv", n_members=1, features=features)
        net, _ = prepare_encoder(dataset, train, meaning.n_codes, config)
        note = {"codes": meaning.kind, "features": features, "encoder": "conv", "n_train": len(train)}
        return AudioFit(net, meaning, None, None, blink, note)

    true_codes = np.full((len(dataset.frame_times), meaning.n_codes), np.nan, np.float32)
    true_codes[train] = meaning.encode(measured[train])
    best: tuple[float, _Fitted, Tensor] | None = None
    candidates = feature_sets(dataset, config)
    if config.encoder == "conv":
        candidates = candidates[:1]
    for i, features in enumerate(candidates):
        report_progress(progress, i / len(candidates), f"sound, {features}")
        net, windows = prepare_encoder(dataset, train, meaning.n_codes, replace(config, features=features))
        fitter = _fit_kernel if config.encoder == "kernel" else _fit_convs
        folds = _folds(dataset, train, config)
        fitted = fitter(net, meaning, windows[train], true_codes[train], folds, seed)
        quality = _quality(meaning, true_codes[train], fitted.oof)
        if best is None or quality > best[0]:
            best = (quality, fitted, windows)
    assert best is not None
    _, fitted, windows = best
    return _finish(fitted, windows, meaning, true_codes, blink, train, seed, progress)


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
    measured = measurements(dataset, fit.codes)
    if measured is None or fit.oof_codes is None:
        raise DatasetError(
            "nothing was measured on these frames that codes from sound could be held against."
        )
    truth = fit.codes.encode(measured[test])
    return score(fit.codes.names, truth, fit.oof_codes[test])


def feature_sets(dataset: Dataset, config: AudioConfig) -> list[str]:
    """The feature sets to choose among, the likely best first."""
    if dataset.audio_kind != "mel":
        return ["windows"]
    if config.features != "auto":
        return [config.features]
    if speech.is_available():
        return ["speech+phones", "mel+phones", "mel"] if phones.is_available() else ["speech", "mel"]
    return ["phones", "mel+phones", "mel"] if phones.is_available() else ["mel"]


def prepare_encoder(
    dataset: Dataset, train: np.ndarray, n_codes: int, config: AudioConfig
) -> tuple[AudioNet, Tensor]:
    """An encoder that knows its inputs' scale but nothing else, and its inputs [n, f, w]."""
    if config.features == "windows":
        _, n_rows, n_features = dataset.audio_features.shape
    else:
        n_rows, n_features = config.window_rows, sum(config.parts.values())
    net = AudioNet(n_features, n_rows, n_codes, config)
    equip(net, dataset, train)
    windows = dataset_windows(dataset, net)
    heard = windows[train]
    net.feature_mean.copy_(heard.mean((0, 2))[:, None])
    net.feature_std.copy_(heard.std((0, 2)).clamp_min(1e-3)[:, None])
    if config.encoder == "kernel":
        _set_focus(_kernel_of(net), config)
    return net, windows


def _set_focus(encoder: KernelEncoder, config: AudioConfig) -> None:
    """Weights of the rows (near the frame) and of the features (each kind as much as the other)."""
    n_rows = len(encoder.row_weights)
    rows = torch.arange(n_rows) + 0.5
    if config.features == "windows":
        times = (rows - n_rows / 2) / GIVEN_ROW_RATE
    else:
        times = (rows - config.rows_before) / ROW_RATE
        sizes = list(config.parts.values())
        encoder.feature_weights.copy_(torch.cat([torch.full((size,), size**-0.5) for size in sizes]))
    encoder.row_weights.copy_(torch.exp(-0.5 * (times / config.focus_s) ** 2))


def _folds(dataset: Dataset, train: np.ndarray, config: AudioConfig) -> Folds:
    """(fit on, predict on), rows of ``train``, per block of time; windows of the two do not touch."""
    guard = round(dataset.fps * (config.lookback_s + config.lookahead_s)) + 1
    when = dataset.audio_ids[train]
    folds = []
    for block in np.array_split(np.arange(len(train)), config.n_folds):
        far = (when < when[block[0]] - guard) | (when > when[block[-1]] + guard)
        folds.append((np.nonzero(far)[0], block))
    return folds


def _fit_kernel(
    net: AudioNet, codes: ExpressionCodes, windows: Tensor, targets: np.ndarray, folds: Folds, seed: int
) -> _Fitted:
    """Kernel ridge regression; width and ridge by cross-validation over blocks of time."""
    del seed  # linear solves: nothing is random
    encoder, goal = _kernel_of(net), torch.from_numpy(targets)
    stride = -(-len(windows) // net.config.max_support)
    kept = torch.arange(0, len(windows), stride)
    best: tuple[float, float, float, np.ndarray] | None = None
    with torch.no_grad():
        points = encoder.embed(net.standardise(windows))
        for gamma in GAMMAS:
            kernel = gaussian_kernel(points, points[kept], gamma)
            for ridge in RIDGES:
                oof = np.zeros_like(targets)
                for fit_on, predict_on in folds:
                    inside = torch.from_numpy(np.isin(kept.numpy(), fit_on))
                    offset, weights = _solve(kernel[kept[inside]][:, inside], goal[kept[inside]], ridge)
                    oof[predict_on] = (offset + kernel[predict_on][:, inside] @ weights).numpy()
                quality = _quality(codes, targets, oof)
                if best is None or quality > best[0]:
                    best = (quality, gamma, ridge, oof)
        assert best is not None
        _, gamma, ridge, oof = best
        offset, weights = _solve(gaussian_kernel(points[kept], points[kept], gamma), goal[kept], ridge)
        encoder.gamma.fill_(gamma)
        encoder.support = points[kept].clone()
        encoder.coefficients.data, encoder.offset.data = weights, offset
    return _Fitted(net, oof, {"gamma": gamma, "ridge": ridge, "n_support": len(kept)})


def _kernel_of(net: AudioNet) -> KernelEncoder:
    encoder = net.members[0]
    assert isinstance(encoder, KernelEncoder)
    return encoder


def _solve(kernel: Tensor, goal: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    offset = goal.mean(0)
    system = kernel + ridge * torch.eye(len(kernel))
    return offset, torch.cholesky_solve(goal - offset, torch.linalg.cholesky(system)).contiguous()


def _fit_convs(
    net: AudioNet, codes: ExpressionCodes, windows: Tensor, targets: np.ndarray, folds: Folds, seed: int
) -> _Fitted:
    del codes  # nothing is chosen by score
    with torch.no_grad():
        inputs = net.standardise(windows)
    goal, oof = torch.from_numpy(targets), np.zeros_like(targets)
    for i, (fit_on, predict_on) in enumerate(folds):
        members = _train_members(net, inputs[fit_on], goal[fit_on], 1000 * (i + 1) + seed)
        with torch.no_grad():
            oof[predict_on] = torch.stack([m(inputs[predict_on]) for m in members]).mean(0).numpy()
    net.members = _train_members(net, inputs, goal, seed)
    return _Fitted(net, oof, {"n_members": net.n_members})


def _train_members(net: AudioNet, inputs: Tensor, goal: Tensor, seed: int) -> nn.ModuleList:
    fresh = []
    for i in range(net.n_members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(100_000 * (i + 1) + seed)
            member = make_encoder(net.shape, net.config)
            _train_member(member, inputs, goal, net.config)
        fresh.append(member)
    return nn.ModuleList(fresh)


def _train_member(member: nn.Module, inputs: Tensor, goal: Tensor, config: AudioConfig) -> None:
    rate, n_batches = config.learning_rate, max(1, len(inputs) // config.batch_size)
    optimiser = torch.optim.AdamW(member.parameters(), rate, weight_decay=config.weight_decay)
    n_steps = config.n_epochs * n_batches
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=n_steps)
    member.train()
    for _ in range(config.n_epochs):
        order = torch.randperm(len(inputs))[: n_batches * config.batch_size]
        for batch in order.split(config.batch_size):
            x = inputs[batch] + config.input_noise * torch.randn_like(inputs[batch])
            loss = (member(x) - goal[batch]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    member.eval()


def _finish(
    fitted: _Fitted,
    windows: Tensor,
    codes: ExpressionCodes,
    true_codes: np.ndarray,
    blink: np.ndarray,
    train: np.ndarray,
    seed: int,
    progress: Progress | None,
) -> AudioFit:
    """Set the gain and predict the frames that were not trained on."""
    net = fitted.net.eval()
    gain = _gain(true_codes[train], fitted.oof, net.config)
    net.gain.copy_(torch.from_numpy(gain))
    oof = predict(net, windows)
    oof[train] = fitted.oof * _slopes(codes, true_codes[train], fitted.oof)
    report = {
        "codes": codes.kind,
        "features": net.config.features,
        "encoder": net.config.encoder,
        **fitted.note,
        "n_train": len(train),
        "seed": seed,
        "out_of_fold": score(codes.names, true_codes[train], fitted.oof * gain),
    }
    report_progress(progress, 1.0, "sound")
    return AudioFit(net, codes, true_codes, oof, blink, report)


def _quality(codes: ExpressionCodes, true_codes: np.ndarray, predicted: np.ndarray) -> float:
    """Correlation of the lip gap and, with the same weight, that of all codes by how much each one moves."""
    r = np.array([entry["r"] for entry in score(codes.names, true_codes, predicted).values()])
    return 0.5 * float(r[0]) + 0.5 * float(np.average(r, weights=codes.scale**2))


def _slopes(codes: ExpressionCodes, true_codes: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Slope of each true code over its prediction, 0 where they do not go together."""
    scores = score(codes.names, true_codes, predicted).values()
    return np.array([max(s["r"], 0.0) / max(s["amplitude"], 1e-3) for s in scores], np.float32)


def _gain(true_codes: np.ndarray, predicted: np.ndarray, config: AudioConfig) -> np.ndarray:
    """Per-code gain that undoes the shrinking of least squares; unexplained codes stay small."""
    names = tuple(str(i) for i in range(true_codes.shape[1]))
    gains = []
    for entry in score(names, true_codes, predicted).values():
        full = min(1 / max(entry["amplitude"], 1e-3), MAX_GAIN)
        trust = np.clip(entry["r"] / TRUSTED_R, 0, 1)
        gains.append(1 + config.match_variance * trust * (full - 1))
    return np.asarray(gains, np.float32)


@in_one_sentence()
def main(arguments: list[str] | None = None) -> None:
    """Fit the encoder of a data set and print its scores as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("dataset", help="a data set folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lookahead", type=float, default=AudioConfig.lookahead_s, help="seconds")
    parser.add_argument("--features", default="auto", help="auto, or speech, phones, mel joined by +")
    parser.add_argument("--encoder", choices=("kernel", "conv"), default="kernel")
    args = parser.parse_args(arguments)
    dataset = load_dataset(args.dataset)
    try:
        config = AudioConfig(lookahead_s=args.lookahead, features=args.features, encoder=args.encoder)
    except ValueError as error:
        parser.error(str(error))
    fit = fit_audio(dataset, config, seed=args.seed)
    held_out = None if fit.oof_codes is None else held_out_score(dataset, fit)
    print(json.dumps({**fit.report, "held_out": held_out}, indent=1))


if __name__ == "__main__":
    main()
