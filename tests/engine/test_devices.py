"""Nothing of a training step or a rendering takes the CPU for granted.

Tensors that are made without naming a device land on torch's default one. With "meta" as the default, every
such tensor meets a real one sooner or later and raises, which is what a CUDA device would do, too.
"""

import time
from collections.abc import Iterator

import numpy as np
import pytest
import tiny_runs
import torch
from test_field_forms import FORMS
from test_train import config, data, quick_audio  # noqa: F401

from nerfad.data.dataset import load_dataset
from nerfad.engine import trainer as trainer_module
from nerfad.engine.devices import checked_device
from nerfad.engine.render import Avatar
from nerfad.engine.sampling import FrameStore
from nerfad.engine.train import TrainingRun, train
from nerfad.errors import BackendError


@pytest.fixture
def meta_by_default() -> Iterator[None]:
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def test_the_trap_springs(meta_by_default):
    with pytest.raises((RuntimeError, NotImplementedError)):
        (torch.zeros(3) + torch.ones(3, device="cpu")).tolist()


@pytest.mark.parametrize("learnt", [False, True])
def test_a_step_stays_on_its_device(data, tmp_path, monkeypatch, request, learnt):  # noqa: F811
    for name, value in {"FIRST_UPDATE_STEP": 4, "EARLY_UPDATE_EVERY": 4, "PRUNE_FROM_STEP": 6}.items():
        monkeypatch.setattr(trainer_module, name, value)
    dataset = load_dataset(data)
    if learnt:
        dataset.aus = None
    run = TrainingRun(config(data, tmp_path), dataset, None, None, time.perf_counter())
    request.getfixturevalue("meta_by_default")
    store = FrameStore(dataset, run.frames)
    assert store.rectangles.device.type == "cpu"
    for _ in range(9):
        figures = run.trainer.step(0.1)
    assert np.isfinite(list(figures.values())).all()
    run.preview()


@pytest.mark.parametrize("form", ["baked", "point", "hearing", "mlp", "mlp baked", "mlp point", "silent"])
def test_every_form_stays_on_its_device(data, tmp_path, monkeypatch, request, form):  # noqa: F811
    for name, value in {"FIRST_UPDATE_STEP": 2, "EARLY_UPDATE_EVERY": 2, "PRUNE_FROM_STEP": 3}.items():
        monkeypatch.setattr(trainer_module, name, value)
    settings = tiny_runs.config(data, tmp_path, **FORMS[form])
    run = TrainingRun(settings, load_dataset(data), None, None, time.perf_counter())
    run.save()
    avatar = Avatar.load(tmp_path)
    request.getfixturevalue("meta_by_default")
    for _ in range(4):
        figures = run.trainer.step(0.1)
    assert np.isfinite(list(figures.values())).all()
    run.preview()
    condition = np.zeros(avatar.model.n_codes, np.float32)
    assert avatar.render(avatar.c2w[0], condition, avatar.body[0]).image.shape == (32, 32, 3)


def test_a_rendering_stays_on_its_device(data, tmp_path, request):  # noqa: F811
    train(config(data, tmp_path, steps=3))
    avatar = Avatar.load(tmp_path)
    request.getfixturevalue("meta_by_default")
    condition = np.zeros(avatar.model.n_codes, np.float32)
    frame = avatar.render(avatar.c2w[0], condition, avatar.body[0], size=40)
    assert frame.image.shape == (40, 40, 3)
    torso = np.zeros((32, 32, 4), np.uint8)
    assert avatar.render(avatar.c2w[0], condition, torso=torso).depth.shape == (32, 32)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("gpu", "is no device; use cpu, cuda"), ("mps", "kernels for cpu and cuda only")],
)
def test_other_devices_are_refused(name, sentence):
    with pytest.raises(BackendError, match=sentence):
        checked_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_named(data, tmp_path):  # noqa: F811
    with pytest.raises(BackendError, match="sees no CUDA device; use --device cpu"):
        train(config(data, tmp_path, device="cuda"))
    assert not list(tmp_path.iterdir())


@pytest.mark.cuda
@pytest.mark.parametrize("form", ["baked", "point", "mlp", "mlp baked"])
def test_every_form_trains_and_draws_on_a_gpu(data, tmp_path, form):  # noqa: F811
    train(tiny_runs.config(data, tmp_path, steps=20, device="cuda", **FORMS[form]))
    on_gpu, on_cpu = (Avatar.load(tmp_path, device) for device in ("cuda", "cpu"))
    condition = np.zeros(on_gpu.model.n_codes, np.float32)
    pictures = [a.render(a.c2w[0], condition, a.body[0]).image.astype(int) for a in (on_gpu, on_cpu)]
    assert np.abs(pictures[0] - pictures[1]).mean() < 2.0


@pytest.mark.cuda
def test_trains_and_draws_on_a_gpu(data, tmp_path):  # noqa: F811
    result = train(config(data, tmp_path, steps=180, device="cuda"))
    assert result.psnr > 13.0
    on_gpu, on_cpu = (Avatar.load(tmp_path, device) for device in ("cuda", "cpu"))
    condition = np.zeros(on_gpu.model.n_codes, np.float32)
    pictures = [a.render(a.c2w[0], condition, a.body[0]).image.astype(int) for a in (on_gpu, on_cpu)]
    assert np.abs(pictures[0] - pictures[1]).mean() < 2.0
