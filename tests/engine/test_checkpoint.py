"""Checkpoints: a pair of files that is whole or refused."""

import json

import pytest
import torch

from nerfad.engine import checkpoint
from nerfad.errors import CheckpointError


def saved(run, step=1):
    checkpoint.save(run, {"step": step}, {"model.a": torch.arange(3.0), "optim.m": torch.zeros(2)})


def test_round_trip_and_parts(tmp_path):
    saved(tmp_path)
    loaded = checkpoint.load(tmp_path)
    assert loaded.meta["step"] == 1 and loaded.meta["format"] == checkpoint.FORMAT
    assert set(loaded.part("model")) == {"a"}
    assert torch.equal(loaded.part("model")["a"], torch.arange(3.0))


def test_newer_replaces_older(tmp_path):
    for step in (1, 2, 2):
        saved(tmp_path, step)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert checkpoint.load(tmp_path).meta["step"] == 2


def test_interrupted_between_the_files_keeps_the_old_pair(tmp_path, monkeypatch):
    saved(tmp_path, 1)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.json, "dump", interrupted)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path, 2)
    monkeypatch.undo()
    assert checkpoint.load(tmp_path).meta["step"] == 1


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda run: (run / "checkpoint.json").unlink(), "holds no checkpoint; make one with"),
        (lambda run: (run / "checkpoint.json").write_text("{"), "is damaged; train again"),
        (lambda run: (run / "checkpoint.json").write_text("[]"), "is not a checkpoint of nerfad"),
        (lambda run: (run / "checkpoint-00000001.safetensors").unlink(), "is missing or damaged"),
        (lambda run: (run / "checkpoint-00000001.safetensors").write_bytes(b"PK"), "is missing or damaged"),
    ],
)
def test_a_damaged_run_ends_in_one_sentence(tmp_path, spoil, sentence):
    saved(tmp_path)
    spoil(tmp_path)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        checkpoint.load(tmp_path)
    assert str(caught.value).count("\n") == 0


def test_a_newer_format_is_refused(tmp_path):
    saved(tmp_path)
    path = tmp_path / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(CheckpointError, match="newer nerfad"):
        checkpoint.load(tmp_path)


def test_a_model_laid_out_otherwise_is_one_sentence(tmp_path):
    saved(tmp_path)
    with pytest.raises(CheckpointError, match="laid out by nerfad another version"):
        checkpoint.load(tmp_path).restore(torch.nn.Linear(2, 2), "model")
