"""The report page: complete, self-contained, and honest about what is missing."""

from __future__ import annotations

import html
import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pytest

from nerfad.engine.report import EMBED_BYTES, ROWS, device_name, report
from nerfad.engine.report_charts import Line, Marker, line_chart, ticks
from nerfad.errors import InputFileError
from nerfad.io.images import save_image
from nerfad.io.video import write_video

VOID = {"meta", "img", "br"}


class Checker(html.parser.HTMLParser):
    """Complains about tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value or "" for key, value in attributes if key in ("src", "href", "poster")]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: Path) -> Checker:
    checker = Checker()
    checker.feed(page.read_text())
    assert checker.open == []
    return checker


@pytest.fixture
def results(tmp_path: Path) -> tuple[Path, Path]:
    run, scores = tmp_path / "run", tmp_path / "eval"
    run.mkdir()
    scores.mkdir()
    metrics = {row.key: 0.5 for row in ROWS} | {
        "psnr_face": 29.4321,
        "lip_gap_offset_frames": -1,
        "lpips": None,
        "syncnet": None,
        "frames": 3,
        "protocol": {
            "dataset": "/data/<anna>",
            "image_size": [128, 96],
            "fps": 25.0,
            "known_from_held_out_frames": ["head pose"],
        },
        "versions": {"nerfad": "0.1.0", "torch": None},
        "reasons": {"lpips": "unavailable: weights not found at X", "syncnet": "unavailable: no Y"},
        "details": {
            "render_seconds_per_frame": 0.02,
            "lip_gap": {"correlation_by_offset": {"-1": 0.5, "0": 0.4, "1": None}},
            "other_audio": {"shifts": [60, 70, 80], "correlations": [0.1, None, -0.1]},
            "au_agreement": {
                "au_source": "proxy",
                "units": {"AU25": {"agreement": 0.9, "kappa": None, "rate_real": 0.5, "rate_generated": 0.4}},
                "dead": {"AU10": "no signal"},
            },
        },
    }
    (scores / "metrics.json").write_text(json.dumps(metrics))
    (scores / "frames.csv").write_text(
        "img_id,time_s,psnr_face,psnr_mouth,lip_gap,lip_gap_real\n0,0,30,25,.1,.2\n1,.04,,24,,.1\n2,.08,31,26,.2,.3\n"
    )
    save_image(scores / "side_by_side.png", np.zeros((8, 8, 3), np.uint8))
    write_video(scores / "side_by_side.mp4", [np.full((16, 16, 3), 99, np.uint8)] * 2, 25)
    log = [{"elapsed_s": k, "psnr": 20.0 + k, "rays_per_second": 1e5} for k in range(3)]
    (run / "train.json").write_text(
        json.dumps({"step": 9, "elapsed_s": 90.0, "rays_per_second": 1e5, "log": log})
    )
    return run, scores


def test_the_page_shows_everything_and_loads_nothing(results: tuple[Path, Path], tmp_path: Path) -> None:
    run, scores = results
    video = tmp_path / "talk.mp4"
    video.write_bytes(bytes(EMBED_BYTES + 1))
    page = report(run, scores, tmp_path / "out" / "report.html", video=video, seconds={"train": 90.0})
    assert page == tmp_path / "out" / "report.html"
    links = parsed(page).links
    assert [link for link in links if not link.startswith("data:")] == ["../talk.mp4"]
    text = page.read_text()
    assert text.count("poster=") == 1  # the other video cannot be read
    assert text.count('class="chart"') == 6  # gap, PSNR, offset, other sound, training PSNR, speed
    assert "29.43 dB" in text and "50.0<small>frames/s" in text and "100<small>k rays/s" in text
    assert "Unavailable: weights not found at X" in text and "AU10: no signal" in text
    assert "train 90 s" in text or "train 1.5 min" in text
    assert "&lt;anna&gt;" in text and "<anna>" not in text
    assert "synthetic" in text.lower() and "http" not in re.sub(r'xmlns="[^"]*"', "", text)
    assert html.escape(device_name()) in text


def test_a_bare_evaluation_still_gives_a_page(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({"psnr": 30.0, "frames": 1, "protocol": {}}))
    page = report(tmp_path / "no-run", tmp_path, tmp_path / "report.html")
    assert parsed(page).links == []
    assert "30.00 dB" in page.read_text()


def test_missing_or_damaged_scores_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"metrics\.json is missing; run nerfad evaluate"):
        report(tmp_path, tmp_path, tmp_path / "report.html")
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(InputFileError, match=r"metrics\.json is damaged"):
        report(tmp_path, tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_gauges_grow_with_quality(results: tuple[Path, Path], tmp_path: Path) -> None:
    run, scores = results
    widths = {}
    for flip in (0.0, 0.5):
        metrics = json.loads((scores / "metrics.json").read_text()) | {"flip": flip}
        (scores / "metrics.json").write_text(json.dumps(metrics))
        text = report(run, scores, tmp_path / "report.html").read_text()
        row = text[text.index(">FLIP</td>") :]
        widths[flip] = int(re.search(r"width:(\d+)%", row).group(1))  # type: ignore[union-attr]
    assert widths == {0.0: 100, 0.5: 0}


def test_curves_break_where_there_is_no_value() -> None:
    chart = line_chart([Line("a", [0, 1, 2, 3], [1.0, np.nan, 2.0, 3.0])], "x", "y", [Marker("here", x=2)])
    path = re.search(r' d="([^"]*)"', chart).group(1)  # type: ignore[union-attr]
    assert path.count("M") == 2 and path.count("L") == 1
    assert "here" in chart and "legend" not in chart
    assert "legend" in line_chart([Line("a", [0, 1], [0, 1]), Line("b", [0, 1], [1, 0])], "x", "y")
    line_chart([Line("flat", [0, 0], [5.0, 5.0])], "x", "y")
    line_chart([Line("nothing", [], [])], "x", "y")


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.13, 0.92) == [0.2, 0.4, 0.6, 0.8]
    assert ticks(-1.0, 1.0) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert ticks(3.0, 3.0) == [3.0]
