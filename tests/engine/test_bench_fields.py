"""The comparison of the two fields at equal quality, with networks of a few units on a tiny data set."""

import argparse
import importlib.util
import itertools
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from tiny_data import write_tiny_dataset
from tiny_runs import SMALL

from nerfad.config import FieldConfig, TrainConfig
from nerfad.engine import checkpoint
from nerfad.engine import train as train_module
from nerfad.engine.interrupt import TrainingInterrupted
from nerfad.models.audio_net import AudioConfig

SCRIPT = Path(__file__).parents[2] / "benchmarks/e2e/bench_fields.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_fields", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_fields"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_fields"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_dataset(tmp_path_factory.mktemp("data") / "ball")


@pytest.fixture
def small(bench, monkeypatch):
    """Small fields and encoders, and a few copies of each."""
    monkeypatch.setattr(
        train_module, "AudioConfig", lambda: AudioConfig(lookback_s=0.2, features="mel", n_folds=2)
    )
    monkeypatch.setattr(bench, "N_RUNGS", {"mlp": 2, "hashgrid": 3})

    def config_of(kind, args):
        field = {"field": FieldConfig(kind="mlp")} if kind == "mlp" else {}
        minutes = bench.budget_of(kind, args)
        return TrainConfig(args.dataset, args.runs / kind, minutes=minutes, **{**SMALL, **field})

    monkeypatch.setattr(bench, "config_of", config_of)


def arguments(bench, data, runs, **changes) -> argparse.Namespace:
    args = bench.arguments(["--dataset", str(data), "--runs", str(runs), "--frames", "2", "--size", "32"])
    vars(args).update({"minutes": 0.8 / 60, "grid_minutes": 0.8 / 60, **changes})
    return args


def test_both_fields_are_trained_scored_and_set_side_by_side(bench, data, small, tmp_path):
    args = arguments(bench, data, tmp_path)
    record = bench.measure(args)
    for kind, n_copies in bench.N_RUNGS.items():
        curve = record["curves"][kind]
        assert len(curve) == n_copies
        assert all(one["train_s"] < other["train_s"] for one, other in itertools.pairwise(curve))
        for point, rung in zip(curve, bench.rungs_of(kind, args.minutes), strict=True):
            assert point["train_s"] >= rung and point["wall_s"] > 0 and point["step"] > 0
            assert point["psnr_face"] > 3 and point["psnr"] > 3 and point["rays_per_s"] > 0
    assert all(record["without_head"][name] > 3 for name in bench.QUALITIES)
    assert record["settings"]["mlp"]["field"]["kind"] == "mlp"
    assert record["equal_quality"]["psnr"]["quality"] == record["curves"]["mlp"][-1]["psnr"]
    assert str(tmp_path) not in json.dumps(record)
    svg = bench.plot(record["curves"])
    assert svg.startswith("<svg xmlns") and svg.count('<path class="line') == 2
    assert bench.measure(args) == record  # nothing is trained or scored anew


def test_a_run_that_is_interrupted_goes_on(bench, data, small, tmp_path, monkeypatch):
    args = arguments(bench, data, tmp_path, minutes=1.2 / 60)
    stepped = bench.ClockedRun.stepped

    def interrupted(self):
        stepped(self)
        if self.trainer.n_steps == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted):
        patch.setattr(bench.ClockedRun, "stepped", interrupted)
        bench.train_field("hashgrid", args, lambda done, text: None)
    run = tmp_path / "hashgrid"
    begun = bench.clock_of(run)
    assert checkpoint.load_meta(run)["step"] == 3 and 0 < begun.train_s < args.grid_minutes * 60
    assert bench.train_field("hashgrid", args, lambda done, text: None) == run
    assert bench.clock_of(run).train_s >= args.grid_minutes * 60
    assert checkpoint.load_meta(run)["step"] > 3


def point(train_s, psnr_face, rays_per_s=100.0):
    return {"train_s": train_s, "wall_s": 2 * train_s, "psnr_face": psnr_face, "rays_per_s": rays_per_s}


def test_times_are_compared_where_the_grid_first_scores_as_high(bench):
    grid = [point(1.0, 10.0), point(2.0, 15.0), point(4.0, 14.0), point(8.0, 20.0, 5000.0)]
    found = bench.equal_quality(point(80.0, 15.0, 10.0), grid, "psnr_face", 2.0)
    assert (found["hashgrid_s"], found["missed_s"], found["speed_up"]) == (2.0, 1.0, 40.0)
    assert found["drawing_speed_up"] == 10.0 and found["wall_speed_up"] == 40.0
    assert bench.equal_quality(point(80.0, 5.0), grid, "psnr_face", 1.0)["missed_s"] is None
    never = bench.equal_quality(point(80.0, 25.0), grid, "psnr_face", 2.0)
    assert never["hashgrid_s"] is None and never["speed_up"] is None
    nothing_learnt = bench.equal_quality(point(80.0, 15.0), grid, "psnr_face", 12.5)
    assert nothing_learnt["quality"] == 15.0 and nothing_learnt["speed_up"] is None
