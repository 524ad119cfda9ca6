"""Every form of field, identity and condition as an option of training: tiny runs of 80 frames of 32 x 32."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tiny_faces import write_tiny_faces
from tiny_runs import HASH, SMALL, config, press_ctrl_c_after, tiny_attention, tiny_fusion

from nerfad.config import ConfigError, FieldConfig, IdentityOptions, TrainConfig
from nerfad.data.dataset import load_dataset
from nerfad.engine import checkpoint
from nerfad.engine import train as train_module
from nerfad.engine.build import fresh_model
from nerfad.engine.evaluate import evaluate
from nerfad.engine.interrupt import TrainingInterrupted
from nerfad.engine.pretrain_fusion import load_fusion
from nerfad.engine.references import identity_face
from nerfad.engine.render import Avatar
from nerfad.engine.train import train
from nerfad.errors import CheckpointError, DatasetError, NerfadError
from nerfad.features.audio import load_wave
from nerfad.features.face_reader import FaceReading
from nerfad.models.audio_net import AudioConfig
from nerfad.models.head import gate_of, identity_of
from nerfad.runtime import Renderer
from nerfad.runtime.export import export_avatar

MLP = dataclasses.replace(HASH, kind="mlp")
BFLOAT16 = dataclasses.replace(HASH, precision="bfloat16")


def identity(**changes) -> IdentityOptions:
    return dataclasses.replace(SMALL["identity"], enabled=True, **changes)


POINT = {"form": "point", "n_references": 2}
FORMS = {
    "baked": {"identity": identity()},
    "point": {"identity": identity(**POINT)},
    "hearing": {"identity": identity(**POINT, audio_in_offset=True)},
    "mlp": {"field": MLP},
    "mlp baked": {"field": MLP, "identity": identity()},
    "mlp point": {"field": MLP, "identity": identity(**POINT)},
    "learnt": {"codes": "learnt"},
    "silent": {"codes": "none"},
    "bfloat16": {"field": BFLOAT16},
    "bfloat16 baked": {"field": BFLOAT16, "identity": identity()},
    "bfloat16 mlp": {"field": dataclasses.replace(MLP, precision="bfloat16")},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_faces(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def fusion(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    return tiny_fusion((data,), folder / "fusion", tiny_attention((data,), folder / "attention"))


@pytest.fixture(scope="module")
def unmasked_fusion(data, tmp_path_factory):
    return tiny_fusion((data,), tmp_path_factory.mktemp("unmasked") / "fusion")


@pytest.fixture(autouse=True)
def quick_audio(monkeypatch):
    def small(**settings):
        return AudioConfig(**{"lookback_s": 0.2, "features": "mel", "n_folds": 2, **settings})

    monkeypatch.setattr(train_module, "AudioConfig", small)


def picture(avatar: Avatar, loudness: float = 1.0, frame: int = 5) -> np.ndarray:
    """A frame as the avatar draws it from the clip's sound."""
    wave = loudness * load_wave(load_dataset(avatar.meta["dataset"]["root"]).audio_path)
    cond = avatar.conditions(wave, n_frames=frame + 1)[frame]
    return avatar.render(avatar.c2w[frame], cond, surface_depth=False).head


@pytest.mark.parametrize("form", FORMS)
def test_resumed_run_equals_uninterrupted_one_and_draws_what_it_learnt(data, tmp_path, monkeypatch, form):
    # Rebakings fall on steps 2, 4 and 6: the interruption comes between two of them.
    settings = FORMS[form]
    train(config(data, tmp_path / "whole", **settings))
    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted):
        press_ctrl_c_after(patch, 3)
        train(config(data, tmp_path / "parts", **settings))
    run = train_module.TrainingRun(
        config(data, tmp_path / "parts", **settings),
        load_dataset(data),
        checkpoint.load(tmp_path / "parts"),
        None,
        0.0,
    )
    run.go()
    whole, parts = (checkpoint.load(tmp_path / name).tensors for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for key in whole:
        assert torch.equal(whole[key], parts[key]), key
    one, other = (picture(Avatar.load(tmp_path / name)) for name in ("whole", "parts"))
    np.testing.assert_array_equal(one, other)
    model = run.trainer.model.eval()
    avatar = Avatar.load(tmp_path / "parts")
    cond = torch.from_numpy(avatar.conditions(load_wave(data / "aud.wav"), n_frames=1)[:1])
    rays = [
        torch.rand(40, 3) - torch.tensor([0.5, 0.5, -1.5]),
        torch.tensor([[0.0, 0.0, -1.0]]).repeat(40, 1),
    ]
    drawn, again = (m.head.draw(*rays, cond, torch.zeros(40, 3)) for m in (model, avatar.model))
    for a, b in zip(drawn, again, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("form", ["baked", "point", "mlp", "learnt", "silent", "bfloat16"])
def test_the_loss_falls(data, tmp_path, form):
    settings = FORMS[form]
    run = train_module.TrainingRun(
        config(data, tmp_path, steps=150, **settings), load_dataset(data), None, None, 0.0
    )
    losses = [run.trainer.step(0.0)["mse"] for _ in range(120)]
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:3])


@pytest.mark.parametrize("form", ["baked", "point", "mlp baked", "mlp point"])
def test_the_encoder_learns_and_the_picture_depends_on_f_id(data, tmp_path, form):
    train(config(data, tmp_path, steps=1, **FORMS[form]))
    first = checkpoint.load(tmp_path).tensors
    resumed = config(data, tmp_path, steps=12, **FORMS[form])
    train(resumed)
    after = checkpoint.load(tmp_path).tensors
    kind = "identity" if "mlp" in form else "field.identity"
    prefix = f"model.head.{kind}." + ("points." if "baked" in form else "") + "encoder."
    names = [key for key in first if key.startswith(prefix + "feature_net") and key.endswith("weight")]
    assert names and all(not torch.equal(first[key], after[key]) for key in names)
    avatar = Avatar.load(tmp_path)
    before = picture(avatar)
    source = identity_of(avatar.model.head)
    with torch.no_grad():
        if "baked" in form:
            source.table.zero_()
        else:
            for parameter in source.encoder.parameters():
                parameter.zero_()
    assert np.abs(picture(avatar) - before).max() > 1e-4


def test_offsets_are_held_small_in_the_point_form_alone(data, tmp_path):
    for form, there in (("point", True), ("mlp point", True), ("baked", False)):
        run = train_module.TrainingRun(
            config(data, tmp_path / form, **FORMS[form]), load_dataset(data), None, None, 0.0
        )
        seen = []
        head = run.trainer.model.head
        head.register_forward_hook(lambda module, inputs, rays, seen=seen: seen.append(rays))
        run.trainer.step(0.0)
        assert (seen[0].offset_penalty is not None and seen[0].offset_penalty.requires_grad) == there


def test_the_coarse_network_of_the_papers_field_learns_at_its_own_rate(data, tmp_path):
    run = train_module.TrainingRun(config(data, tmp_path, field=MLP), load_dataset(data), None, None, 0.0)
    head = run.trainer.model.head
    before = {name: value.clone() for name, value in head.named_parameters()}
    run.trainer.step(0.0)
    for name, value in head.named_parameters():
        moved = (value - before[name]).abs().max()
        # AdamW's first step is the learning rate, here a hundredth of it: the rates rise over 100 steps.
        assert 0 < moved <= 1.01 * SMALL["optim"].lr_mlp / 100, name


def test_without_sound_the_lips_do_not_move(data, tmp_path):
    train(config(data, tmp_path / "silent", steps=8, codes="none"))
    train(config(data, tmp_path / "hearing", steps=8, codes="learnt"))
    silent, hearing = (Avatar.load(tmp_path / name) for name in ("silent", "hearing"))
    np.testing.assert_array_equal(picture(silent), picture(silent, loudness=0.0))
    assert not np.array_equal(picture(hearing), picture(hearing, loudness=0.0))
    np.testing.assert_array_equal(silent.c2w, hearing.c2w)  # both learn from the same frames


def test_learnt_codes_though_codes_could_be_measured(data, tmp_path):
    train(config(data, tmp_path, codes="learnt"))
    saved = checkpoint.load(tmp_path)
    assert saved.meta["audio"]["report"]["codes"] == "learnt"
    assert "conditions.true_codes" not in saved.tensors


def test_measured_codes_of_frames_without_a_measurement_are_refused(data, tmp_path, monkeypatch):
    def bare(*args):
        return dataclasses.replace(load_dataset(*args), landmarks=None, aus=None, au_names=[])

    monkeypatch.setattr(train_module, "load_dataset", bare)
    with pytest.raises(DatasetError, match="neither landmarks nor action units to measure codes on"):
        train(config(data, tmp_path, codes="measured"))


def test_identity_comes_with_the_fusion_and_hides_what_speech_moves(data, fusion, tmp_path):
    train(config(data, tmp_path / "run", fusion=fusion))
    saved = checkpoint.load(tmp_path / "run")
    assert len(saved.meta["identity"]["frames"]) == 4
    dataset, masker = load_dataset(data), load_fusion(fusion).masker
    frame = int(np.nonzero(dataset.frame_ids == saved.meta["identity"]["frames"][0])[0][0])
    whole = dataset.image(frame).astype(np.float32) / 255
    hidden = identity_face(dataset, frame, masker)
    assert hidden.shape == whole.shape and hidden.dtype == np.float32
    # Somewhere between the picture and grey, and outside the crop the picture itself.
    assert (np.abs(hidden - 0.5) <= np.abs(whole - 0.5) + 1e-5).all()
    assert np.abs(hidden - whole).max() > 0.05
    np.testing.assert_array_equal(hidden[0], whole[0])


def test_with_attention_the_field_hears_speech_where_it_moves_something(
    data, fusion, unmasked_fusion, tmp_path
):
    """Resumed, drawn and exported runs too; never without an attention, nor where it is told not to."""
    run = tmp_path / "run"
    train(config(data, run, fusion=fusion, steps=3))
    train(config(data, run, steps=5))
    avatar = Avatar.load(run)
    gate = gate_of(avatar.model.head)
    assert gate is not None and 0 < gate.table[:, 0].mean() < 1
    shut = gate.vertices[gate.table[: len(gate.vertices), 0] == 1]
    cond = torch.randn(2, avatar.model.n_codes)
    cond[1, -1] = cond[0, -1]
    density = avatar.model.head.field.densities(shut, cond)
    assert torch.equal(density[0], density[1])
    export_avatar(avatar, tmp_path / "me.avatar", table_dtype="float32")
    said = np.zeros(avatar.model.n_codes, np.float32)
    image = Renderer.load(tmp_path / "me.avatar", 1).render(avatar.c2w[0], said)
    drawn = avatar.render(avatar.c2w[0], said, surface_depth=False).image
    assert np.abs(image.astype(int) - drawn.astype(int)).max() <= 2
    unlike = config(
        data, tmp_path / "never", fusion=fusion, field=dataclasses.replace(HASH, speech_gate=False)
    )
    for other in (unlike, config(data, tmp_path / "unmasked", fusion=unmasked_fusion)):
        train(other)
        assert gate_of(Avatar.load(other.out).model.head) is None


def test_an_attention_that_finds_nothing_is_refused(data, fusion, tmp_path):
    dataset, nothing = load_dataset(data), torch.ones(1, 1, 32, 32)
    settings = config(data, tmp_path, fusion=fusion)
    with pytest.raises(
        DatasetError, match=r"finds nothing that speech moves.*or pass --field.no-speech-gate"
    ):
        fresh_model(settings, dataset, np.arange(40), 9, None, nothing)
    shallow = dataclasses.replace(settings, field=dataclasses.replace(HASH, n_levels=1))
    with pytest.raises(ConfigError, match=r"field.n_levels must be at least 2 with a speech gate"):
        fresh_model(shallow, dataset, np.arange(40), 9, None, nothing)
    ungated = dataclasses.replace(settings, field=dataclasses.replace(HASH, speech_gate=False))
    assert gate_of(fresh_model(ungated, dataset, np.arange(40), 9, None, nothing)[0].head) is None


def test_without_attention_the_references_are_whole_frames(data, unmasked_fusion, tmp_path):
    settings = {"identity": dataclasses.replace(SMALL["identity"], size=32)}
    train(config(data, tmp_path, fusion=unmasked_fusion, **settings))
    saved, dataset = checkpoint.load(tmp_path), load_dataset(data)
    images = saved.tensors["model.head.field.identity.points.images"]
    for picture_, frame in zip(images, saved.meta["identity"]["frames"], strict=True):
        position = int(np.nonzero(dataset.frame_ids == frame)[0][0])
        np.testing.assert_allclose(picture_.permute(1, 2, 0) * 255, dataset.image(position), atol=1e-3)


def test_a_run_needs_its_fusion_no_longer_once_it_has_begun(data, tmp_path):
    moved = tiny_fusion((data,), tmp_path / "fusion")
    frozen = dataclasses.replace(SMALL["optim"], lr_fusion=0.0)
    train(config(data, tmp_path / "run", fusion=moved))
    train(config(data, tmp_path / "frozen", fusion=moved, optim=frozen))
    for path in moved.glob("checkpoint*"):
        path.unlink()
    for run in ("run", "frozen"):
        assert train(TrainConfig(data, tmp_path / run, steps=7, preview_every_s=0.0)).step == 7
    picture(Avatar.load(tmp_path / "run"))


def test_too_few_reference_frames_are_one_sentence(data, fusion, tmp_path, monkeypatch):
    monkeypatch.setattr("nerfad.engine.references.FaceCrops.has_face", lambda self, i: i < 2)
    with pytest.raises(DatasetError, match=r"4 reference frames with a face are needed, 2 .*n-references"):
        train(config(data, tmp_path, fusion=fusion))


def test_a_run_from_before_identity_features_opens(data, unmasked_fusion, tmp_path):
    off = dataclasses.replace(SMALL["identity"], enabled=False)
    train(config(data, tmp_path, fusion=unmasked_fusion, identity=off))
    before = picture(Avatar.load(tmp_path))
    meta = json.loads((tmp_path / "checkpoint.json").read_text())
    for name in ("identity", "paper_field", "codes"):
        del meta["config"][name]
    for name in ("kind", "precision"):
        del meta["config"]["field"][name]
    del meta["identity"]
    (tmp_path / "checkpoint.json").write_text(json.dumps(meta))
    np.testing.assert_array_equal(picture(Avatar.load(tmp_path)), before)
    assert train(TrainConfig(data, tmp_path, steps=7, preview_every_s=0.0)).step == 7
    assert checkpoint.load_meta(tmp_path)["config"]["identity"]["enabled"] is False


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"codes": "learnt"}, "was trained with codes auto, not learnt; choose another --out"),
        ({"field": MLP}, "was trained with field.kind hashgrid, not mlp"),
        ({"identity": identity()}, "was trained with identity.enabled None, not True"),
        (
            {"optim": dataclasses.replace(SMALL["optim"], lr_fusion=0.0)},
            r"was trained with optim.lr_fusion 0\.0003, not 0\.0",
        ),
        ({"seed": 7}, "was trained with seed 0, not 7"),
    ],
)
def test_a_second_call_that_contradicts_the_first_is_refused(data, tmp_path, changes, sentence):
    train(config(data, tmp_path, steps=1))
    with pytest.raises(CheckpointError, match=sentence):
        train(config(data, tmp_path, steps=2, **changes))


@pytest.mark.parametrize("form", ["point", "mlp"])
def test_the_runtime_refuses_what_it_cannot_draw(data, tmp_path, form):
    train(config(data, tmp_path / "run", **FORMS[form]))
    with pytest.raises(NerfadError, match="torch-free runtime draws the hash-grid field, with identity"):
        export_avatar(Avatar.load(tmp_path / "run"), tmp_path / "me.avatar")


def test_a_run_with_baked_identity_is_exported(data, tmp_path):
    train(config(data, tmp_path / "run", **FORMS["baked"]))
    avatar = Avatar.load(tmp_path / "run")
    export_avatar(avatar, tmp_path / "me.avatar")
    renderer = Renderer.load(tmp_path / "me.avatar", 1)
    image = renderer.render(avatar.c2w[0], np.zeros(renderer.n_cond))
    assert image.shape == (renderer.height, renderer.width, 3)


class BrightnessReader:
    def read(self, image: np.ndarray) -> FaceReading:
        return FaceReading(float(image[image.shape[0] // 2 :].mean()))


@pytest.mark.parametrize("form", ["baked", "mlp", "silent"])
def test_every_form_is_evaluated(data, tmp_path, monkeypatch, form):
    monkeypatch.setattr("nerfad.engine.evaluate.open_reader", lambda *arguments: BrightnessReader())
    train(config(data, tmp_path / "run", **FORMS[form]))
    metrics = evaluate(tmp_path / "run", tmp_path / "scores", max_frames=4)
    assert 3 < metrics["psnr"] < 60


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"fusion": "run", "codes": "learnt"}, "--fusion brings its own condition; leave --codes out"),
        ({"codes": "some"}, "--codes must be one of auto, measured, learnt, none, not 'some'"),
        ({"codes": "none", "identity": identity(**POINT, audio_in_offset=True)}, "needs sound"),
    ],
)
def test_contradictions_are_one_sentence(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        TrainConfig("data", "run", **settings)


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        (FieldConfig, {"kind": "grid"}, "field.kind must be one of hashgrid, mlp, not 'grid'"),
        (FieldConfig, {"precision": "half"}, "field.precision must be one of float32, bfloat16"),
        (IdentityOptions, {"form": "flat"}, "identity.form must be one of baked, point"),
        (IdentityOptions, {"audio_in_offset": True}, "cannot be baked; add --identity.form point"),
        (IdentityOptions, {"channels": 8}, "identity.channels must be between 16 and 128"),
        (IdentityOptions, {"rebake_every": 0}, "identity.rebake_every must be at least 1"),
    ],
)
def test_settings_out_of_range_are_one_sentence(kind, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        kind(**settings)
