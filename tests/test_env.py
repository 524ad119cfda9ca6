"""The environment report comes out whatever the machine lacks."""

import os
import subprocess
import sys

from nerfad import env


def test_report_names_python_cpu_and_kernels():
    done = subprocess.run([sys.executable, "-m", "nerfad.env"], capture_output=True, text=True, check=True)
    facts = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert facts["python"].startswith(".".join(map(str, sys.version_info[:2])))
    assert "CPU: built" in facts["kernels"]
    assert {"platform", "memory", "nvcc", "torch", "models"} <= set(facts)


def test_a_failing_probe_becomes_a_line(monkeypatch):
    def broken() -> str:
        raise OSError("no such device")

    monkeypatch.setattr(env, "_cpu", broken)
    assert "cpu: unknown (OSError: no such device)" in env.report()


def test_the_report_needs_only_the_standard_library():
    code = "import sys, nerfad.env; sys.exit(bool({'numpy', 'torch', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


def test_an_instruction_set_that_does_not_exist_is_refused():
    code = "from nerfad import ops; ops.backend()"
    environment = {**os.environ, "NERFAD_CPU_ISA": "avx1024", "NERFAD_BACKEND": "auto"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "NERFAD_CPU_ISA must be one of portable, avx2, " in done.stderr and "got 'avx1024'" in done.stderr
