"""Pre-training of AU-Attention and its judge, on 80 frames of 32 x 32."""

import dataclasses
import json
import os
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
from tiny_faces import write_tiny_faces

from nerfad.cli.main import main
from nerfad.config import AttentionConfig, AttentionWeights, ConfigError, from_dict, to_dict
from nerfad.data.dataset import Dataset, load_dataset
from nerfad.engine import checkpoint, judge_attention
from nerfad.engine.attention_data import load_attention_data, training_frames
from nerfad.engine.interrupt import TrainingInterrupted
from nerfad.engine.mask_report import MaskReport, report_mask
from nerfad.engine.pretrain_attention import load_attention, pretrain_attention
from nerfad.errors import CheckpointError, DatasetError
from nerfad.models.au_attention import AttentionOutput

TINY = {
    "width": 4,
    "critic_width": 4,
    "n_blocks": 1,
    "size": 32,
    "batch_size": 4,
    "critic_steps": 2,
    "preview_every_s": 0.0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_faces(tmp_path_factory.mktemp("faces"))


def config(data, out, **settings):
    datasets = data if isinstance(data, tuple) else (data,)
    return AttentionConfig(datasets=datasets, out=out, **{**TINY, "steps": 4, **settings})


def test_learns_and_writes_a_run(data, tmp_path):
    told = []
    result = pretrain_attention(config(data, tmp_path / "run"), lambda done, text: told.append(text))
    assert result.step == 4 and result.units == ("AU25", "AU26")
    assert set(result.left_out) == {"AU10", "AU14", "AU20"}
    assert "does not have it" in result.left_out["AU10"]
    written = json.loads((tmp_path / "run/attention.json").read_text())
    assert written["mask"]["mask_mean"] == pytest.approx(result.mask.mask_mean)
    assert len(list((tmp_path / "run/previews").glob("*.png"))) == 1
    assert any("cutting out faces" in text for text in told) and "step 4" in told[-1]
    assert "teaching the classifier of action units (50%)" in told


def test_a_data_set_given_twice_is_refused_before_any_work(data, tmp_path):
    told = []
    with pytest.raises(ConfigError, match=r"faces.*: is given twice; name each person's data set once"):
        pretrain_attention(config((data, data), tmp_path / "run"), lambda done, text: told.append(text))
    assert told == []


@pytest.mark.parametrize(("width", "warned"), [("64", True), ("16", False)])
def test_sizes_for_gpus_are_named_on_a_cpu(monkeypatch, capsys, tmp_path, width, warned):
    monkeypatch.chdir(tmp_path)
    call = ["pretrain-attention", "missing", "--out", "run", "--width", width]
    monkeypatch.setattr(sys, "argv", ["nerfad", *call])
    with pytest.raises(SystemExit):
        main()
    told = " ".join(capsys.readouterr().err.split())
    assert ("on a CPU add --width 16 --n-blocks 4 --size 64" in told) == warned
    assert list(tmp_path.iterdir()) == []


def test_the_run_can_be_opened(data, tmp_path):
    pretrain_attention(config(data, tmp_path / "run"))
    generator, meta = load_attention(tmp_path / "run")
    assert meta["units"] == ["AU25", "AU26"] and meta["size"] == 32 and not generator.training
    out = generator(torch.zeros(1, 3, 32, 32), torch.zeros(1, 2))
    assert isinstance(out, AttentionOutput) and out.mask.shape == (1, 1, 32, 32)


def test_resumed_run_equals_uninterrupted_one(data, tmp_path):
    """Bit by bit. The learning rate does not fall before a third of the run, hence 3 of 12 steps."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    pretrain_attention(config(data, whole, steps=12))
    stopped = dataclasses.replace(config(data, parts, steps=12), steps=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nerfad.engine.attention_trainer.rate_scale", lambda share: 1.0)
        pretrain_attention(stopped)
    pretrain_attention(config(data, parts, steps=12))
    first, second = (checkpoint.load(run) for run in (whole, parts))
    assert first.meta["step"] == second.meta["step"] == 12
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)


def test_other_seeds_differ(data, tmp_path):
    states = []
    for seed in (0, 1):
        run = tmp_path / str(seed)
        pretrain_attention(config(data, run, steps=1, seed=seed))
        states.append(load_attention(run)[0].mask_head.weight)
    assert not torch.equal(*states)


def test_ctrl_c_saves_and_says_how_to_go_on(data, tmp_path):
    calls = []

    def interrupt(done, text):
        if text.startswith("step") and not calls:
            calls.append(text)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nerfad.engine.progress.RunLog.INTERVAL_S", 0.0)
        with pytest.raises(TrainingInterrupted, match="run the same command again"):
            pretrain_attention(config(data, tmp_path / "run", steps=500), interrupt)
    assert 0 < checkpoint.load_meta(tmp_path / "run")["step"] < 500


def test_several_people_and_the_choice_of_two_stacks(data, tmp_path):
    other = write_tiny_faces(tmp_path / "other", n_frames=75, units=("AU20", "AU25"), seed=3)
    result = pretrain_attention(config((data, other), tmp_path / "run", steps=1, shared_critic=False))
    assert result.units == ("AU25",), "units that one person lacks cannot be in the code"
    assert len(checkpoint.load_meta(tmp_path / "run")["n_train"]) == 2


def test_batches_keep_to_one_person_and_to_codes(data, tmp_path):
    other = write_tiny_faces(tmp_path / "other", units=("AU25",), seed=3)
    settings = config((data, other), tmp_path / "run", units=("AU25",), code_noise=0.0, batch_size=64)
    both = load_attention_data(settings)
    batch = both.batch(settings, torch.Generator().manual_seed(0))
    assert batch.crops.abs().max() <= 1 and batch.targets.min() >= 0 and batch.targets.max() <= 1
    people = [both.codes[start:end, 0] for start, end in both.people]
    owner = torch.stack([torch.isin(batch.codes[:, 0], codes) for codes in people])
    target_owner = torch.stack([torch.isin(batch.targets[:, 0], codes) for codes in people])
    assert owner.any(1).all(), "both people take part"
    assert (owner & target_owner).any(0).all(), "a target is a code of the same person"


def test_held_out_pictures_are_never_read(data, tmp_path, monkeypatch):
    read = []
    original = Dataset.image
    monkeypatch.setattr(Dataset, "image", lambda self, i: (read.append(i), original(self, i))[1])
    pretrain_attention(config(data, tmp_path / "run", steps=1))
    assert set(read) == set(training_frames(load_dataset(data)).tolist())


def test_shuffled_units_are_the_same_units_elsewhere(data, tmp_path):
    plain = load_attention_data(config(data, tmp_path))
    shuffled = load_attention_data(config(data, tmp_path, shuffle_aus=True))
    assert torch.equal(plain.pictures, shuffled.pictures)
    assert not torch.equal(plain.codes, shuffled.codes)
    assert torch.equal(plain.codes.sort(0).values, shuffled.codes.sort(0).values)


def test_units_that_do_not_move_are_left_out(tmp_path):
    folder = write_tiny_faces(tmp_path / "still", units=("AU25", "AU26", "AU10"))
    table = folder / "au_proxy.csv"
    rows = [line.split(", ") for line in table.read_text().splitlines()]
    for row in rows[1:]:
        row[rows[0].index("AU26_r")] = "2.0"
    table.write_text("\n".join(", ".join(row) for row in rows) + "\n")
    result = pretrain_attention(config(folder, tmp_path / "run", steps=1))
    assert result.units == ("AU10", "AU25") and "below" in result.left_out["AU26"]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "au_proxy.csv").unlink(), "has no action units"),
        (lambda folder: (folder / "landmarks.npy").unlink(), "says nowhere where the face is"),
        (lambda folder: _keep_rows(folder / "au_proxy.csv", 40), "has 40 rows, but the frames go up to"),
        (lambda folder: _rename(folder / "au_proxy.csv"), "no action unit is left to learn from"),
        (lambda folder: _forget(folder / "landmarks.npy", 35), "training frames with a face"),
    ],
    ids=["no units", "no faces", "too few rows", "only other units", "few faces"],
)
def test_bad_data_is_refused_in_one_sentence(data, tmp_path, spoil, sentence):
    folder = tmp_path / "folder"
    shutil.copytree(data, folder)
    spoil(folder)
    with pytest.raises(DatasetError, match=sentence) as refusal:
        pretrain_attention(config(folder, tmp_path / "run"))
    assert "\n" not in str(refusal.value)


def _keep_rows(table, n):
    table.write_text("\n".join(table.read_text().splitlines()[: n + 1]) + "\n")


def _rename(table):
    table.write_text(table.read_text().replace("AU25_r", "AU01_r").replace("AU26_r", "AU02_r"))


def _forget(path, n):
    landmarks = np.load(path)
    landmarks[:n] = np.nan
    np.save(path, landmarks)


def test_a_person_who_is_seen_once_is_refused(data, tmp_path):
    once = write_tiny_faces(tmp_path / "once", n_frames=1)
    with pytest.raises(DatasetError, match=r"once: has \d training frames .* at least 16 are needed; record"):
        pretrain_attention(config((data, once), tmp_path / "run"))


@pytest.mark.parametrize(
    "command",
    [["render", "--audio", "AUD", "--out", "x.mp4"], ["evaluate", "--out", "x"], ["export", "x.avatar"]],
)
def test_a_pre_training_is_no_avatar(data, tmp_path, monkeypatch, capsys, command):
    pretrain_attention(config(data, tmp_path / "run", steps=1))
    name, *rest = [str(data / "aud.wav") if part == "AUD" else part for part in command]
    monkeypatch.setattr(sys, "argv", ["nerfad", name, str(tmp_path / "run"), *rest])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and "run of `nerfad pretrain-attention`" in said and said.count("\n") == 1


def test_runs_of_another_kind_are_refused(data, tmp_path):
    with pytest.raises(CheckpointError, match="holds no attention; make it with `nerfad pretrain-attention"):
        load_attention(tmp_path)
    checkpoint.save(tmp_path / "avatar", {"step": 1}, {"model.a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="is no run of `nerfad pretrain-attention`"):
        load_attention(tmp_path / "avatar")
    with pytest.raises(CheckpointError, match="is no run of `nerfad pretrain-attention`"):
        pretrain_attention(config(data, tmp_path / "avatar"))


def test_contradictions_with_an_earlier_call_are_refused(data, tmp_path):
    pretrain_attention(config(data, tmp_path / "run", steps=1))
    with pytest.raises(CheckpointError, match="was trained with width 4, not 8"):
        pretrain_attention(config(data, tmp_path / "run", steps=2, width=8))
    other = write_tiny_faces(tmp_path / "other", n_frames=75)
    with pytest.raises(CheckpointError, match="was trained on other data sets"):
        pretrain_attention(config(other, tmp_path / "run", steps=2))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 50}, "--size must be a multiple of 16, not 50"),
        ({"width": 0}, "--width must be at least 1"),
        ({"minutes": 1.0}, "not both"),
        ({"datasets": ()}, "at least one data set"),
        ({"critic_steps": 0}, "critic_steps"),
    ],
)
def test_bad_settings(tmp_path, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        AttentionConfig(**{"datasets": ("a",), "out": tmp_path, "steps": 1, **settings})


def test_settings_survive_json(tmp_path):
    settings = config("a", tmp_path, units=("AU25",), weights=AttentionWeights(code=3.0, mask_mean=-1.0))
    assert from_dict(AttentionConfig, json.loads(json.dumps(to_dict(settings)))) == settings
    with pytest.raises(ConfigError, match=r"weights\.code must not be negative"):
        AttentionWeights(code=-1.0)


class _Fixed(torch.nn.Module):
    """A generator whose mask is given, and which paints the code over what the mask leaves."""

    def __init__(self, mask, answers=True):
        super().__init__()
        self.mask, self.answers = mask, answers

    def forward(self, crop, code):
        mask = self.mask.expand(len(crop), 1, *crop.shape[2:])
        warp = torch.ones_like(crop) * (code[:, 1:2, None, None] if self.answers else 0.5)
        return AttentionOutput(mask, warp, mask * crop + (1 - mask) * warp)


def _report(mask, answers=True) -> MaskReport:
    mouths = torch.zeros(4, 32, 32, dtype=torch.bool)
    mouths[:, 20:30, 10:22] = True
    crops, codes = torch.zeros(4, 3, 32, 32), torch.full((4, 2), 0.3)
    return report_mask(_Fixed(mask, answers), crops, codes, codes, mouths, ("AU10", "AU25"))


def mouth_mask(inside=0.0):
    mask = torch.ones(1, 1, 32, 32)
    mask[..., 20:30, 10:22] = inside
    return mask


def test_a_good_mask_has_no_faults():
    report = _report(mouth_mask())
    assert report.faults() == [] and report.unit == "AU25"
    assert report.mouth_mass == pytest.approx(1) and report.contrast == pytest.approx(1)
    assert report.mouth_area == pytest.approx(120 / 1024) and report.focus == pytest.approx(1024 / 120)
    assert report.mask_outside == 1 and report.mask_response == 0


@pytest.mark.parametrize(
    ("mask", "answers", "fault"),
    [
        (torch.full((1, 1, 1, 1), 0.999), True, "nothing is left for speech to move"),
        (torch.full((1, 1, 1, 1), 0.01), True, "speech would move the whole picture"),
        (torch.full((1, 1, 1, 1), 0.5), True, "knows nothing"),
        (1 - mouth_mask(), True, "only 0.00 times as dense"),
        (mouth_mask(), False, "does not answer to AU25"),
    ],
    ids=["all ones", "all zeros", "everywhere", "elsewhere", "no answer"],
)
def test_degenerate_masks_are_called_so(mask, answers, fault):
    assert any(fault in sentence for sentence in _report(mask, answers).faults())


def test_the_judge_measures_a_run(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        judge_attention,
        "fit_regressor",
        lambda *args, **kw: _fit(*args, **{**kw, "n_steps": 20}),
    )
    pretrain_attention(config(data, tmp_path / "run", steps=1))
    result = judge_attention.judge_attention(tmp_path / "run", data)
    assert result["mouth_ratio_of_box"] == pytest.approx(1 / result["mouth_area"])
    assert set(result["slopes"]) == {"AU25", "AU26"} and "speech_region" not in result
    assert result["au_error_ratio"] == pytest.approx(result["au_error"] / result["au_error_of_doing_nothing"])
    monkeypatch.setattr(sys, "argv", ["judge", str(tmp_path / "run"), str(data), "--json"])
    judge_attention.main()
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(result))
    other = write_tiny_faces(tmp_path / "other", units=("AU20",))
    with pytest.raises(DatasetError, match="lacks action units that the run was trained with"):
        judge_attention.judge_attention(tmp_path / "run", other)


_fit = judge_attention.fit_regressor


def test_top_iou_and_auc_in_closed_form():
    values = np.arange(100.0).reshape(10, 10)
    best = judge_attention.top(values)
    assert best.sum() == 15 and best.ravel()[85:].all()
    assert judge_attention.iou(best, best) == 1
    assert judge_attention.auc(values, best) == 1 and judge_attention.auc(-values, best) == 0
    assert judge_attention.auc(np.zeros((10, 10)), best) == 0.5


def test_pixels_that_units_explain_are_found():
    """One pixel follows the unit, one drifts slowly, one is noise."""
    rng = np.random.default_rng(0)
    n = 400
    unit = rng.random((n, 1))
    pictures = np.full((n, 2, 2, 3), 100, np.uint8)
    pictures[:, 0, 0] = (100 + 80 * unit).astype(np.uint8)
    pictures[:, 0, 1] = (100 + 80 * np.linspace(0, 1, n)[:, None]).astype(np.uint8)
    pictures[:, 1, 0] = rng.integers(60, 140, (n, 1))
    found = judge_attention.explained_by_units(pictures, unit)
    assert found[0, 0] > 15 and found[0, 1] < 1 and found[1, 0] < 4 and found[1, 1] == 0


def test_the_command_line(data, tmp_path, monkeypatch, capsys):
    arguments = [str(data), "--out", str(tmp_path / "run"), "--steps", "1", "--width", "2", "--size", "32"]
    monkeypatch.setattr(sys, "argv", ["nerfad", "pretrain-attention", *arguments])
    main()
    told = capsys.readouterr().err
    assert "left out AU10" in told and "attention over AU25, AU26 written" in told
    monkeypatch.setattr(sys, "argv", ["nerfad", "pretrain-attention", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        main()
    assert "at least one data set" in capsys.readouterr().err
