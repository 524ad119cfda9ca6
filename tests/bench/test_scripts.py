"""The scripts in benchmarks/ that measure single questions: that they run, and what they find adds up."""

import collections
import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from nerfad import _native
from nerfad.bench.batch import colors_in_one_pass, training_batch
from nerfad.bench.ray_groups import TrainStep

FOLDER = Path(__file__).parents[2] / "benchmarks"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_every_layer_has_its_shares_of_the_peak(tmp_path):
    if _native.ISAS.index(_native.detected_isa()) < _native.ISAS.index("avx2"):
        pytest.skip("the machine has no AVX2")
    layers = script("mlp_layers")
    figures = layers.measured("avx2", 2, tmp_path, tiles=3)
    assert len(figures["layers"]) == 7 and len(figures["ns_per_sample"]) == 4
    for layer in figures["layers"]:
        for kind in ("forward", "input_grad", "weight_grad"):
            assert layer[kind] > 0
    assert "64 → 64" in layers.table("avx2", figures)


def test_the_stages_are_those_of_a_training_step():
    stages = script("train_step_stages")
    b = training_batch("cpu", n_rays=64)
    by_stages, whole = (TrainStep(b, colors_in_one_pass, native=True) for _ in range(2))
    times: dict[str, list[float]] = collections.defaultdict(list)
    for _ in range(2):
        stages.run_stages(by_stages, times)
        whole()
    assert len(times) == 7 and [len(t) for t in times.values()] == [2] * 7
    for mine, theirs in zip(by_stages.b.leaves(), whole.b.leaves(), strict=True):
        assert mine.equal(theirs)
