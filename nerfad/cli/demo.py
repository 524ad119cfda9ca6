"""`nerfad demo`: the whole path in one command; data, training, video, scores, report; it resumes."""

import time
from pathlib import Path

from nerfad.cli.console import progress_bar, say
from nerfad.errors import NerfadError

SAMPLE_SECONDS = 24.0
SAMPLE_SIZE = 128
SAMPLE_MINUTES = 2.5
VIDEO_SIZE = 256
VIDEO_MINUTES = 8.0


def run_demo(out: Path, video: Path | None, minutes: float | None, seed: int, models: Path | None) -> Path:
    """Runs every stage into `out` and returns the report's path."""
    if video is not None and not video.is_file():
        raise NerfadError(f"{video} does not exist; name a video file: make demo VIDEO=clip.mp4")
    from nerfad.config import TrainConfig
    from nerfad.engine.evaluate import evaluate
    from nerfad.engine.render import render_video
    from nerfad.engine.report import report
    from nerfad.engine.train import train
    from nerfad.io.atomic import check_folder_target

    seconds: dict[str, float] = {}
    data, run, scores = out / "data", out / "run", out / "eval"
    budget = minutes if minutes is not None else (VIDEO_MINUTES if video else SAMPLE_MINUTES)
    config = TrainConfig(dataset=data, out=run, minutes=budget, seed=seed)
    check_folder_target(out)

    started = time.perf_counter()
    _make_data(data, video, seed, models)
    seconds["data"] = time.perf_counter() - started

    started = time.perf_counter()
    with progress_bar("train") as progress:
        train(config, progress=progress)
    seconds["train"] = time.perf_counter() - started

    started = time.perf_counter()
    with progress_bar("render") as progress:
        render_video(run, data / "aud.wav", out / "talking.mp4", progress=progress)
    seconds["render"] = time.perf_counter() - started

    started = time.perf_counter()
    with progress_bar("evaluate") as progress:
        evaluate(run, scores, models=models, seed=seed, progress=progress)
    seconds["evaluate"] = time.perf_counter() - started

    name = video.stem if video else "Sample head"
    page = report(run, scores, out / "report.html", video=out / "talking.mp4", seconds=seconds, name=name)
    say(f"report: {page}   video: {out / 'talking.mp4'}   scores: {scores / 'metrics.json'}")
    return page


def _make_data(data: Path, video: Path | None, seed: int, models: Path | None) -> None:
    if video is None:
        from nerfad.sample.generate import generate

        with progress_bar("sample") as progress:
            generate(data, seconds=SAMPLE_SECONDS, size=SAMPLE_SIZE, seed=seed, progress=progress)
    else:
        from nerfad.preprocess.pipeline import preprocess

        with progress_bar("preprocess") as progress:
            preprocess(video, data, size=VIDEO_SIZE, models=models, progress=progress)
