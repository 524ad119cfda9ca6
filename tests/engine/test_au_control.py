"""Action units edited on top of speech."""

import numpy as np
import pytest
from tiny_data import train_tiny, write_tiny_dataset
from tiny_faces import write_tiny_faces
from tiny_runs import config, tiny_fusion

from nerfad.data.dataset import load_dataset
from nerfad.data.writer import DatasetWriter
from nerfad.engine import judge_au_control as judge_module
from nerfad.engine.au_control import UnitEdit, edited_codes, unit_directions
from nerfad.engine.evaluation_sources import dataset_sound
from nerfad.engine.render import Avatar, render_video
from nerfad.engine.train import train
from nerfad.errors import CheckpointError, DatasetError, InputFileError
from nerfad.features.face_reader import FaceReading
from nerfad.models.unit_control import UnitDirections

TIMES = (np.arange(75) + 0.5) / 25


def made_up(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Codes [n, 6] that hold two correlated units, twisted together with things that are no units."""
    random = np.random.default_rng(0)
    units = random.uniform(0, 1, (n, 2))
    units[:, 1] = 0.8 * units[:, 0] + 0.2 * units[:, 1]
    other = random.normal(size=(n, 4))
    return np.concatenate([units, other], 1) @ random.normal(size=(6, 6)), units


@pytest.fixture(scope="module")
def directions():
    codes, units = made_up()
    return UnitDirections.fit(codes, units, ("AU25", "AU26"), ridge=1e-6)


def test_a_move_changes_the_reading_of_one_unit_by_exactly_that(directions):
    codes, units = made_up()
    np.testing.assert_allclose(directions.read(codes), units, atol=1e-2)
    change = np.zeros_like(units)
    change[:, 0] = 0.3
    np.testing.assert_allclose(
        directions.read(directions.moved(codes, change)), directions.read(codes) + change, atol=1e-4
    )


def test_an_edit_holds_inside_its_interval_and_nowhere_else(directions):
    codes = made_up()[0][:75]
    after = edited_codes(directions, codes, TIMES, [UnitEdit("AU25", 0.8, 1.0, 2.0)])
    read, before = directions.read(after), directions.read(codes)
    outside = (TIMES < 1.0) | (TIMES > 2.0)
    inside = (TIMES > 1.08) & (TIMES < 1.92)
    np.testing.assert_array_equal(after[outside], codes[outside].astype(np.float32))
    np.testing.assert_allclose(read[inside, 0], 0.8, atol=1e-4)
    np.testing.assert_allclose(read[:, 1], before[:, 1], atol=1e-4)


def test_an_edit_comes_and_goes_smoothly():
    times = np.linspace(0.9, 2.1, 1201)
    weight = UnitEdit("AU25", 1.0, 1.0, 2.0).weight(times)
    assert weight.min() == 0 and weight.max() == 1
    assert (
        np.abs(np.diff(weight)).max() < 0.03
        and abs(np.diff(weight)[np.abs(times[1:] - 1.0) < 1e-3]).max() < 1e-3
    )
    assert weight[np.abs(times - 1.04) < 5e-4] == pytest.approx(0.5, abs=0.02)
    short = UnitEdit("AU25", 1.0, 1.0, 1.04).weight(times)
    assert short.max() == pytest.approx(1.0, abs=1e-2)


def test_overlapping_edits_combine(directions):
    codes = made_up()[0][:75]
    edits = [
        UnitEdit("AU25", 0.8, 0.5, 2.0),
        UnitEdit("AU26", 0.1, 1.0, 2.5),
        UnitEdit("AU25", 0.2, 1.2, 1.8),
    ]
    read = directions.read(edited_codes(directions, codes, TIMES, edits))
    at = {t: int(np.argmin(np.abs(TIMES - t))) for t in (0.8, 1.1, 1.5, 2.2)}
    np.testing.assert_allclose(read[at[0.8], 0], 0.8, atol=1e-4)
    np.testing.assert_allclose(read[at[1.1]], (0.8, 0.1), atol=1e-4)
    np.testing.assert_allclose(read[at[1.5]], (0.2, 0.1), atol=1e-4)
    np.testing.assert_allclose(read[at[2.2], 1], 0.1, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("AU25", "cannot be read; write the unit, its value and its time like AU25=0.8@1.0-2.0s"),
        ("AU25=0.8@1.0", "cannot be read"),
        ("lips=0.8@1.0-2.0s", "cannot be read"),
        ("AU25=0.8.1@1.0-2.0s", "cannot be read"),
        ("AU25=1.2@1.0-2.0s", "the value 1.2 must be between 0 and 1"),
        ("AU25=0.8@2.0-1.0s", "must end after it begins"),
    ],
)
def test_what_cannot_be_read_is_refused(text, sentence):
    with pytest.raises(InputFileError, match=sentence):
        UnitEdit.parse(text)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = write_tiny_dataset(tmp_path_factory.mktemp("data"), n_frames=130)
    dataset = load_dataset(root)
    values = np.concatenate([dataset.aus, np.full((130, 1), 0.5)], 1)
    DatasetWriter(root).write_aus(np.arange(130), [*dataset.au_names, "AU04"], values, dataset.fps)
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return train_tiny(data, tmp_path_factory.mktemp("run"), steps=400)


def brightness_within_and_before(run, dataset) -> tuple[np.ndarray, np.ndarray]:
    """How AU25 at 1 instead of 0 from 0.2 to 0.8 s changes a frame in the middle and one before, [H, W]."""
    avatar, n_frames = Avatar.load(run), 25
    cond = avatar.conditions(dataset_sound(dataset), frame_times=dataset.frame_times)[:n_frames]
    pictures = {}
    for value in (0.0, 1.0):
        edits = [UnitEdit("AU25", value, 0.2, 0.8)]
        changed, n = cond.copy(), avatar.voice.n_codes
        directions = unit_directions(avatar, edits)
        changed[:, :n] = edited_codes(directions, cond[:, :n], dataset.frame_times[:n_frames], edits)
        pictures[value] = np.stack([avatar.render(avatar.c2w[0], c).image for c in changed[[12, 2]]])
    within, before = (pictures[1.0].astype(float) - pictures[0.0]).mean(3)
    return within, before


def lips_of(dataset) -> np.ndarray:
    """Pixels that are darker where the mouth is open, bool [H, W]."""
    order = np.argsort(dataset.aus[:, 0])
    closed, opened = (np.mean([dataset.image(int(i)) for i in part], 0) for part in (order[:10], order[-10:]))
    change = (opened - closed).mean(2)
    return change < 0.5 * change.min()


@pytest.mark.parametrize(("codes", "darker"), [("measured", 15), ("learnt", 5)])
def test_au25_opens_the_mouth_that_is_rendered(data, run, tmp_path, codes, darker):
    trained = run if codes == "measured" else train_tiny(data, tmp_path, steps=400, codes=codes)
    dataset = load_dataset(data)
    within, before = brightness_within_and_before(trained, dataset)
    assert np.abs(before).max() == 0
    assert within[lips_of(dataset)].mean() < -darker
    assert np.abs(within[:10]).mean() < 5  # above the eyes hardly anything moves


class LipReader:
    """The darker the lips' pixels, the wider the gap."""

    def __init__(self, dataset):
        self.lips = lips_of(dataset)

    def read(self, image: np.ndarray) -> FaceReading:
        return FaceReading(1 - float(image[self.lips].mean()) / 255)


def test_the_judge_sees_lips_open_with_the_value(data, run, monkeypatch):
    monkeypatch.setattr(judge_module, "open_reader", lambda kind, models, dataset: LipReader(dataset))
    judged = judge_module.judge_au_control(run, values=(0.0, 0.5, 1.0), n_frames=3)
    shut, half, wide = judged["edited"].values()
    assert shut + 0.04 < half + 0.02 < wide
    assert shut < judged["speech"] < wide and shut < judged["real"]
    assert judged["frames"] == 3 and list(judged["edited"]) == ["0", "0.5", "1"]


def test_a_fused_face_that_does_not_speak_yet_is_refused(tmp_path):
    data = write_tiny_faces(tmp_path / "data")
    fusion = tiny_fusion((data,), tmp_path / "fusion")
    train(config(data, tmp_path / "run", fusion=fusion))
    with pytest.raises(CheckpointError, match="--au cannot move a face that does not speak yet"):
        unit_directions(Avatar.load(tmp_path / "run"), [UnitEdit("AU25", 1.0, 0.0, 1.0)])


def test_units_that_cannot_be_edited_are_named(data, run, tmp_path):
    def render(text, **more):
        edits = [UnitEdit.parse(text)]
        render_video(run, data / "aud.wav", tmp_path / "x.mp4", edits=edits, **more)

    with pytest.raises(DatasetError, match=r"--au AU12: .* has no such unit; choose one of AU25, AU45"):
        render("AU12=0.5@0-1s")
    with pytest.raises(DatasetError, match=r"--au AU04: cannot be edited \(its range .* below 0.02\)"):
        render("AU04=0.5@0-1s")
    with pytest.raises(InputFileError, match="--au AU25: 0-99s reaches beyond the sound, which is"):
        render("AU25=0.5@0-99s")
    other = write_tiny_dataset(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match=r"--au needs the data set of the run"):
        render("AU25=0.5@0-1s", dataset=other)
    assert not (tmp_path / "x.mp4").exists()
