"""make gpu-check: what it does without a GPU, with steps that fail, and the JSON it puts together."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu_json  # noqa: E402


def run(tmp_path, python, **environment):
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks/gpu_check.sh")],
        env={**os.environ, "PYTHON": str(python), "RESULTS": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return (
        done.returncode,
        json.loads((tmp_path / "gpu.json").read_text()),
        (tmp_path / "gpu.log").read_text(),
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_checks_nothing(tmp_path):
    code, report, log = run(tmp_path, sys.executable)
    assert code == 3 and "no CUDA device that this torch can use" in log
    assert [s["name"] for s in report["steps"]] == ["environment", "CUDA tests"]
    assert report["steps"][0]["exit_code"] == 0 and "skipped" in report["steps"][1]
    assert report["benchmark"] is None and report["device"]["torch"] == torch.__version__


# Stands for a Python on a GPU machine: says that there is a device, fails the tests, writes a benchmark.
PRETENDER = """#!/usr/bin/env bash
case "$*" in
  *gpu_json*) exec PYTHON "$@" ;;
  *build_ext*) [ "$NERFAD_CUDA" = 1 ] ;;
  *cuda.is_available*|*find_spec*|*nerfad.env*) exit 0 ;;
  *pytest*) echo "1 failed"; exit 1 ;;
  *nerfad.bench*) echo '{"groups": [1]}' >"${@: -1}" ;;
  *) exit 64 ;;
esac
"""


def test_a_step_that_fails_does_not_stop_the_others(tmp_path):
    python = tmp_path / "python"
    python.write_text(PRETENDER.replace("PYTHON", sys.executable))
    python.chmod(0o755)
    code, report, log = run(tmp_path, python, PATH="/usr/bin:/bin")
    assert code == 1 and "1 failed" in log
    steps = {s["name"]: s for s in report["steps"]}
    assert steps["build"]["exit_code"] == 0 and steps["CUDA tests"]["exit_code"] == 1
    assert steps["benchmark"]["exit_code"] == 0
    assert report["benchmark"] == {"groups": [1]}


def test_half_a_benchmark_file_is_none(tmp_path):
    (tmp_path / "steps").write_text("environment\t0\t2\nbenchmark\t124\t1500\n")
    (tmp_path / "benchmark.json").write_text('{"groups": [')
    report = gpu_json.assemble(tmp_path / "steps", tmp_path / "benchmark.json")
    assert report["benchmark"] is None
    assert report["steps"][1] == {"name": "benchmark", "exit_code": 124, "seconds": 1500}
