"""A base over two people, and somebody new who starts from it: 80 frames of 32 x 32 each."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_faces import write_tiny_faces
from tiny_runs import HASH, SMALL, config, press_ctrl_c_after, tiny_attention, tiny_fusion

from nerfad.cli.main import main
from nerfad.config import ConfigError, TrainConfig
from nerfad.data.dataset import load_dataset
from nerfad.engine import checkpoint
from nerfad.engine.base import shared_modules
from nerfad.engine.evaluation_sources import AvatarSource
from nerfad.engine.interrupt import TrainingInterrupted
from nerfad.engine.render import Avatar
from nerfad.engine.train import TrainingRun, train
from nerfad.engine.train_base import BaseRun, train_base
from nerfad.errors import CheckpointError, DatasetError
from nerfad.features.audio import load_wave

MLP = dataclasses.replace(HASH, kind="mlp")
POINT = dataclasses.replace(SMALL["identity"], form="point", n_references=2)
FORMS = {"hashgrid": {}, "mlp": {"field": MLP}, "point": {"identity": POINT}}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    return tuple(write_tiny_faces(folder / f"person{k}", seed=k) for k in range(2))


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    return write_tiny_faces(tmp_path_factory.mktemp("newcomer") / "data", seed=7)


@pytest.fixture(scope="module")
def fusion(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    return tiny_fusion(people, folder / "fusion", tiny_attention(people, folder / "attention"))


@pytest.fixture(scope="module")
def base(people, fusion, tmp_path_factory):
    out = tmp_path_factory.mktemp("base") / "run"
    train_base(people, config(people[0], out, fusion=fusion, steps=8))
    return out


def base_run(people, settings: TrainConfig, saved=None) -> BaseRun:
    torch.manual_seed(0)
    return BaseRun([load_dataset(path) for path in people], settings, saved, None, 0.0)


@pytest.mark.parametrize("form", FORMS)
def test_people_share_the_field_and_take_turns(people, fusion, tmp_path, form):
    run = base_run(people, config(people[0], tmp_path, fusion=fusion, **FORMS[form]))
    one, other = (person.model for person in run.trainer.people)
    shared, theirs = shared_modules(one), shared_modules(other)
    assert shared.keys() == theirs.keys() and "identity_encoder" in shared
    assert all(theirs[name] is module for name, module in shared.items())
    assert one.torso is not other.torso and one.head is not other.head
    for step in range(4):
        own = [{k: v.clone() for k, v in m.torso.named_parameters()} for m in (one, other)]
        run.trainer.step(0.0)
        for k, model in enumerate((one, other)):
            moved = any(not torch.equal(v, own[k][name]) for name, v in model.torso.named_parameters())
            assert moved == (step % 2 == k)


def test_lattices_follow_the_shared_encoder_together(people, fusion, tmp_path):
    run = base_run(people, config(people[0], tmp_path, fusion=fusion))
    tables = [person.model.head.field.identity.table for person in run.trainer.people]
    assert not torch.equal(*tables)
    before = [table.detach().clone() for table in tables]
    run.trainer.step(0.0)
    assert all(torch.equal(a, b) for a, b in zip(tables, before, strict=True))
    run.trainer.step(0.0)  # the second step of two bakes
    assert all(not torch.equal(a, b) for a, b in zip(tables, before, strict=True))


@pytest.mark.parametrize("form", ["hashgrid", "mlp"])
def test_resumed_base_equals_uninterrupted_one(people, fusion, tmp_path, monkeypatch, form):
    settings = {"fusion": fusion, "steps": 7, **FORMS[form]}
    train_base(people, config(people[0], tmp_path / "whole", **settings))
    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted):
        press_ctrl_c_after(patch, 2)  # of the first person: three in all
        train_base(people, config(people[0], tmp_path / "parts", **settings))
    parts = config(people[0], tmp_path / "parts", **settings)
    assert checkpoint.load_meta(parts.out)["step"] == 3
    base_run(people, parts, checkpoint.load(parts.out)).go()
    whole, resumed = (checkpoint.load(tmp_path / name).tensors for name in ("whole", "parts"))
    assert whole.keys() == resumed.keys()
    for key in whole:
        assert torch.equal(whole[key], resumed[key]), key


def test_both_people_are_learnt(people, fusion, tmp_path):
    run = base_run(people, config(people[0], tmp_path, fusion=fusion))
    losses = np.array([run.trainer.step(0.0)["mse"] for _ in range(160)]).reshape(-1, 2)
    assert (losses[-10:].mean(0) < 0.75 * losses[:3].mean(0)).all()


@pytest.mark.parametrize("form", FORMS)
def test_somebody_new_starts_from_the_base(people, fusion, newcomer, tmp_path, form):
    train_base(people, config(people[0], tmp_path / "base", fusion=fusion, **FORMS[form]))
    settings = TrainConfig(newcomer, tmp_path / "run", base=tmp_path / "base", steps=4, preview_every_s=0.0)
    run = TrainingRun(settings, load_dataset(newcomer), None, None, 0.0)
    given = checkpoint.load(tmp_path / "base")
    for name, module in shared_modules(run.trainer.model).items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, given.tensors[f"shared.{name}.{key}"]), (name, key)
    for key, value in run.voice.encoder.state_dict().items():
        assert torch.equal(value, given.tensors[f"face_encoder.{key}"])
    assert run.config.field == given_field(given) and run.config.fusion == fusion
    run.go()
    avatar = Avatar.load(tmp_path / "run")
    cond = avatar.conditions(load_wave(newcomer / "aud.wav"), n_frames=3)
    assert avatar.render(avatar.c2w[0], cond[2]).image.shape == (32, 32, 3)
    assert train(dataclasses.replace(settings, steps=5)).step == 5


def given_field(saved: checkpoint.Checkpoint):
    from nerfad.config import train_config_of

    return train_config_of(saved.meta["config"]).field


def test_somebody_new_is_seen_with_references_of_their_own(base, newcomer, tmp_path):
    train(TrainConfig(newcomer, tmp_path, base=base, steps=1, preview_every_s=0.0))
    ours, theirs = checkpoint.load(tmp_path), checkpoint.load(base)
    assert ours.tensors["reference.face"].shape == (1, 32, 32, 3)
    mine = ours.tensors["model.head.field.identity.points.images"]
    for k in range(2):
        assert not torch.equal(mine, theirs.tensors[f"person{k}.model.head.field.identity.points.images"])


def test_a_short_clip_limits_what_is_learnt_from_and_nothing_else(base, newcomer, tmp_path, monkeypatch):
    from nerfad.data.dataset import Dataset

    read = []
    original = Dataset.image
    monkeypatch.setattr(Dataset, "image", lambda self, i: read.append(i) or original(self, i))
    train(TrainConfig(newcomer, tmp_path, base=base, steps=1, clip_s=1.0, preview_every_s=0.0))
    assert max(read) == 24
    saved = checkpoint.load(tmp_path)
    assert saved.meta["dataset"]["n_train"] == 25 and len(saved.tensors["scene.c2w"]) == 25
    source = AvatarSource.open(tmp_path, None)
    np.testing.assert_array_equal(source.positions, np.arange(64, 80))
    assert source.protocol()["trained_on_first_seconds"] == 1.0
    with pytest.raises(CheckpointError, match=r"was trained with clip_s 1.0, not 0.5"):
        train(TrainConfig(newcomer, tmp_path, base=base, steps=2, clip_s=0.5))


def test_reports_on_the_way_are_checkpoints_of_their_steps(base, newcomer, tmp_path):
    out = tmp_path / "run"
    train(TrainConfig(newcomer, out, base=base, steps=6, report_at=(2, 4), preview_every_s=0.0))
    steps = {name: checkpoint.load(out / name).meta["step"] for name in ("at_2", "at_4", ".")}
    assert steps == {"at_2": 2, "at_4": 4, ".": 6}
    early, late = (AvatarSource.open(path, None) for path in (out / "at_2", out))
    one, other = (next(iter(source.frames(source.positions[:1]))).image for source in (early, late))
    assert not np.array_equal(one, other)


def test_a_base_of_one_person_is_refused(people, fusion, tmp_path):
    with pytest.raises(ConfigError, match=r"one person alone is no base.*give at least two data sets"):
        train_base(people[:1], config(people[0], tmp_path, fusion=fusion))
    with pytest.raises(ConfigError, match=r"person0: is given twice"):
        train_base((people[0], people[0]), config(people[0], tmp_path, fusion=fusion))


def test_a_base_without_fusion_or_identity_is_refused(people, fusion, tmp_path):
    off = dataclasses.replace(SMALL["identity"], enabled=False)
    for changes in ({}, {"fusion": fusion, "identity": off}):
        with pytest.raises(ConfigError, match="a base is trained with --fusion RUN and with identity"):
            train_base(people, config(people[0], tmp_path, **changes))


def test_a_fusion_that_does_not_know_somebody_is_refused(people, fusion, newcomer, tmp_path):
    with pytest.raises(CheckpointError, match="the fusion was not trained on"):
        train_base((people[0], newcomer), config(people[0], tmp_path, fusion=fusion))


def test_a_base_of_other_people_is_refused(base, people, newcomer, fusion):
    with pytest.raises(CheckpointError, match="was trained on other data sets"):
        train_base((people[0], newcomer), config(people[0], base, fusion=fusion, steps=9))
    with pytest.raises(CheckpointError, match="was trained with size None, not 16"):
        train_base(people, config(people[0], base, fusion=fusion, steps=9, size=16))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"field": dataclasses.replace(HASH, width=32)},
            "base has field.width 16, not 32; leave it out",
        ),
        ({"identity": POINT}, "this base has identity.form baked, not point"),
        ({"optim": dataclasses.replace(SMALL["optim"], appearance_dims=2)}, "appearance_dims 0, not 2"),
    ],
)
def test_a_base_of_other_sizes_is_one_sentence(base, newcomer, tmp_path, changes, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        train(config(newcomer, tmp_path, base=base, **changes))


def test_a_fusion_of_another_size_than_the_bases_is_one_sentence(base, newcomer, tmp_path):
    wider = tiny_fusion((newcomer,), tmp_path / "wider", width=4)
    with pytest.raises(CheckpointError, match=r"condition of 33 numbers, the fusion gives 65"):
        train(TrainConfig(newcomer, tmp_path / "run", base=base, fusion=wider, steps=1))


def test_folders_of_the_wrong_kind_are_named(base, fusion, people, newcomer, tmp_path):
    with pytest.raises(CheckpointError, match="holds no base; make it with `nerfad train-base"):
        train(TrainConfig(newcomer, tmp_path / "run", base=tmp_path / "nothing", steps=1))
    with pytest.raises(CheckpointError, match=r"holds a run of `nerfad pretrain-fusion`, not a run of"):
        train(TrainConfig(newcomer, tmp_path / "run", base=fusion, steps=1))
    with pytest.raises(CheckpointError, match=r"holds a run of `nerfad train-base`, not a run of"):
        Avatar.load(base)
    with pytest.raises(CheckpointError, match=r"holds a run of `nerfad train-base`, not a run of"):
        train(config(people[0], base, steps=9))


def test_somebody_without_the_fusions_units_is_one_sentence(base, tmp_path):
    bare = write_tiny_faces(tmp_path / "bare", units=("AU10",), seed=5)
    with pytest.raises(DatasetError, match="lacks AU25, AU26, which the fusion was trained with"):
        train(TrainConfig(bare, tmp_path / "run", base=base, steps=1))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"base": "run", "codes": "learnt"}, "--base brings its own condition; leave --codes out"),
        ({"clip_s": 0.0}, "--clip-s must be more than 0"),
        ({"report_at": (0,)}, "--report-at takes numbers of steps above 0"),
    ],
)
def test_contradictions_are_one_sentence(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        TrainConfig("data", "run", **settings)


def test_the_command_line_trains_a_base_and_starts_from_it(people, fusion, newcomer, tmp_path, monkeypatch):
    sizes = ["--field.n-levels", "4", "--field.log2-table-size", "10", "--field.finest-resolution", "32"]
    small = ["--occupancy.resolution", "32", "--optim.n-rays", "64", "--preview-every-s", "0", "--steps", "2"]
    identity = ["--identity.channels", "16", "--identity.size", "16", "--identity.lattice-resolution", "8"]
    run = [*map(str, people), "--fusion", str(fusion), "--out", str(tmp_path / "base")]
    monkeypatch.setattr("sys.argv", ["nerfad", "train-base", *run, *sizes, *identity, *small])
    main()
    start = [str(newcomer), "--base", str(tmp_path / "base"), "--out", str(tmp_path / "run")]
    extra = ["--clip-s", "1.5", "--report-at", "1", "2"]
    monkeypatch.setattr("sys.argv", ["nerfad", "train", *start, *extra, *small])
    main()
    assert checkpoint.load_meta(tmp_path / "run/at_1")["step"] == 1
