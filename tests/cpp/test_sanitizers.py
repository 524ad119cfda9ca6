"""The SIMT emulator under sanitizers: a bug planted in a kernel is found, a right kernel is not accused."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-fsanitize=thread"],
}


def cuda_include() -> Path | None:
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    return next((p for h in homes if h and (p := Path(h) / "include" / "cuda_runtime.h").is_file()), None)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Builds simt_test with a sanitizer, once each."""
    header = cuda_include()
    if header is None or shutil.which("g++") is None:
        pytest.skip("needs g++ and the CUDA headers")
    built: dict[str, Path] = {}

    def get(sanitizer: str) -> Path:
        if sanitizer not in built:
            program = tmp_path_factory.mktemp("simt") / sanitizer
            includes = [f"-I{ROOT / 'csrc' / name}" for name in ("include", "cuda", "emu")]
            source = ROOT / "tests/cpp/simt_test.cpp"
            subprocess.run(
                [
                    *("g++", "-std=c++20", "-O1", "-g1", "-DNERFAD_EMULATED", *FLAGS[sanitizer], *includes),
                    *("-isystem", str(header.parent), str(source), "-o", str(program), "-lpthread"),
                ],
                check=True,
            )
            built[sanitizer] = program
        return built[sanitizer]

    return get


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess:
    # A fixed mapping: the thread sanitizer's own memory layout fails under some kernels' randomisation.
    command = [str(program), *arguments]
    if shutil.which("setarch"):
        command = ["setarch", "-R", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("sanitizer", "bug", "finding"),
    [
        ("address", "shared_overrun", "heap-buffer-overflow"),
        ("address", "global_overrun", "heap-buffer-overflow"),
        ("address", "misaligned", "misaligned address"),
        ("thread", "missing_syncthreads", "data race"),
        ("thread", "missing_syncwarp", "data race"),
    ],
)
def test_planted_bug_is_found(build, sanitizer, bug, finding):
    result = run(build(sanitizer), "--plant", bug)
    assert result.returncode != 0
    assert finding in result.stderr


@pytest.mark.parametrize("sanitizer", FLAGS)
def test_right_kernel_is_not_accused(build, sanitizer):
    result = run(build(sanitizer), "--plant", "none")
    assert (result.returncode, result.stderr) == (0, "")


def test_emulator_gives_what_cuda_gives(build):
    result = run(build("address"))
    assert (result.returncode, result.stdout) == (0, "simt_test: passed\n"), result.stderr
