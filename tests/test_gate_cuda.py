"""The gate over the compiled CUDA kernels reads what ptxas prints."""

import importlib.util
import sys
from pathlib import Path

import pytest

GATE = Path(__file__).resolve().parents[1] / "benchmarks/gate_cuda.py"

LOG = """ptxas info    : 0 bytes gmem
ptxas info : Compiling entry function 'void nerfad::(anonymous namespace)::fold<64, (bool)1>(P)' for 'sm_80'
ptxas info    : Function properties for fold
    304 bytes stack frame, 144 bytes spill stores, 152 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 512 bytes smem, 400 bytes cmem[0]
ptxas info    : Compiling entry function 'nerfad::march_kernel(nerfad::MarchCount)' for 'sm_80'
ptxas info    : Function properties for march_kernel
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, 384 bytes cmem[0]
"""


@pytest.fixture(scope="module")
def gate():
    spec = importlib.util.spec_from_file_location("gate_cuda", GATE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate_cuda"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gate_cuda"]


def test_reads_registers_shared_memory_and_spills(gate):
    spilling, clean = gate.read_ptxas(LOG, "a.cu", "80")
    assert spilling == gate.Kernel("a.cu", "fold<64, (bool)1>", "80", 128, 512, 296)
    assert clean == gate.Kernel("a.cu", "march_kernel", "80", 40, 0, 0)


def test_spills_beyond_the_allowance_are_problems(gate, capsys):
    problems = gate.report(gate.read_ptxas(LOG, "a.cu", "80"))
    assert problems == ["fold<64, (bool)1> spills 296 bytes on sm_80 (allowed: 128)"]
    assert "spills 296 B (sm_80)" in capsys.readouterr().out


def test_a_listed_kernel_that_is_gone_is_a_problem(gate):
    assert len(gate.missing_kernels(gate.read_ptxas(LOG, "a.cu", "80"))) == len(gate.REQUIRED)


def test_required_instructions_are_counted(gate, capsys):
    load, cubin = "/*0070*/ LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;\n", Path("a.sm_90a.cubin")
    narrow = "/*0070*/ LDG.E.64.CONSTANT R4, desc[UR4][R2.64] ;\n"
    kernels = {"grid_encode_fwd_kernel<float, 3, 2>": 4 * load, "other_kernel": ""}
    assert gate.missing_instructions(kernels, cubin) == []
    kernels["grid_encode_fwd_kernel<float, 3, 2>"] = 3 * load + 8 * narrow
    assert gate.missing_instructions(kernels, cubin) == [
        "grid_encode_fwd_kernel<float, 3, 2> holds 3 LDG.E.128.CONSTANT in a.sm_90a.cubin, fewer than 4"
    ]
    assert "sm_90a   grid_encode_fwd_kernel<float, 3, 2>: 3 LDG" in capsys.readouterr().out


def test_instructions_are_required_of_architectures_that_have_them(gate):
    kernels = {"grid_encode_bwd_table_kernel<3, 2>": "REDG.E.ADD.F32.FTZ.RN.STRONG.GPU [R2], R5 ;"}
    assert gate.missing_instructions(kernels, Path("a.sm_89.cubin")) == []
    assert len(gate.missing_instructions(kernels, Path("a.sm_90a.cubin"))) == 1


def test_without_nvcc_it_says_so_and_ends_well(gate, monkeypatch, capsys):
    monkeypatch.setattr(gate, "find_tool", lambda name: None)
    monkeypatch.setattr("sys.argv", ["gate_cuda.py"])
    assert gate.main() == 0
    assert "skipped, there is no nvcc" in capsys.readouterr().out
