"""`python -m nerfad.env`: what this machine has, for bug reports. Standard library only, and never raises."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

PACKAGES = (
    "nerfad",
    "torch",
    "numpy",
    "safetensors",
    "av",
    "opencv-python-headless",
    "rich",
    "tyro",
    "scipy",
    "ai-edge-litert",
    "mediapipe",
    "tensorboard",
    "flip-evaluator",
    "tinycudann",
    "nerfacc",
)
VARIABLES = (
    "NERFAD_BACKEND",
    "NERFAD_CPU_ISA",
    "NERFAD_CPU_GATHER",
    "NERFAD_MODELS",
    "NERFAD_CUDA_LIBRARY",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
)
MODELS = ("face_landmarker.task", "selfie_segmentation.tflite")


def _attempt(read: Callable[[], str]) -> str:
    try:
        return read()
    except Exception as error:  # an environment report must come out on any machine, broken ones above all
        return f"unknown ({type(error).__name__}: {error})"


def _output(*command: str, line: int = -1) -> str:
    """One line of what a program prints."""
    program = shutil.which(command[0])
    if program is None:
        return "not found"
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=60, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[line] if lines else f"exit code {done.returncode}"


def _cpu() -> str:
    text = Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields.get("flags", "").split()
    wanted = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")
    name = fields.get("model name", platform.processor())
    return f"{name}, {os.cpu_count()} cores, {' '.join(f for f in wanted if f in flags) or 'no AVX2'}"


def _memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{total / 2**30:.1f} GiB"


def _gpus() -> str:
    return _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")


def _package(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _kernels() -> str:
    folder = Path(__file__).parent
    built = {
        "CPU": (folder / "_C.so").is_file(),
        "CUDA": (folder / "libnerfad_cuda.so").is_file(),
        "emulated CUDA (tests)": (folder / "libnerfad_emu.so").is_file(),
        "torch-free runtime": any(folder.glob("_runtime*.so")),
    }
    return ", ".join(f"{name}: {'built' if ok else 'not built'}" for name, ok in built.items())


def _kernels_in_use() -> str:
    code = "from nerfad import _native; print(_native.isa() + '; CUDA kernels ' + _native.cuda_status())"
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    return _output(sys.executable, "-c", code)


def _models() -> str:
    folders = [os.environ.get("NERFAD_MODELS"), str(Path.home() / ".cache" / "nerfad" / "models")]
    found = []
    for name in MODELS:
        there = any(folder and (Path(folder) / name).is_file() for folder in folders)
        found.append(f"{name}: {'found' if there else 'missing, run `nerfad models fetch`'}")
    return ", ".join(found)


def report() -> str:
    """The whole report as text: one `name: value` line per fact."""
    facts: dict[str, Callable[[], str]] = {
        "python": lambda: f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform,
        "cpu": _cpu,
        "memory": _memory,
        "gpu": _gpus,
        "compiler": lambda: _output("c++", "--version", line=0),
        "cmake": lambda: _output("cmake", "--version", line=0),
        "nvcc": lambda: _output("nvcc", "--version"),
        "kernels": _kernels,
        "kernels in use": _kernels_in_use,
        "models": _models,
    }
    lines = [f"{name}: {_attempt(read)}" for name, read in facts.items()]
    lines += [f"{name}: {_attempt(partial(_package, name))}" for name in PACKAGES]
    lines += [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
