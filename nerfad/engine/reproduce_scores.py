"""Scores of one row and seed of a table: evaluation, mask, and the swap of sound on sample heads."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from nerfad import _native
from nerfad.data.ground_truth import knows_speech_region
from nerfad.engine import checkpoint
from nerfad.engine.evaluate import evaluate
from nerfad.engine.evaluation_sources import AvatarSource
from nerfad.engine.judge_attention import judge_speech_region
from nerfad.engine.reproduce_rows import Row
from nerfad.engine.swapped_sound import swapped_sound
from nerfad.ops import backend
from nerfad.progress import Progress, report

SCORES = (
    *("psnr", "psnr_face", "psnr_mouth", "ssim", "lpips", "lmd", "lmd_79", "lmd_20"),
    *("lip_gap_correlation", "lip_gap_amplitude", "lip_gap_error", "lip_gap_offset_frames"),
    *("au_agreement", "au_kappa", "syncnet"),
)
"""Of metrics.json."""


def score_row(
    row: Row,
    runs: Path,
    seed: int,
    out: Path,
    dataset: Path,
    *,
    max_frames: int,
    models: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Scores, what the stages have spent, and what the mask is like, as JSON values."""
    recipe, run = row.recipe, row.field_run(runs, seed)
    metrics = evaluate(
        run,
        out,
        dataset=dataset,
        models=models,
        seed=seed,
        max_frames=max_frames,
        other_frames=0,
        device=device,
        progress=progress,
    )
    result = _common(metrics)
    if knows_speech_region(dataset):
        report(progress, 0.95, "swapping the sound")
        swapped = swapped_sound(AvatarSource.open(run, dataset, device=device))
        result["scores"] |= {name: value if finite(value) else None for name, value in swapped.items()}
    stages = {}
    for stage in recipe.stages:
        folder = run if stage == "field" else recipe.folder(runs, stage, seed)
        meta = checkpoint.load_meta(folder)
        stages[stage] = {"steps": int(meta["step"]), "seconds": round(float(meta["elapsed_s"]), 1)}
    result |= {"stages": stages, "mask": None, "isa": _native.isa() if backend() == "native" else backend()}
    if recipe.attention:
        attention = recipe.folder(runs, "attention", seed)
        region = judge_speech_region(attention, dataset)
        faults = checkpoint.load_meta(attention)["mask"]["faults"]
        result["mask"] = {
            "iou": region["iou"] if region else None,
            "auc": region["auc"] if region else None,
            "faults": faults,
        }
    return result


def score_video(
    video: Path, run: Path, out: Path, dataset: Path, max_frames: int, models: Path | None = None
) -> dict[str, Any]:
    """Scores of a finished video, at the size of `run`."""
    metrics = evaluate(run, out, video=video, dataset=dataset, models=models, max_frames=max_frames)
    return _common(metrics)


def _common(metrics: dict[str, Any]) -> dict[str, Any]:
    units = metrics["details"].get("au_agreement", {})
    return {
        "scores": {name: metrics.get(name) for name in SCORES},
        "syncnet_of_real": metrics.get("syncnet_real"),
        "frames": metrics["frames"],
        "image_size": metrics["protocol"]["image_size"],
        "dead_units": units.get("dead", {}),
        "reasons": {name: without_places(why) for name, why in metrics["reasons"].items() if name in SCORES},
        "versions": metrics["versions"],
    }


def without_places(text: str) -> str:
    """The same with files' names for their paths: a table may be published.

    >>> without_places("weights not found at /home/me/models/a.pth, /home/me/.cache/a.pth")
    'weights not found at a.pth, a.pth'
    """
    return re.sub(r"(?:~|\.{0,2})/[^\s,;:]*?([^/\s,;:]+)(?=[\s,;:]|$)", r"\1", text)


def finite(value: Any) -> bool:
    """Whether a score is there."""
    return isinstance(value, (int, float)) and math.isfinite(value)
