"""The AMX code of the MLP over an emulated register file, under the address sanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_matrix_tiles_give_what_the_portable_code_gives(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    program = tmp_path / "matrix_tile_test"
    subprocess.run(
        [
            *("g++", "-std=c++20", "-O1", "-g1", "-fsanitize=address,undefined"),
            *("-fno-sanitize-recover=undefined", f"-I{ROOT / 'csrc/include'}"),
            *(str(ROOT / "tests/cpp/matrix_tile_test.cpp"), "-o", str(program)),
        ],
        check=True,
    )
    result = subprocess.run([str(program)], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "matrix_tile_test: passed\n"), result.stderr
