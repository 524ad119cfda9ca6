"""`evaluate` on a talker of a few ellipses: known mouth openings, known delays, a reader of pixels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nerfad.cameras import Camera
from nerfad.data.dataset import Dataset, load_dataset
from nerfad.data.writer import DatasetWriter
from nerfad.engine import evaluate as module
from nerfad.engine.comparison import sound_of
from nerfad.engine.drawing import RenderedFrame, torso_over
from nerfad.engine.evaluate import evaluate
from nerfad.engine.evaluation_sources import AvatarSource
from nerfad.engine.other_sound import lower_face
from nerfad.engine.scoring import longest_run
from nerfad.errors import InputFileError, ModelNotFoundError, NerfadError, VideoError
from nerfad.features.face_reader import FaceReading
from nerfad.io.images import load_image
from nerfad.io.video import probe, write_video
from nerfad.metrics.action_units import SPEECH_UNITS
from nerfad.metrics.regions import FACE_OVAL, OUTER_LIPS

SIZE, N_FRAMES, FPS = 64, 300, 25.0
PROMISED = {
    *("psnr", "psnr_face", "psnr_mouth", "ssim", "flip", "lpips", "lmd", "au_agreement", "syncnet"),
    *("lip_gap_correlation", "lip_gap_amplitude", "lip_gap_offset_frames", "lip_gap_correlation_other_audio"),
    *("frames", "protocol", "seed", "versions"),
}


def openings(n: int = N_FRAMES) -> np.ndarray:
    """Mouth openings in pixels, 2 to 12, that decorrelate within a few frames."""
    noise = np.random.default_rng(3).standard_normal(n + 4)
    smooth = np.convolve(noise, np.ones(3) / 3, "same")[2:-2]
    return np.clip(7 + 5 * smooth, 2, 12)


def draw(opening: float, shade: int = 0) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    image = np.full((SIZE, SIZE, 3), (60, 110, 160), np.float64)
    image[((x - 32) / 22) ** 2 + ((y - 30) / 28) ** 2 < 1] = (210 + shade, 170, 140)
    cover = np.clip(opening / 2 - np.abs(y - 44) + 0.5, 0, 1) * (np.abs(x - 32) < 9)
    return (image * (1 - 0.9 * cover[..., None])).round().astype(np.uint8)


class PixelReader:
    """Measures the dark column under the middle of the mouth."""

    def read(self, image: np.ndarray) -> FaceReading | None:
        column = image[34:54, 28:36, 0].mean(1) / image[24, 32, 0]
        gap = float((1 - column).clip(0).sum() / 0.9 / 20)
        units = dict.fromkeys(SPEECH_UNITS, gap) | {"AU20": 0.4}
        return FaceReading(gap, landmarks(gap * 20), units)


def landmarks(opening: float) -> np.ndarray:
    points = np.zeros((478, 3), np.float32)
    for indices, centre, radii in (
        (FACE_OVAL, (32, 30), (20, 26)),
        (OUTER_LIPS, (32, 44), (9, opening / 2 + 2)),
    ):
        angle = 2 * np.pi * np.arange(len(indices)) / len(indices)
        points[list(indices), 0] = centre[0] + radii[0] * np.cos(angle)
        points[list(indices), 1] = centre[1] + radii[1] * np.sin(angle)
    points[13, :2], points[14, :2] = (32, 44 - opening / 2), (32, 44 + opening / 2)
    points[33, :2], points[263, :2], points[1, :2] = (22, 24), (42, 24), (32, 33)
    return points


class FakeAvatar:
    """Renders the mouth that its condition asks for; `late` delays it, `gain` shrinks its motion."""

    voice = SimpleNamespace(lookback_s=0.3, lookahead_s=0.2)

    def __init__(self, late: int = 0, gain: float = 1.0) -> None:
        self.late, self.gain = late, gain
        self.windows: list[object] = []

    def conditions(self, sound: np.ndarray, *, frame_times: np.ndarray, segments: np.ndarray) -> np.ndarray:
        assert len(sound) == N_FRAMES * 640 and len(frame_times) == len(segments) == N_FRAMES
        values = np.roll(openings(), self.late)
        return (7 + self.gain * (values - 7))[:, None].astype(np.float32)

    opacity = np.ones((SIZE, SIZE), np.float32)

    def render(
        self,
        c2w: np.ndarray,
        cond: np.ndarray,
        *,
        body: object,
        background: np.ndarray,
        window: tuple[int, int, int, int] | None,
        torso: np.ndarray | None,
        surface_depth: bool,
    ) -> RenderedFrame:
        self.windows.append(window)
        left, top, right, bottom = window or (0, 0, SIZE, SIZE)
        image = draw(float(cond[0]), shade=4)[top:bottom, left:right]
        opacity = self.opacity[top:bottom, left:right]
        flat = np.full(image.shape[:2], 4.0, np.float32)
        frame = RenderedFrame(image, image.astype(np.float32) / 255 * opacity[..., None], opacity, flat)
        behind = np.zeros((SIZE, SIZE, 3)) if torso is None else torso_over(torso, background)
        return replace(frame, image=frame.over(behind[top:bottom, left:right]))


class BareHead(FakeAvatar):
    """Renders the head's pixels only; what it has learnt of the torso is black."""

    opacity = np.pad(np.ones((54, 40), np.float32), ((4, 6), (12, 12)))


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    writer = DatasetWriter(root)
    gaps = openings()
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[4:58, 12:52] = 1
    for i, gap in enumerate(gaps):
        picture = draw(gap)
        beside = np.where(labels == 0, 255, 0).astype(np.uint8)
        writer.write_frame(i, image=picture, labels=labels, torso=np.dstack([picture, beside]))
    writer.write_background(np.full((SIZE, SIZE, 3), (60, 110, 160), np.uint8))
    wave = np.random.default_rng(0).uniform(-0.2, 0.2, round(N_FRAMES / FPS * 16000)).astype(np.float32)
    writer.write_audio(wave)
    writer.write_array("landmarks", np.stack([landmarks(g) for g in gaps]))
    writer.write_array("body", np.zeros((N_FRAMES, 4), np.float32))
    ids = np.arange(N_FRAMES)
    writer.write_aus(ids, list(SPEECH_UNITS), np.repeat((gaps[:, None] - 2) / 10, 5, axis=1), FPS)
    writer.finish(
        camera=Camera(80.0, 80.0, 32.0, 32.0, height=SIZE, width=SIZE),
        c2w=np.tile(np.eye(4), (N_FRAMES, 1, 1)),
        frame_ids=ids,
        segments=np.zeros(N_FRAMES, np.int64),
        aabb=np.array([-1, -1, -1, 1, 1, 1.0]),
        fps=FPS,
        reader="landmarker",
        au_source="proxy",
    )
    return root


@pytest.fixture
def data(data_root: Path) -> Dataset:
    return load_dataset(data_root)


@pytest.fixture(autouse=True)
def pixel_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("nerfad.engine.scoring.SLOW_FRAMES", 4)
    monkeypatch.setattr(module, "open_reader", lambda kind, models, dataset: PixelReader())
    monkeypatch.delenv("NERFAD_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-models"))


def evaluate_avatar(
    avatar: FakeAvatar, data: Dataset, out: Path, monkeypatch: pytest.MonkeyPatch, **options: object
) -> dict:
    source = AvatarSource(avatar, data, steps=7)  # type: ignore[arg-type]
    source.torso = str(options.get("torso", "frame"))
    monkeypatch.setattr(AvatarSource, "open", classmethod(lambda cls, *arguments: source))
    return evaluate("run", out, other_frames=20, **options)  # type: ignore[arg-type]


def test_a_good_avatar_scores_well_and_every_result_is_written(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[float] = []
    out = tmp_path / "eval"
    results = evaluate_avatar(
        FakeAvatar(), data, out, monkeypatch, seed=5, progress=lambda done, text: steps.append(done)
    )
    assert set(results) >= PROMISED
    assert results == json.loads((out / "metrics.json").read_text())
    assert results["frames"] == 60 and results["seed"] == 5
    # The face is four levels off in red, the mouth agrees: the regions differ as they should.
    assert 39 < results["psnr_face"] < results["psnr"] < 50
    assert results["psnr_mouth"] > 38 and results["ssim"] > 0.99 and 0 <= results["flip"] < 0.1
    assert results["lmd"] < 0.2 and results["lmd_79"] < 0.2
    assert results["lip_gap_correlation"] > 0.99
    assert results["lip_gap_amplitude"] == pytest.approx(1.0, abs=0.05)
    assert results["lip_gap_offset_frames"] == 0
    assert abs(results["lip_gap_correlation_other_audio"]) < 0.2
    assert results["lip_gap_correlation_other_audio_p95"] < 0.7
    assert len(results["details"]["other_audio"]["correlations"]) == 20
    assert steps == sorted(steps) and steps[-1] == 1.0
    assert load_image(out / "side_by_side.png").shape[0] > 3 * SIZE
    info = probe(out / "side_by_side.mp4")
    assert (info.n_frames, info.fps, info.has_audio, info.width) == (60, 25.0, True, 2 * SIZE)
    lines = (out / "frames.csv").read_text().splitlines()
    assert lines[0].startswith("img_id,time_s,psnr,psnr_face") and len(lines) == 61
    assert lines[1].split(",")[0] == "240"


def test_other_sound_renders_the_lower_face_only_where_that_reads_the_same(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    avatar = FakeAvatar()
    windowed = evaluate_avatar(avatar, data, tmp_path, monkeypatch)
    detail = windowed["details"]["other_audio"]
    assert detail["lower_face_only"] and detail["window_check"] == 0.0
    assert sum(w is None for w in avatar.windows) == 60 + 6  # own sound, and the check
    # A window that cuts the mouth reads differently: the check notices and whole frames are rendered.
    monkeypatch.setattr("nerfad.engine.other_sound.lower_face", lambda *a: (0, 44, SIZE, SIZE))
    whole = evaluate_avatar(FakeAvatar(), data, tmp_path, monkeypatch)
    detail = whole["details"]["other_audio"]
    assert not detail["lower_face_only"] and detail["window_check"] > 0.05
    name = "lip_gap_correlation_other_audio"
    assert whole[name] == pytest.approx(windowed[name], abs=1e-6)


def test_the_lower_face_holds_mouth_and_chin() -> None:
    points = landmarks(6.0)
    points[1, :2] = (32, 34)
    left, top, right, bottom = lower_face(points, SIZE, SIZE)  # type: ignore[misc]
    assert left < 20 and right > 44 and top == 34 and bottom > 58
    assert lower_face(points + 1000, SIZE, SIZE) is None


def test_missing_weights_and_truth_are_null_with_the_reason(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = evaluate_avatar(FakeAvatar(), data, tmp_path, monkeypatch, max_frames=20)
    for name, reason in [
        ("lpips", "weights not found"),
        ("syncnet", "weights not found"),
        ("ms_ssim", "176 pixels"),
        ("depth_error_percent", "only sample data sets"),
    ]:
        assert results[name] is None and reason in results["reasons"][name]
    assert all(results[name] is None for name in results["reasons"])


def test_the_protocol_names_what_was_known(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = evaluate_avatar(FakeAvatar(), data, tmp_path, monkeypatch, max_frames=20)["protocol"]
    known = " ".join(protocol["known_from_held_out_frames"])
    assert "head pose" in known and "torso" in known and "background" in known
    assert protocol["image_size"] == [SIZE, SIZE] and protocol["trained_steps"] == 7
    assert protocol["n_held_out"] == 60 and protocol["n_train"] < 240
    assert protocol["regions_from"] == "the data set's landmarks"


def test_a_late_and_lazy_mouth_shows_in_offset_and_amplitude(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = evaluate_avatar(FakeAvatar(late=3, gain=0.5), data, tmp_path, monkeypatch)
    assert results["lip_gap_offset_frames"] == 3
    assert results["lip_gap_amplitude"] == pytest.approx(0.5, abs=0.1)
    assert results["lip_gap_correlation"] < 0.5


def test_a_mouth_that_never_moves_has_no_correlation(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = evaluate_avatar(FakeAvatar(gain=0.0), data, tmp_path, monkeypatch)
    assert results["lip_gap_correlation"] is None and results["lip_gap_amplitude"] == 0.0
    assert "do not move" in results["reasons"]["lip_gap_correlation_other_audio"]


def test_units_agree_and_the_dead_one_is_left_out(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nerfad.engine.summary.units_apart_from_sound", lambda *a, **k: {})
    results = evaluate_avatar(FakeAvatar(), data, tmp_path, monkeypatch)
    detail = results["details"]["au_agreement"]
    assert results["au_agreement"] > 0.95 and detail["kappa"] > 0.9
    assert set(detail["dead"]) == {"AU20"} and set(detail["units"]) == set(SPEECH_UNITS) - {"AU20"}
    assert detail["au_source"] == "proxy"


def test_openface_tables_are_compared_by_their_presence_columns(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nerfad.engine.summary.units_apart_from_sound", lambda *a, **k: {})
    presence = (openings() > 7).astype(int)

    def table(path: Path, rows: np.ndarray) -> None:
        lines = ["frame, confidence, success, AU25_r, AU25_c"]
        lines += [f"{k}, 0.98, 1, {2 * row}, {row}" for k, row in enumerate(rows)]
        path.write_text("\n".join(lines))

    made = presence[240:].copy()
    made[:6] = 1 - made[:6]
    table(tmp_path / "made.csv", made)
    results = evaluate_avatar(
        FakeAvatar(), load_dataset(data_root), tmp_path, monkeypatch, generated_aus=tmp_path / "made.csv"
    )
    assert results["au_agreement"] is None and "no au.csv" in results["reasons"]["au_agreement"]

    table(data_root / "au.csv", presence)
    try:
        options = {"generated_aus": tmp_path / "made.csv"}
        results = evaluate_avatar(FakeAvatar(), load_dataset(data_root), tmp_path, monkeypatch, **options)
        assert results["au_agreement"] == pytest.approx(0.9)
        assert results["details"]["au_agreement"]["au_source"] == "openface"
        table(tmp_path / "made.csv", made[:-3])
        with pytest.raises(InputFileError, match="has 57 rows; it needs one for each of the 60"):
            evaluate_avatar(FakeAvatar(), load_dataset(data_root), tmp_path, monkeypatch, **options)
    finally:
        (data_root / "au.csv").unlink()


def test_anyones_video_of_the_held_out_stretch_or_of_the_whole_clip(data_root: Path, tmp_path: Path) -> None:
    frames = [draw(gap) for gap in openings()]
    write_video(tmp_path / "whole.mp4", frames, FPS, crf=6)
    write_video(tmp_path / "part.mp4", frames[240:], FPS, crf=6)
    scores = {}
    for name in ("whole", "part"):
        scores[name] = evaluate(None, tmp_path / name, video=tmp_path / f"{name}.mp4", dataset=data_root)
        assert scores[name]["frames"] == 60
        assert scores[name]["lip_gap_correlation"] > 0.98 and scores[name]["lip_gap_offset_frames"] == 0
        assert scores[name]["psnr"] > 30
        assert "another sound" in scores[name]["reasons"]["lip_gap_correlation_other_audio"]
        assert scores[name]["protocol"]["video"].endswith(f"{name}.mp4")
    write_video(tmp_path / "odd.mp4", frames[:100], FPS)
    with pytest.raises(VideoError, match=r"odd.mp4 has 100 frames .* held-out stretch \(60 frames\)"):
        evaluate(None, tmp_path / "odd", video=tmp_path / "odd.mp4", dataset=data_root)
    assert not (tmp_path / "odd").exists()


def test_nothing_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(NerfadError, match="nothing to evaluate"):
        evaluate(None, tmp_path)


def test_without_the_landmarker_pictures_are_still_scored(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*arguments: object) -> None:
        raise ModelNotFoundError("face_landmarker.task is not installed; run nerfad models fetch.")

    monkeypatch.setattr(module, "open_reader", missing)
    results = evaluate_avatar(FakeAvatar(), data, tmp_path, monkeypatch, max_frames=20)
    assert results["psnr_face"] > 30
    for name in ("lmd", "lip_gap_correlation", "lip_gap_correlation_other_audio", "au_agreement"):
        assert results[name] is None and "models fetch" in results["reasons"][name]


def test_the_head_is_composited_over_the_frames_own_torso_or_over_the_learnt_one(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = evaluate_avatar(BareHead(), data, tmp_path / "own", monkeypatch, max_frames=8)
    learnt = evaluate_avatar(BareHead(), data, tmp_path / "learnt", monkeypatch, max_frames=8, torso="learnt")
    assert own["psnr"] > learnt["psnr"] + 6
    assert own["psnr_learnt_torso"] == pytest.approx(learnt["psnr"])
    assert own["psnr_face_learnt_torso"] == pytest.approx(learnt["psnr_face"])
    assert learnt["psnr_learnt_torso"] is None
    assert own["protocol"]["torso"] == "frame" and learnt["protocol"]["torso"] == "learnt"
    assert any("torso_imgs" in known for known in own["protocol"]["known_from_held_out_frames"])


def test_an_unknown_torso_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NerfadError, match="--torso must be one of frame, learnt, not 'none'"):
        evaluate("run", tmp_path, torso="none")


def test_an_interrupted_evaluation_leaves_the_earlier_results(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_avatar(FakeAvatar(), data, tmp_path, monkeypatch, max_frames=20)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert set(before) == {"metrics.json", "frames.csv", "side_by_side.png", "side_by_side.mp4"}

    class Interrupted(FakeAvatar):
        def render(self, *arguments: object, **options: object) -> RenderedFrame:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_avatar(Interrupted(), data, tmp_path, monkeypatch, max_frames=20)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_sound_of_frames_is_theirs_and_as_long(data: Dataset) -> None:
    wave, rate = sound_of(data, np.arange(240, 300))
    assert rate == 16000 and len(wave) == 60 * 640
    other, _ = sound_of(data, np.array([250, 251]))
    np.testing.assert_array_equal(other, wave[10 * 640 : 12 * 640])


def test_the_longest_run_ends_at_cuts_and_holes() -> None:
    data = SimpleNamespace(
        segments=np.array([0, 0, 0, 1, 1, 1, 1]), audio_ids=np.array([0, 1, 2, 3, 4, 6, 7])
    )
    assert longest_run(data, [0, 1, 2, 3, 4, 5, 6]) == [0, 1, 2]  # type: ignore[arg-type]
    assert longest_run(data, [0, 2, 5, 6]) == [5, 6]  # type: ignore[arg-type]
    assert longest_run(data, []) == []  # type: ignore[arg-type]
