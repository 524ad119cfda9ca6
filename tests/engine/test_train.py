"""Training, resuming, interrupting: on a data set of 60 frames of 32 x 32."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import write_tiny_dataset

from nerfad.config import FieldConfig, OccupancyConfig, OptimConfig, TorsoConfig, TrainConfig
from nerfad.engine import checkpoint
from nerfad.engine import train as train_module
from nerfad.engine.train import TrainingInterrupted, train
from nerfad.errors import CheckpointError, DatasetError, OutputError
from nerfad.models.audio_net import AudioConfig

N_FRAMES = 80
SMALL = {
    "field": FieldConfig(n_levels=4, log2_table_size=10, finest_resolution=32, width=16),
    "torso": TorsoConfig(n_levels=4, log2_table_size=10, finest_resolution=32, width=16),
    "occupancy": OccupancyConfig(resolution=32, n_steps=32),
    "optim": OptimConfig(n_rays=512, n_frames=2),
    "preview_every_s": 0.0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "data", N_FRAMES)


@pytest.fixture(autouse=True)
def quick_audio(monkeypatch):
    def small(**settings):
        quick = {"lookback_s": 0.2, "features": "mel", "n_folds": 2}
        return AudioConfig(**{**quick, **settings})

    monkeypatch.setattr(train_module, "AudioConfig", small)


def config(data: Path, out: Path, **changes) -> TrainConfig:
    return TrainConfig(dataset=data, out=out, **{"steps": 20, **SMALL, **changes})


def test_learns_and_writes_a_run(data, tmp_path):
    told = []
    result = train(config(data, tmp_path, steps=180), progress=lambda done, text: told.append((done, text)))
    assert result.step == 180
    assert told[-1][0] == 1.0 and "rays/s" in told[-1][1] and "PSNR" in told[-1][1] and "left" in told[-1][1]
    log = json.loads((tmp_path / "train.json").read_text())
    assert log["step"] == 180 and log["rays_per_second"] > 0 and log["peak_memory_mb"] > 0
    meta = checkpoint.load_meta(tmp_path)
    assert meta["audio"]["config"]["lookahead_s"] == 0.2
    assert meta["conventions"]["c2w"].startswith("OpenGL")
    assert [path.suffix for path in tmp_path.glob("checkpoint-*")] == [".safetensors"]
    assert result.psnr > 13.0  # an untrained field scores 10


def test_same_seed_same_run(data, tmp_path):
    for name in "ab":
        train(config(data, tmp_path / name, steps=5))
    first, second = (checkpoint.load(tmp_path / name).tensors for name in "ab")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_resumed_run_equals_uninterrupted_one(data, tmp_path):
    train(config(data, tmp_path / "whole", steps=8))
    train(config(data, tmp_path / "parts", steps=5))
    # The learning rate follows the budget; on its plateau both runs see the same one.
    result = train(TrainConfig(dataset=data, out=tmp_path / "parts", steps=8))
    assert result.step == 8
    whole, parts = (checkpoint.load(tmp_path / name).part("model") for name in ("whole", "parts"))
    for key in whole:
        torch.testing.assert_close(parts[key], whole[key], atol=5e-3, rtol=0)


def test_finished_run_only_says_so(data, tmp_path):
    train(config(data, tmp_path, steps=3))
    assert train(config(data, tmp_path, steps=3)).step == 3


def test_ctrl_c_saves_and_says_how_to_go_on(data, tmp_path):
    pressed = []

    def press(done, text):
        if "rays/s" in text and not pressed:
            pressed.append(text)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted, match="run the same command again"):
        train(config(data, tmp_path, steps=10_000), progress=press)
    before = checkpoint.load_meta(tmp_path)["step"]
    assert before < 10_000
    assert train(config(data, tmp_path, steps=before + 2)).step == before + 2


def test_other_data_set_is_refused(data, tmp_path):
    other = write_tiny_dataset(tmp_path / "other", N_FRAMES + 10, seed=1)
    train(config(data, tmp_path / "run", steps=2))
    with pytest.raises(CheckpointError, match="was trained on another data set"):
        train(config(other, tmp_path / "run", steps=4))
    with pytest.raises(CheckpointError, match="at size 32, not 16"):
        train(config(data, tmp_path / "run", steps=4, size=16))


def test_full_disk_keeps_the_previous_checkpoint(data, tmp_path, monkeypatch):
    train(config(data, tmp_path, steps=2))
    before = checkpoint.load(tmp_path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        train(config(data, tmp_path, steps=4))
    monkeypatch.undo()
    after = checkpoint.load(tmp_path)
    assert after.meta["step"] == before.meta["step"] == 2
    assert not [path for path in tmp_path.iterdir() if ".tmp" in path.name]


def test_too_short_a_clip_is_refused(tmp_path):
    data = write_tiny_dataset(tmp_path / "short", n_frames=20)
    with pytest.raises(DatasetError, match=r"at least 30 are needed; record a longer clip"):
        train(config(data, tmp_path / "run"))


def test_held_out_pictures_are_never_read(data, tmp_path, monkeypatch):
    from nerfad.data.dataset import Dataset

    read = []
    original = Dataset.image
    monkeypatch.setattr(Dataset, "image", lambda self, i: read.append(i) or original(self, i))
    train(config(data, tmp_path, steps=2))
    assert max(read) < 0.8 * N_FRAMES


def test_streaming_preset_listens_less_far_ahead(data, tmp_path):
    train(config(data, tmp_path, steps=1, preset="streaming"))
    assert checkpoint.load_meta(tmp_path)["audio"]["config"]["lookahead_s"] == 0.12


def test_refined_poses_move_a_little(data, tmp_path):
    changes = {"optim": dataclasses.replace(SMALL["optim"], refine_poses=True)}
    train(config(data, tmp_path, steps=40, **changes))
    delta = checkpoint.load(tmp_path).tensors["model.pose_delta"].abs().amax()
    assert 1e-5 < delta < 0.05


def test_without_torso_and_with_appearance(data, tmp_path):
    changes = {
        "torso": dataclasses.replace(SMALL["torso"], enabled=False),
        "optim": dataclasses.replace(SMALL["optim"], appearance_dims=3),
    }
    train(config(data, tmp_path, steps=3, **changes))
    appearance = checkpoint.load(tmp_path).tensors["model.appearance"]
    assert appearance.shape[1] == 3 and np.isfinite(appearance.numpy()).all()
