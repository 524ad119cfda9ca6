"""The whole path from a drawn video to a data set: what comes out, and that it resumes after anything."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from nerfad.data.dataset import load_dataset
from nerfad.errors import OutputError
from nerfad.features.audio import load_wave
from nerfad.io.images import load_image
from nerfad.preprocess import pipeline
from nerfad.preprocess.doctor import doctor
from nerfad.preprocess.pipeline import preprocess
from nerfad.preprocess.workspace import STATE
from tests.preprocess.drawn_clip import N_FRAMES, draw, head_centre, torso_shift, write_clip

SIZE = 128


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="module")
def finished(drawn, clip, tmp_path_factory) -> Path:
    """The data set that an uninterrupted run leaves; tests only read it."""
    return preprocess(clip, tmp_path_factory.mktemp("data") / "d", size=SIZE)


@pytest.fixture(scope="module")
def whole(finished) -> dict[str, str]:
    """The hashes of its files."""
    return content(finished)


def content(root: Path) -> dict[str, str]:
    """Hash of every file of a data set."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_drawn_head_is_found_where_it_was_drawn(finished):
    dataset = load_dataset(finished)
    assert len(dataset) == N_FRAMES and dataset.fps == 25.0
    assert dataset.reader == "landmarker" and dataset.au_source == "proxy"
    assert np.abs(dataset.image(20).astype(int) - draw(20, SIZE)).mean() < 4
    for k in (0, 20, 29):
        # The head's centre lies as deep as the mesh's rim, at the world's origin.
        pixel = dataset.camera.project(dataset.c2w[k].astype(np.float64), np.zeros((1, 3)))[0] + 0.5
        np.testing.assert_allclose(pixel, head_centre(k, SIZE), atol=1.5)
    labels = dataset.labels(20)
    centre = head_centre(20, SIZE).astype(int)
    assert labels[centre[1], centre[0]] == 1 and labels[120, 64] == 3 and labels[5, 5] == 0
    quality = json.loads((finished / "manifest.json").read_text())["quality"]
    assert quality["detection_rate"] == 1.0
    assert quality["reprojection_px_at_512"]["mean"] < 1.0
    assert quality["dropped"] == {"duplicates": 0, "no_picture_at_tick": 0, "no_face": []}
    assert (finished / "preview.png").is_file() and not (finished / STATE).exists()
    assert doctor(finished).ok
    assert load_image(finished / "face_imgs/20.jpg").shape == (112, 112, 3)
    wave = load_wave(finished / "aud.wav")
    assert abs(len(wave) - N_FRAMES / 25 * 16000) <= 1


def test_the_body_is_measured_on_the_torso_alone(finished):
    dataset = load_dataset(finished)
    reference = json.loads((finished / "manifest.json").read_text())["body_reference"]
    expected = np.array([torso_shift(k, SIZE) - torso_shift(reference, SIZE) for k in range(N_FRAMES)])
    error = np.abs(dataset.body[:, :2] - expected)
    # The head swings by 4 pixels; the torso's own path must come out all the same.
    assert error.mean() < 0.35 and np.abs(dataset.body[:, 2:]).max() < 0.05


def test_the_background_plate_is_the_wall(finished):
    dataset = load_dataset(finished)
    plate = dataset.background().astype(int)
    wall = draw(0, SIZE)[:, :1].astype(int)
    assert np.abs(plate[:, :20] - wall)[: SIZE // 2].max() <= 8
    assert np.abs(plate - wall)[: SIZE // 2].mean() < 6
    torso = dataset.torso(25)
    assert torso[5, 5, 3] == 0 and torso[120, 64, 3] == 255


@pytest.mark.parametrize("stage", ["scan", "frames", "landmarks", "torso", "manifest"])
def test_ctrl_c_at_any_stage_resumes_to_the_same_result(drawn, clip, tmp_path, stage, whole):
    def interrupt(done: float, text: str) -> None:
        if text.startswith(stage + " ") and not text.startswith(f"{stage} 0/"):
            raise KeyboardInterrupt

    out = tmp_path / "d"
    with pytest.raises(KeyboardInterrupt):
        preprocess(clip, out, size=SIZE, progress=interrupt)
    assert not list(out.rglob(".*.tmp*")), "half-written files are left"
    preprocess(clip, out, size=SIZE)
    assert content(out) == whole


def test_a_finished_data_set_is_left_alone(drawn, clip, finished):
    times = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    preprocess(clip, finished, size=SIZE)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == times


def test_other_settings_or_another_video_never_touch_a_data_set(drawn, clip, finished, whole, tmp_path):
    other = write_clip(tmp_path / "other.mp4", [draw(k + 3, SIZE) for k in range(N_FRAMES)])
    with pytest.raises(OutputError, match="already holds something else"):
        preprocess(clip, finished, size=96)
    with pytest.raises(OutputError, match="already holds something else"):
        preprocess(other, finished, size=SIZE)
    assert content(finished) == whole


def test_a_folder_of_other_things_is_refused(drawn, clip, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.txt").write_text("years of work")
    with pytest.raises(OutputError, match="thesis already holds something else"):
        preprocess(clip, tmp_path / "thesis", size=SIZE)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.txt"]


@pytest.mark.parametrize("after", [3, 60, 150])
def test_a_full_disk_is_one_sentence_and_resumes(drawn, clip, tmp_path, monkeypatch, after, whole):
    from nerfad.io import atomic

    replace, left = atomic.os.replace, [after]

    def full(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    out = tmp_path / "d"
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", full)
        with pytest.raises(OutputError, match="disk is full"):
            preprocess(clip, out, size=SIZE)
    preprocess(clip, out, size=SIZE)
    assert content(out) == whole


def test_arguments_are_checked(clip, tmp_path):
    with pytest.raises(OutputError, match="--size must be even"):
        preprocess(clip, tmp_path / "d", size=33)
    with pytest.raises(OutputError, match="--fps"):
        preprocess(clip, tmp_path / "d", fps=0)
    assert pipeline.STAGES[0].STAGE == "scan"
