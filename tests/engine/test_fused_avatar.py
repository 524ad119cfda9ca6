"""An avatar that is conditioned on fused Audio-faces: NeRF-AD's own chain from sound to the field."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from tiny_faces import write_tiny_faces

from nerfad.config import (
    ConfigError,
    FieldConfig,
    FusionConfig,
    OccupancyConfig,
    OptimConfig,
    TorsoConfig,
    TrainConfig,
)
from nerfad.data.dataset import load_dataset
from nerfad.engine import checkpoint
from nerfad.engine.attention_data import as_input
from nerfad.engine.evaluation_sources import AvatarSource
from nerfad.engine.fusion_data import fusion_split, person_windows
from nerfad.engine.joint_fusion import TARGETS_NAME, FusionTargets, joint_conditions
from nerfad.engine.pretrain_fusion import load_fusion, pretrain_fusion
from nerfad.engine.render import Avatar
from nerfad.engine.train import train
from nerfad.engine.voice import FusedVoice
from nerfad.errors import CheckpointError
from nerfad.features.audio import load_wave

SMALL = {
    "field": FieldConfig(n_levels=4, log2_table_size=10, finest_resolution=32, width=16),
    "torso": TorsoConfig(n_levels=4, log2_table_size=10, finest_resolution=32, width=16),
    "occupancy": OccupancyConfig(resolution=32, n_steps=32),
    "optim": OptimConfig(n_rays=256, n_frames=2),
    "preview_every_s": 0.0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_faces(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def fusion(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("fusion") / "run"
    settings = {"width": 2, "size": 32, "features": "mel", "classifier_steps": 2, "classifier_width": 2}
    pretrain_fusion(
        FusionConfig(datasets=(str(data),), out=run, use_attention=False, steps=2, batch_size=4, **settings)
    )
    return run


def config(data, fusion, out, **changes) -> TrainConfig:
    return TrainConfig(dataset=data, out=out, fusion=fusion, **{"steps": 6, **SMALL, **changes})


@pytest.fixture(scope="module")
def run(data, fusion, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    train(config(data, fusion, out))
    return out


def still(**changes) -> dict:
    """Settings of a fusion that stands still while the field learns."""
    return {"optim": dataclasses.replace(SMALL["optim"], lr_fusion=0.0), **changes}


def test_a_still_fusion_keeps_its_weights_and_the_face_encoder_learns(data, fusion, tmp_path):
    train(config(data, fusion, tmp_path, **still()))
    before, after = checkpoint.load(fusion), checkpoint.load(tmp_path)
    e_a, e_f = before.part("fusion.encoder"), after.part("face_encoder")
    assert e_f.keys() - e_a.keys() == {"mean", "variance", "calibrated"}
    assert all(not torch.equal(e_a[key], e_f[key]) for key in e_f if key.endswith("weight"))
    for frozen in ("fusion", "audio"):
        ours, theirs = after.part(frozen), before.part(frozen)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_fusion_learns_with_the_field(run, fusion):
    before, after = checkpoint.load(fusion), checkpoint.load(run)
    for part in ("fusion.encoder", "fusion.decoder", "fusion.smoothing", "audio.members"):
        old, new = before.part(part), after.part(part)
        weights = [key for key in old if key.endswith("weight")]
        assert weights and all(not torch.equal(old[key], new[key]) for key in weights), part


def test_a_fusion_that_learns_keeps_to_its_targets(data, fusion, tmp_path):
    """Eqs. 4 to 6 are part of the loss: with a large weight decoded faces come closer to the real ones."""
    optim = dataclasses.replace(SMALL["optim"], lr_fusion=1e-2, fusion_weight=10.0)
    train(config(data, fusion, tmp_path, steps=100, optim=optim))
    dataset, opened = load_dataset(data), load_fusion(fusion)
    frames, _ = fusion_split(dataset, opened.net.config)
    _, targets, _ = opened.audio_faces(dataset, frames)

    def error(voice: FusedVoice) -> float:
        faces = voice.faces(person_windows(voice.net, dataset), dataset.segments)[torch.from_numpy(frames)]
        return float((faces.float() - targets.float()).abs().mean())

    started = FusedVoice.of(opened, 0, dataset.fps)
    assert error(Avatar.load(tmp_path).voice) < 0.8 * error(started)


def test_a_step_shows_real_faces_or_fused_ones(data, fusion, monkeypatch):
    """`true_code_share` is that of the steps; frames without a target are fused in every step."""
    dataset, opened = load_dataset(data), load_fusion(fusion)
    voice, frames = FusedVoice.of(opened, 0, dataset.fps), np.arange(20)
    targets = FusionTargets.of(opened, dataset, frames)
    targets.known[3] = False
    joint = joint_conditions(voice, targets, dataset, frames)
    rows, chance, seen = torch.arange(4), torch.Generator().manual_seed(0), []
    encode = voice.encoder.encode
    monkeypatch.setattr(
        voice.encoder, "encode", lambda faces, *a: seen.append(faces.detach()) or encode(faces, *a)
    )

    def drawn(share):
        joint.draw(rows, OptimConfig(true_code_share=share), chance)
        return (seen.pop() - as_input(targets.faces[rows])).abs().amax((1, 2, 3)), joint.loss()

    off, loss = drawn(1.0)
    assert off[:3].max() == 0 and off[3] > 0.1 and float(loss.detach()) == 0
    off, loss = drawn(0.0)
    assert off.min() > 0.1 and float(loss.detach()) > 0
    fused = [float(drawn(0.5)[1].detach()) > 0 for _ in range(40)]
    assert 10 < sum(fused) < 30


def test_a_run_from_before_the_fusion_learnt_along_goes_on_with_a_still_one(data, fusion, tmp_path):
    train(config(data, fusion, tmp_path, steps=2, **still()))
    path = tmp_path / "checkpoint.json"
    meta = json.loads(path.read_text())
    del meta["config"]["optim"]["lr_fusion"]
    path.write_text(json.dumps(meta))
    train(TrainConfig(dataset=data, out=tmp_path, steps=4, preview_every_s=0.0))
    ours, theirs = checkpoint.load(tmp_path).part("fusion"), checkpoint.load(fusion).part("fusion")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_in_use_a_frame_hears_what_it_heard_in_training(run, data, fusion):
    avatar, dataset = Avatar.load(run), load_dataset(data)
    assert isinstance(avatar.voice, FusedVoice)
    cond = avatar.conditions(
        load_wave(data / "aud.wav"), frame_times=dataset.frame_times, segments=dataset.segments
    )
    assert cond.shape == (80, 32 + 1) and cond.dtype == np.float32
    again = train(config(data, fusion, run, steps=6))  # nothing left to do
    assert again.step == 6
    from nerfad.engine.conditions import fused_conditions

    table = fused_conditions(avatar.voice, dataset, np.arange(20))
    np.testing.assert_allclose(cond[7, :-1], table.heard(7)[:-1].numpy(), atol=2e-2)


def test_sound_moves_the_condition_and_neighbours_count_as_heard(run, data):
    avatar, dataset = Avatar.load(run), load_dataset(data)
    wave = load_wave(data / "aud.wav")
    times = dataset.frame_times
    changed = wave.copy()
    frame = 20
    end = times[frame] + avatar.voice.lookahead_s + 0.02
    changed[round(16000 * end) :] = 0
    before, after = (avatar.conditions(sound, frame_times=times) for sound in (wave, changed))
    np.testing.assert_array_equal(before[: frame + 1], after[: frame + 1])
    assert not np.array_equal(before[frame + 12], after[frame + 12])


def test_evaluation_leaves_out_what_the_neighbours_hear(run, data):
    avatar, dataset = Avatar.load(run), load_dataset(data)
    source = AvatarSource(avatar, dataset)
    expected = fusion_split(dataset, avatar.voice.net.config)
    np.testing.assert_array_equal(source.train, expected[0])
    np.testing.assert_array_equal(source.positions, expected[1])


def test_resuming_keeps_the_fusion(data, fusion, tmp_path):
    train(config(data, fusion, tmp_path / "parts", steps=3))
    result = train(TrainConfig(dataset=data, out=tmp_path / "parts", steps=5, preview_every_s=0.0))
    assert result.step == 5
    train(config(data, fusion, tmp_path / "whole", steps=5))
    parts, whole = (checkpoint.load(tmp_path / name).part("face_encoder") for name in ("parts", "whole"))
    for key in whole:
        torch.testing.assert_close(parts[key], whole[key], atol=5e-3, rtol=0)
    with pytest.raises(CheckpointError, match=r"was trained with fusion .*choose another --out"):
        train(config(data, tmp_path / "elsewhere", tmp_path / "parts", steps=6))


def test_resuming_needs_the_run_s_folder_alone(data, fusion, tmp_path):
    gone = shutil.copytree(fusion, tmp_path / "fusion")
    train(config(data, gone, tmp_path / "parts", steps=3))
    shutil.rmtree(gone)
    assert train(TrainConfig(dataset=data, out=tmp_path / "parts", steps=5, preview_every_s=0.0)).step == 5
    train(config(data, fusion, tmp_path / "whole", steps=5))
    parts, whole = (checkpoint.load(tmp_path / name).part("fusion.decoder") for name in ("parts", "whole"))
    for key in whole:
        torch.testing.assert_close(parts[key], whole[key], atol=1e-3, rtol=0)


def test_targets_come_back_as_they_were_made(data, fusion, tmp_path):
    dataset, opened = load_dataset(data), load_fusion(fusion)
    made = FusionTargets.of(opened, dataset, np.arange(20))
    made.save(tmp_path)
    again = FusionTargets.load(tmp_path)
    for name in ("faces", "labels", "known"):
        assert torch.equal(getattr(again, name), getattr(made, name))
    assert again.losses.config == made.losses.config
    torch.manual_seed(0)
    decoded, rows = torch.rand(4, 3, 32, 32), torch.arange(4)
    expected = made.loss(decoded, rows)
    torch.manual_seed(0)
    decoded = torch.rand(4, 3, 32, 32)
    assert torch.equal(again.loss(decoded, rows), expected)
    (tmp_path / TARGETS_NAME).write_bytes(b"no targets")
    with pytest.raises(CheckpointError, match=r"fusion_targets\.safetensors: is damaged"):
        FusionTargets.load(tmp_path)


def test_a_run_without_targets_of_its_own_asks_the_fusion(data, fusion, tmp_path):
    train(config(data, fusion, tmp_path, steps=2))
    (tmp_path / TARGETS_NAME).unlink()
    again = TrainConfig(dataset=data, out=tmp_path, steps=3, preview_every_s=0.0)
    assert train(again).step == 3 and (tmp_path / TARGETS_NAME).is_file()


def test_a_fusion_of_somebody_else_is_refused(data, fusion, tmp_path):
    other = write_tiny_faces(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match="the fusion was not trained on"):
        train(config(other, fusion, tmp_path / "run"))
    with pytest.raises(CheckpointError, match="holds no fusion; make it with"):
        train(config(data, tmp_path / "nothing", tmp_path / "run"))


def test_the_look_ahead_is_the_fusions(data, fusion, tmp_path):
    with pytest.raises(ConfigError, match="--fusion brings its own look-ahead"):
        config(data, fusion, tmp_path, lookahead_s=0.1)
    assert dataclasses.asdict(config(data, fusion, tmp_path))["fusion"] == fusion
