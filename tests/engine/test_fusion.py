"""Pre-training of the fusion and its judge, on 80 frames of 32 x 32."""

import dataclasses
import json
import os
import signal
import sys

import numpy as np
import pytest
import torch
from tiny_faces import write_tiny_faces

from nerfad.cli.main import main
from nerfad.config import AttentionConfig, ConfigError, FusionConfig, FusionWeights, from_dict, to_dict
from nerfad.data.dataset import load_dataset
from nerfad.engine import checkpoint, fusion_trainer, judge_fusion, pretrain_fusion
from nerfad.engine.attention_data import as_input
from nerfad.engine.fusion_data import (
    cut_crops,
    fusion_split,
    load_fusion_data,
    load_masker,
    neighbours_of,
    sound_config,
)
from nerfad.engine.interrupt import TrainingInterrupted
from nerfad.engine.pretrain_attention import pretrain_attention
from nerfad.engine.pretrain_fusion import load_fusion
from nerfad.errors import CheckpointError, DatasetError
from nerfad.models.face_fusion import NEIGHBOURS_AFTER, NEIGHBOURS_BEFORE

TINY = {
    "width": 4,
    "size": 32,
    "features": "mel",
    "classifier_steps": 3,
    "classifier_width": 4,
    "batch_size": 4,
    "preview_every_s": 0.0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_faces(tmp_path_factory.mktemp("faces"))


def pretrained_attention(data, run):
    settings = {"width": 4, "critic_width": 4, "n_blocks": 1, "size": 32, "batch_size": 4, "steps": 1}
    datasets = data if isinstance(data, tuple) else (data,)
    pretrain_attention(AttentionConfig(datasets=datasets, out=run, preview_every_s=0.0, **settings))
    return run


@pytest.fixture(scope="module")
def attention(data, tmp_path_factory):
    return pretrained_attention(data, tmp_path_factory.mktemp("attention"))


def config(data, attention, out, **settings):
    datasets = data if isinstance(data, tuple) else (data,)
    return FusionConfig(datasets=datasets, attention=attention, out=out, **{**TINY, "steps": 3, **settings})


def fuse(*arguments, **settings):
    return pretrain_fusion.pretrain_fusion(config(*arguments, **settings))


def test_learns_and_writes_a_run(data, attention, tmp_path):
    told = []
    settings = config(data, attention, tmp_path / "run")
    result = pretrain_fusion.pretrain_fusion(settings, lambda done, text: told.append(text))
    assert result.step == 3 and result.units == ("AU25", "AU26") and result.features == "mel"
    assert set(result.figures) == {"reconstruction", "bce", "dice"}
    written = json.loads((tmp_path / "run/fusion.json").read_text())
    assert written["kind"] == "fusion" and len(written["unit_rates"]) == 2
    assert len(list((tmp_path / "run/previews").glob("*.png"))) == 1
    for stage in ("cutting out faces", "listening", "teaching the action-unit classifier", "step 3"):
        assert any(stage in text for text in told), stage


def test_an_opened_run_decodes_what_it_decoded_in_training(data, attention, tmp_path):
    run = pretrain_fusion.FusionRun(config(data, attention, tmp_path / "run", bfloat16=False), None, None)
    run.go()
    fusion, dataset = load_fusion(tmp_path / "run"), load_dataset(data)
    assert fusion.meta["references"] == list(run.data.reference_ids)
    torch.testing.assert_close(fusion.references, run.data.faces[list(run.data.references)])
    rows = torch.arange(6)
    shown = run.trainer.preview(rows)[:, :, :, 32:64]
    again = fusion.decode_dataset(dataset, np.arange(6))
    torch.testing.assert_close(again, shown, atol=1e-5, rtol=1e-4)
    crops = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    codes = torch.rand(2, 2)
    assert torch.equal(fusion.masker(crops, codes), run.masker(crops, codes))


def test_resumed_run_equals_uninterrupted_one(data, attention, tmp_path, monkeypatch):
    """Bit by bit, the change of phase included."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fuse(data, attention, whole, steps=6)
    shares = iter(k / 6 for k in range(6))
    step = fusion_trainer.FusionTrainer.step
    monkeypatch.setattr(fusion_trainer.FusionTrainer, "step", lambda self, share: step(self, next(shares)))
    fuse(data, attention, parts, steps=2)
    fuse(data, attention, parts, steps=6)
    first, second = (checkpoint.load(run) for run in (whole, parts))
    assert first.meta["step"] == second.meta["step"] == 6
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)


def test_ctrl_c_saves_and_says_how_to_go_on(data, attention, tmp_path, monkeypatch):
    calls = []

    def interrupt(done, text):
        if text.startswith("step") and not calls:
            calls.append(text)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("nerfad.engine.progress.RunLog.INTERVAL_S", 0.0)
    with pytest.raises(TrainingInterrupted, match="run the same command again"):
        pretrain_fusion.pretrain_fusion(config(data, attention, tmp_path / "run", steps=500), interrupt)
    assert 0 < checkpoint.load_meta(tmp_path / "run")["step"] < 500


def test_the_ablations_leave_out_what_they_say(data, attention, tmp_path):
    without_au = fuse(data, attention, tmp_path / "au", au_loss=False, steps=1)
    assert set(without_au.figures) == {"reconstruction"}
    fuse(data, None, tmp_path / "whole", use_attention=False, steps=1)
    whole = load_fusion(tmp_path / "whole")
    crops = torch.randint(256, (1, 32, 32, 3), dtype=torch.uint8)
    assert whole.masker.units == ("AU25", "AU26")
    assert torch.equal(whole.masker(crops, torch.rand(1, 2)), crops)
    fuse(data, attention, tmp_path / "masked", steps=1)
    masked = load_fusion(tmp_path / "masked").masker(crops, torch.rand(1, 2))
    assert (masked.float() - 127.5).abs().mean() < (crops.float() - 127.5).abs().mean()


def changed_where(faces, others):
    """Share of pixels in which Audio-faces differ by more than rounding."""
    return float(((faces.float() - others.float()).abs() > 1.5).float().mean())


def test_the_mask_of_a_target_is_its_own_or_one_for_all_frames(data, attention, tmp_path):
    dataset = load_dataset(data)
    settings = config(data, attention, tmp_path / "run", target_mask="own")
    masker, _ = load_masker(settings, [dataset])
    # A generator that has learnt: its mask follows picture and code.
    torch.manual_seed(0)
    for parameter in masker.generator.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    train, _ = fusion_split(dataset, sound_config("mel"))
    _, crops, codes = cut_crops(dataset, masker.units, train, 32)
    with torch.no_grad():
        every = masker.generator(as_input(crops), codes).mask
    assert float(every.std(0).max()) > 0.01, "masks that are all the same would prove nothing"
    usual = int((codes - codes.median(0).values).square().sum(1).argmin())
    expected = {"own": every, "pooled": every.mean(0), "reference": every[usual]}
    found = {}
    for name, mask in expected.items():
        settings = dataclasses.replace(settings, target_mask=name)
        made, _ = load_fusion_data(settings, dataclasses.replace(masker, target_mask=name))
        truth = 127.5 + (1 - mask) * (crops.permute(0, 3, 1, 2) - 127.5)
        assert (made.faces.permute(0, 3, 1, 2) - truth).abs().max() < 0.6, name
        assert (made.masks is None) == (name == "own")
        found[name] = made.faces
    assert changed_where(found["own"], found["pooled"]) > 0
    assert changed_where(found["pooled"], found["reference"]) > 0


@pytest.mark.parametrize("target_mask", ["own", "pooled", "reference"])
def test_an_opened_run_masks_as_in_training(data, attention, tmp_path, target_mask):
    settings = config(data, attention, tmp_path / "run", target_mask=target_mask, steps=1)
    run = pretrain_fusion.FusionRun(settings, None, None)
    run.go()
    fusion, dataset = load_fusion(tmp_path / "run"), load_dataset(data)
    train, test = fusion_split(dataset, fusion.net.config)
    _, faces, codes = fusion.audio_faces(dataset, train)
    assert torch.equal(faces, run.data.faces) and torch.equal(codes, run.data.codes)
    # Held-out frames have the training frames' mask, not one of their own.
    frames, faces, codes = fusion.audio_faces(dataset, test)
    _, crops, _ = cut_crops(dataset, run.masker.units, frames, 32)
    assert torch.equal(faces, run.masker(crops, codes, run.data.masks))


def test_older_runs_go_on_with_their_own_masks(data, attention, tmp_path):
    fuse(data, attention, tmp_path / "run", target_mask="own", steps=1)
    path = tmp_path / "run/checkpoint.json"
    meta = json.loads(path.read_text())
    del meta["config"]["target_mask"]
    path.write_text(json.dumps(meta))
    assert load_fusion(tmp_path / "run").masker.target_mask == "own"
    assert fuse(data, attention, tmp_path / "run", target_mask="own", steps=2).step == 2
    with refused("trained with target_mask own, not pooled"):
        fuse(data, attention, tmp_path / "run", steps=3)


def test_a_reference_is_never_its_own_target(data, attention, tmp_path):
    other = write_tiny_faces(tmp_path / "other", n_frames=90, seed=3)
    both = pretrained_attention((data, other), tmp_path / "both")
    for reference, gap in (("fixed", 1), ("random", 8)):
        settings = config((data, other), both, tmp_path / "run", reference=reference, batch_size=400)
        masker, _ = load_masker(settings, [load_dataset(path) for path in (data, other)])
        found, _ = load_fusion_data(settings, masker)
        # Numbered pictures tell which rows a batch holds.
        number = torch.arange(len(found.faces), dtype=torch.uint8)[:, None, None, None]
        found = dataclasses.replace(found, faces=number.expand(-1, 32, 32, 3))
        batch = found.batch(settings, False, torch.Generator().manual_seed(0))
        rows, references = (
            ((x[:, 0, 0, 0] + 1) * 127.5).round().long() for x in (batch.targets, batch.references)
        )
        starts = torch.tensor([start for start, _ in found.people])
        owner, donor = (torch.searchsorted(starts, x, right=True) for x in (rows, references))
        assert torch.equal(owner, donor), "a reference of another person"
        assert int((rows - references).abs().min()) >= gap
        assert set(owner.tolist()) == {1, 2}
        assert torch.equal(batch.labels, found.labels[rows])


def test_neighbours_stay_in_their_take_and_training_hears_nothing_of_the_test(data):
    dataset = load_dataset(data)
    dataset.segments = np.repeat([0, 1], 40)
    near = neighbours_of(dataset.segments, np.array([0, 38, 41, 79]))
    assert near[0].tolist() == [0, 0, 0, 0, 0, 1, 2, 3]
    assert near[1].tolist() == [34, 35, 36, 37, 38, 39, 39, 39]
    assert near[2].tolist() == [40, 40, 40, 40, 41, 42, 43, 44]
    assert near[3].max() == 79
    audio = sound_config("mel")
    train, test = fusion_split(load_dataset(data), audio)
    last = (train.max() + NEIGHBOURS_AFTER + 0.5) / 25 + audio.lookahead_s
    first = (test.min() - NEIGHBOURS_BEFORE + 0.5) / 25 - audio.lookback_s
    assert last <= first + 0.011, "rows of sound are 10 ms"


def test_it_listens_and_the_judge_can_tell(tmp_path, monkeypatch):
    """Held-out mouths follow their sound; trained on the sound of other frames, they do not."""
    fit = judge_fusion.fit_regressor
    monkeypatch.setattr(judge_fusion, "fit_regressor", lambda *a, **k: fit(*a, **{**k, "n_steps": 100}))
    data = write_tiny_faces(tmp_path / "data", n_frames=200)
    settings = {"steps": 150, "classifier_steps": 60, "batch_size": 8, "learning_rate": 3e-3}
    settings["use_attention"] = False
    fuse(data, None, tmp_path / "hears", **settings)
    load = pretrain_fusion.load_fusion_data

    def of_other_frames(*arguments):
        found, net = load(*arguments)
        order = torch.randperm(len(found.neighbours), generator=torch.Generator().manual_seed(0))
        return dataclasses.replace(found, neighbours=found.neighbours[order]), net

    monkeypatch.setattr(pretrain_fusion, "load_fusion_data", of_other_frames)
    fuse(data, None, tmp_path / "deaf", **settings)
    result = judge_fusion.judge_fusion(tmp_path / "hears", data, against=tmp_path / "deaf")
    assert result["au25"] > 0.5 and result["au25_gain"] > 0.3, result


def test_the_judge_prints_a_table(data, attention, tmp_path, monkeypatch, capsys):
    fuse(data, attention, tmp_path / "run", steps=1)
    fit = judge_fusion.fit_regressor
    monkeypatch.setattr(judge_fusion, "fit_regressor", lambda *a, **k: fit(*a, **{**k, "n_steps": 2}))
    monkeypatch.setattr(sys, "argv", ["judge_fusion", str(tmp_path / "run"), str(data)])
    judge_fusion.main()
    assert "au25_share_of_ridge" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["judge_fusion", str(tmp_path / "run"), str(data), "--json"])
    judge_fusion.main()
    assert json.loads(capsys.readouterr().out)["n_frames"] == 16


def test_swap_figures_by_hand():
    decoded, targets = torch.zeros(4, 3, 2, 2), torch.zeros(4, 3, 2, 2)
    decoded[:2, :, 0], targets[:2, :, 0] = 0.1, 0.4
    targets[:, :, 1] = torch.rand(1)  # outside the box nothing counts
    mouths = torch.zeros(4, 2, 2, dtype=torch.bool)
    mouths[:, 0] = True
    found = judge_fusion.swap_figures(decoded, targets, mouths)
    assert found["swap_change"] == pytest.approx(0.1) and found["true_change"] == pytest.approx(0.4)
    assert found["swap_share"] == pytest.approx(0.25)


def test_ridge_finds_what_the_sound_says(data):
    dataset = load_dataset(data)
    loudness = np.asarray(dataset.audio_features[::4].mean(1)[: len(dataset)], np.float64)
    train, test = np.arange(50), np.arange(60, 80)
    found = judge_fusion.ridge_from_mel(dataset, train, loudness[train], test)
    assert np.corrcoef(found, loudness[test])[0, 1] > 0.9


def refused(match, error=CheckpointError):
    return pytest.raises(error, match=match)


def test_bad_inputs_are_named(data, attention, tmp_path):
    with refused("holds no attention"):
        fuse(data, tmp_path / "nothing", tmp_path / "run")
    fuse(data, attention, tmp_path / "run")
    with refused("is no run of `nerfad pretrain-attention`"):
        fuse(data, tmp_path / "run", tmp_path / "other")
    with refused("is no run of `nerfad pretrain-fusion`"):
        load_fusion(attention)
    with refused("is no run of `nerfad pretrain-fusion`"):
        fuse(data, attention, attention)
    with refused("holds no fusion; make it with `nerfad pretrain-fusion"):
        load_fusion(tmp_path / "nothing")
    with refused("trained with width 4, not 8"):
        fuse(data, attention, tmp_path / "run", width=8)
    with refused("trained with au_loss True, not False"):
        fuse(data, attention, tmp_path / "run", au_loss=False)


def test_other_data_sets_are_refused(data, attention, tmp_path):
    other = write_tiny_faces(tmp_path / "other", n_frames=70, seed=5)
    fuse(data, attention, tmp_path / "run")
    with refused("was trained on other data sets"):
        fuse(other, attention, tmp_path / "run")
    with refused("was not trained on"):
        judge_fusion.judge_fusion(tmp_path / "run", other)


def test_missing_action_units_are_named(data, attention, tmp_path):
    other = write_tiny_faces(tmp_path / "other", units=("AU25", "AU20"))
    with refused("lacks AU26, which .* was trained with", DatasetError):
        fuse(other, attention, tmp_path / "run")
    (other / "au_proxy.csv").unlink(missing_ok=True)
    (other / "au.csv").unlink(missing_ok=True)
    with refused("lacks AU25, AU26", DatasetError):
        fuse(other, attention, tmp_path / "run")
    with refused("has no action units", DatasetError):
        fuse(other, None, tmp_path / "run", use_attention=False)


def test_a_clip_that_is_too_short_is_refused(tmp_path):
    short = write_tiny_faces(tmp_path / "short", n_frames=40)
    with refused("training frames with a face and action units, at least 16", DatasetError):
        fuse(short, None, tmp_path / "run", use_attention=False)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"attention": None}, "--attention RUN is needed"),
        ({"steps": 5, "minutes": 1}, "give --minutes or --steps, not both"),
        ({"steps": 0}, "--steps must be more than 0"),
        ({"size": 50}, "--size must be a multiple of 16"),
        ({"width": 0}, "--width must be at least 1"),
        ({"reference": "target"}, "--reference must be one of fixed, random, not 'target'"),
        ({"target_mask": "mean"}, "--target-mask must be one of own, pooled, reference, not 'mean'"),
        ({"features": "hubert"}, "--features must be auto, or speech, phones, mel joined by"),
        ({"datasets": ()}, "at least one data set"),
    ],
)
def test_settings_are_refused_with_one_sentence(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        FusionConfig(**{"datasets": ("data",), "out": "run", "attention": "attention", **settings})


def test_settings_survive_json():
    settings = config("data", "attention", "run", weights=FusionWeights(au=0.7))
    assert from_dict(FusionConfig, json.loads(json.dumps(to_dict(settings)))) == settings


def test_the_command(data, attention, tmp_path, monkeypatch, capsys):
    arguments = ["--attention", attention, "--out", tmp_path / "run", "--steps", "2", "--width", "4"]
    arguments += ["--size", "32", "--features", "mel"]
    monkeypatch.setattr(
        sys, "argv", ["nerfad", "pretrain-fusion", str(data), *(str(item) for item in arguments)]
    )
    main()
    assert load_fusion(tmp_path / "run").meta["step"] == 2
    assert "judge_fusion" in capsys.readouterr().err.replace("\n", "")
