"""The one-page report of a run: pictures, curves, scores and speed in a single HTML file.

Nothing is loaded from elsewhere: style, charts and pictures are in the page, and so are videos up to a
few megabytes; larger ones are linked by their relative path.
"""

from __future__ import annotations

import base64
import csv
import html
import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nerfad.engine.report_charts import Line, Marker, line_chart
from nerfad.engine.report_style import STYLE
from nerfad.errors import InputFileError, NerfadError
from nerfad.io.atomic import atomic_write
from nerfad.io.images import encode_image
from nerfad.io.video import VideoReader

EMBED_BYTES = 8_000_000


@dataclass(frozen=True)
class Row:
    """A line of the score table: how to write a score, what it means, and the ends of its gauge."""

    key: str
    name: str
    what: str
    low: float = 0.0
    high: float = 1.0
    digits: int = 3
    unit: str = ""


ROWS = (
    Row("psnr", "PSNR", "whole picture; higher is better", 15, 40, 2, "dB"),
    Row("psnr_face", "PSNR, face", "inside the face oval", 15, 40, 2, "dB"),
    Row("psnr_mouth", "PSNR, mouth", "around the lips", 15, 40, 2, "dB"),
    Row("ssim", "SSIM", "structure, Gaussian window; 1 is identical"),
    Row("ms_ssim", "MS-SSIM", "structure over five scales; 1 is identical"),
    Row("flip", "FLIP", "difference a viewer sees; 0 is identical", 0.5, 0.0),
    Row("lpips", "LPIPS", "distance in a network's features; 0 is identical", 0.6, 0.0),
    Row("lmd", "LMD-40", "distance of the mouth's landmarks; lower is better", 6, 0, 2, "px"),
    Row("lmd_79", "LMD-79", "the same on 79 landmarks of the lips", 6, 0, 2, "px"),
    Row("lip_gap_correlation", "Lip-gap correlation", "do the lips open when the real ones do?"),
    Row("lip_gap_amplitude", "Lip-gap amplitude", "how far they open, over how far the real ones do", 0, 1),
    Row("lip_gap_offset_frames", "Lip-gap offset", "frames by which they come late; 0 is in time", 10, 0, 0),
    Row(
        "lip_gap_correlation_other_audio", "… other sound", "by the sound of other moments; 0 is honest", 1, 0
    ),
    Row("lip_gap_correlation_other_audio_p95", "… its 95th percentile", "over twenty shifts", 1, 0),
    Row("au_agreement", "Action-unit agreement", "frames with a unit rightly present or absent"),
    Row("syncnet", "SyncNet confidence", "needs weights that you supply", 0, 8, 2),
    Row("depth_error_percent", "Depth error", "of the head's depth range, over the face", 20, 0, 2, "%"),
    Row(
        "depth_error_flat_card_percent", "… of a flat card", "what no depth at all would score", 20, 0, 2, "%"
    ),
)


def report(
    run: str | Path,
    scores: str | Path,
    out: str | Path,
    *,
    video: str | Path | None = None,
    seconds: Mapping[str, float] | None = None,
    name: str = "",
) -> Path:
    """Write the report of a run and its evaluation; return the page's path.

    Args:
        run: the run folder of `nerfad train`.
        scores: the folder that `nerfad evaluate` wrote.
        out: the HTML file to write.
        video: a rendered video to show.
        seconds: how long each stage took, by name.
        name: the page's heading; the name of the data set's folder if empty.
    """
    run, scores, out = Path(run), Path(scores), Path(out)
    metrics = _read_json(scores / "metrics.json")
    training = _read_json(run / "train.json") if (run / "train.json").is_file() else {}
    frames = _read_frames(scores / "frames.csv")
    protocol = metrics.get("protocol", {})
    name = name or Path(str(protocol.get("dataset", run))).name
    body = [
        _header(name, metrics, training),
        _cards(metrics, training),
        _videos(scores, video, out),
        _pictures(scores),
        _curves(metrics, training, frames),
        _table(metrics),
        _units(metrics),
        _facts(run, scores, metrics, training, seconds or {}),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>nerfad: {html.escape(name)}</title>"
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )
    with atomic_write(out, "w") as file:
        file.write(page)
    return out


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputFileError(f"{path} is missing; run nerfad evaluate first.") from None
    except ValueError:
        raise InputFileError(f"{path} is damaged; run nerfad evaluate again.") from None


def _read_frames(path: Path) -> dict[str, np.ndarray]:
    """Columns of frames.csv; an empty cell is NaN."""
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = rows[0].keys() if rows else []
    return {key: np.array([float(row[key] or "nan") for row in rows]) for key in columns}


def _text(value: Any, digits: int = 3, unit: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" + (f" {unit}" if unit else "")


def _header(name: str, metrics: dict[str, Any], training: dict[str, Any]) -> str:
    size = metrics.get("protocol", {}).get("image_size", ["?", "?"])
    badges = [f"{size[1]} × {size[0]}", f"{metrics.get('frames', '?')} held-out frames"]
    if training.get("elapsed_s"):
        badges.append(f"{training['elapsed_s'] / 60:.1f} min of training")
    badges.append("synthetic face")
    marks = "".join(f'<span class="badge">{html.escape(badge)}</span>' for badge in badges)
    return f"<header><h1>{html.escape(name)}</h1><p>a talking face from sound, by nerfad</p>{marks}</header>"


def _cards(metrics: dict[str, Any], training: dict[str, Any]) -> str:
    cards = [
        ("PSNR, face", metrics.get("psnr_face"), 1, "dB"),
        ("PSNR, mouth", metrics.get("psnr_mouth"), 1, "dB"),
        ("lip-gap correlation", metrics.get("lip_gap_correlation"), 2, ""),
        ("… with other sound", metrics.get("lip_gap_correlation_other_audio"), 2, ""),
    ]
    if training.get("rays_per_second"):
        cards.append(("training speed", training["rays_per_second"] / 1000, 0, "k rays/s"))
    per_frame = metrics.get("details", {}).get("render_seconds_per_frame")
    if per_frame:
        cards.append(("rendering", 1 / per_frame, 1, "frames/s"))
    tiles = "".join(
        f'<div class="card"><b>{_text(value, digits)}<small>{unit}</small></b><span>{label}</span></div>'
        for label, value, digits, unit in cards
    )
    return f'<section class="cards">{tiles}</section>'


def _videos(scores: Path, video: str | Path | None, page: Path) -> str:
    shown = [(scores / "side_by_side.mp4", "Held-out frames: real left, rendered right")]
    if video is not None:
        shown.append((Path(video), "Rendered from sound alone, along a smooth loop of head poses"))
    figures = "".join(
        '<figure class="panel"><video controls loop playsinline preload="metadata" '
        f'{_poster(path)}src="{_source(path, page)}"></video>'
        f"<figcaption>{caption}. Synthetic video.</figcaption></figure>"
        for path, caption in shown
        if path.is_file()
    )
    return f'<h2>Video</h2><section class="two">{figures}</section>' if figures else ""


def _poster(path: Path) -> str:
    """The first frame, shown until the video plays; nothing where it cannot be read."""
    try:
        with VideoReader(path) as reader:
            first = next((frame.image for frame in reader), None)
    except NerfadError:
        return ""
    if first is None:
        return ""
    data = base64.b64encode(encode_image(first, ".jpg", quality=85)).decode()
    return f'poster="data:image/jpeg;base64,{data}" '


def _source(path: Path, page: Path) -> str:
    """A video's bytes where it is small, else its path relative to the page."""
    if path.stat().st_size <= EMBED_BYTES:
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    return html.escape(os.path.relpath(path.resolve(), page.resolve().parent))


def _pictures(scores: Path) -> str:
    path = scores / "side_by_side.png"
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        '<h2>Frames that training has never seen</h2><figure class="panel"><img class="strip" '
        f'alt="real, rendered and their difference" src="data:image/png;base64,{data}">'
        "<figcaption>From top to bottom: real, rendered from sound and head pose, absolute difference "
        "(brightened).</figcaption></figure>"
    )


def _curves(metrics: dict[str, Any], training: dict[str, Any], frames: dict[str, np.ndarray]) -> str:
    panels = [*_frame_charts(frames), *_sync_charts(metrics), *_training_charts(training)]
    tiles = "".join(f'<div class="panel"><h3>{title}</h3>{chart}</div>' for title, chart in panels)
    return f'<h2>Curves</h2><section class="two">{tiles}</section>' if tiles else ""


def _frame_charts(frames: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    if not frames:
        return []
    charts = []
    time = frames["time_s"]
    if np.isfinite(frames["lip_gap_real"]).any():
        lines = [
            Line("real", time, frames["lip_gap_real"], "c1"),
            Line("rendered", time, frames["lip_gap"], "c2"),
        ]
        charts.append(("Lip gap over time", line_chart(lines, "time in the clip, s", "lip gap")))
    lines = [
        Line(name, time, frames[key], colour)
        for key, name, colour in (("psnr_face", "face", "c1"), ("psnr_mouth", "mouth", "c2"))
        if np.isfinite(frames[key]).any()
    ]
    if lines:
        charts.append(("PSNR frame by frame", line_chart(lines, "time in the clip, s", "dB")))
    return charts


def _sync_charts(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    details, charts = metrics.get("details", {}), []
    scan = details.get("lip_gap", {}).get("correlation_by_offset", {})
    values = [math.nan if v is None else v for v in scan.values()]
    if np.isfinite(values).any():
        best = metrics.get("lip_gap_offset_frames")
        markers = [] if best is None else [Marker(f"peak at {best:+d}" if best else "peak at 0", x=best)]
        line = Line("correlation", [int(k) for k in scan], values)
        charts.append(
            ("Is it in time?", line_chart([line], "rendered lips late by, frames", "correlation", markers))
        )
    other = details.get("other_audio")
    if other:
        fps = metrics["protocol"].get("fps", 25.0)
        line = Line(
            "other sound", np.array(other["shifts"]) / fps, [_nan(v) for v in other["correlations"]], "c3"
        )
        true = metrics.get("lip_gap_correlation")
        markers = [] if true is None else [Marker("with the true sound", y=true)]
        charts.append(
            (
                "Driven by the sound of other moments",
                line_chart([line], "sound shifted by, s", "correlation", markers),
            )
        )
    return charts


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _training_charts(training: dict[str, Any]) -> list[tuple[str, str]]:
    entries = training.get("log") or []
    charts = []
    for key, title, label in (("psnr", "Training PSNR, head", "dB"), ("rays_per_second", "Speed", "rays/s")):
        some = [e for e in entries if key in e]
        if len(some) > 1:
            line = Line(title, [e["elapsed_s"] for e in some], [e[key] for e in some], "c4")
            charts.append((title, line_chart([line], "training time, s", label)))
    return charts


def _table(metrics: dict[str, Any]) -> str:
    reasons = metrics.get("reasons", {})
    rows = []
    for row in ROWS:
        if row.key not in metrics:
            continue
        value = metrics[row.key]
        if value is None:
            why = reasons.get(row.key, "not computed")
            what = html.escape(f"{row.what}. {why[:1].upper()}{why[1:]}")
            cells = f'<td class="num none">–</td><td class="gauge"></td><td class="what">{what}</td>'
        else:
            share = (abs(value) - row.low) / (row.high - row.low)
            width = abs(100 * min(max(share, 0.0), 1.0))  # abs: no minus zero
            cells = (
                f'<td class="num">{_text(value, row.digits, row.unit)}</td>'
                f'<td class="gauge"><div><i style="width:{width:.0f}%"></i></div></td>'
                f'<td class="what">{html.escape(row.what)}</td>'
            )
        rows.append(f'<tr><td class="name">{html.escape(row.name)}</td>{cells}</tr>')
    return (
        '<h2>Scores</h2><div class="panel"><table>'
        "<tr><th>score</th><th></th><th></th><th>what it measures</th></tr>"
        f"{''.join(rows)}</table></div>"
        '<p class="note">A longer bar is better. Definitions: docs/metrics.md.</p>'
    )


def _units(metrics: dict[str, Any]) -> str:
    detail = metrics.get("details", {}).get("au_agreement")
    if not detail or not (detail["units"] or detail["dead"]):
        return ""
    rows = []
    for name, unit in detail["units"].items():
        shown = [_text(unit[key]) for key in ("agreement", "kappa", "rate_real", "rate_generated")]
        rows.append(f"<tr><td>{name}</td>" + "".join(f'<td class="num">{x}</td>' for x in shown) + "</tr>")
    dead = "; ".join(f"{name}: {why}" for name, why in detail["dead"].items())
    note = f'<p class="note">Left out: {html.escape(dead)}.</p>' if dead else ""
    head = "".join(f'<th class="num">{text}</th>' for text in ("agreement", "kappa", "real", "rendered"))
    return (
        f"<h2>Action units ({html.escape(detail['au_source'])})</h2>"
        f'<div class="panel"><table><tr><th>unit</th>{head}</tr>{"".join(rows)}</table></div>'
        '<p class="note">Share of frames that agree, the same beyond chance (Cohen\'s kappa), and how often '
        f"the unit is present in the real and in the rendered frames.</p>{note}"
    )


def _facts(
    run: Path,
    scores: Path,
    metrics: dict[str, Any],
    training: dict[str, Any],
    seconds: Mapping[str, float],
) -> str:
    protocol = metrics.get("protocol", {})
    known = protocol.get("known_from_held_out_frames", "")
    facts = {
        "Split": protocol.get("split"),
        "Known of held-out frames": ", ".join(known) if isinstance(known, list) else known,
        "Driven by": protocol.get("driven_by"),
        "Frames": f"{protocol.get('n_train', '?')} for training, {metrics.get('frames', '?')} scored",
        "Steps": training.get("step"),
        "Peak memory": f"{training['peak_memory_mb'] / 1024:.2f} GiB"
        if training.get("peak_memory_mb")
        else None,
        "Kernels": training.get("backend"),
        "Time": ", ".join(f"{name} {_duration(value)}" for name, value in seconds.items()) or None,
        "Device": device_name(),
        "Versions": ", ".join(f"{k} {v}" for k, v in metrics.get("versions", {}).items() if v),
    }
    items = "".join(
        f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>" for name, value in facts.items() if value
    )
    data = protocol.get("dataset", "DATASET")
    commands = f"nerfad train {data} --out {run}\nnerfad evaluate {run} --out {scores}"
    return (
        f'<h2>How this was made</h2><div class="panel"><dl>{items}</dl></div>'
        f"<h2>Do it again</h2><pre>{html.escape(commands)}</pre>"
        "<footer>Every face in this page that is called rendered is synthetic.</footer>"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def device_name() -> str:
    """The processor and the number of cores that this process may use."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next(
                (line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model
            )
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores"
