"""The AMX code of the MLP under the address sanitizer: over emulated registers, and over the machine's."""

import shutil
import subprocess
from pathlib import Path

import pytest

from nerfad import _native

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT / "tests/cpp/matrix_tile_test.cpp", ROOT / "csrc/cpu/isa.cpp")
VECTOR_FLAGS = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16")
AMX_FLAGS = (*VECTOR_FLAGS, "-mamx-tile", "-mamx-bf16")


@pytest.mark.parametrize("registers", ["emulated", "real"])
def test_matrix_tiles_give_what_the_portable_code_gives(registers, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    if registers == "real" and _native.detected_isa() != "amx":
        pytest.skip("this machine has no AMX")
    program = tmp_path / "matrix_tile_test"
    subprocess.run(
        [
            *("g++", "-std=c++20", "-O1", "-g1", "-fsanitize=address,undefined", "-Wno-psabi"),
            *("-fno-sanitize-recover=undefined", f"-I{ROOT / 'csrc/include'}"),
            *(AMX_FLAGS if registers == "real" else ()),
            *(*map(str, SOURCES), "-o", str(program)),
        ],
        check=True,
    )
    result = subprocess.run([str(program)], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "matrix_tile_test: passed\n"), result.stderr
