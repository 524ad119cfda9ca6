"""Compiles every CUDA kernel for every architecture we ship, without a GPU, and looks at what came out.

    python benchmarks/gate_cuda.py [--archs 80,90a] [FILE.cu ...]

Prints registers, shared memory and spills of each kernel. Fails where a file does not compile, where a
kernel spills more than SPILL_ALLOWANCE bytes, and where a kernel named in TENSOR_CORE_KERNELS holds no HMMA.
The last needs `pip install --no-deps nvidia-cuda-cuobjdump==13.2.86 nvidia-cuda-nvdisasm==13.2.86` and says
so where they are missing. Without nvcc it ends well with one sentence.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARCHS = ("80", "86", "89", "90a", "100", "120")
SPILL_ALLOWANCE = 128  # bytes stored and loaded per thread: a few registers saved outside of the inner loops

# Kernels (by a part of their name) that must run on tensor cores.
TENSOR_CORE_KERNELS = (
    "mlp_fwd_mma_kernel",
    "mlp_bwd_mma_kernel",
    "render_mma_kernel",
    "field_fwd_mma_kernel",
)


@dataclass(frozen=True)
class Kernel:
    file: str
    name: str
    arch: str
    registers: int
    shared_bytes: int
    spill_bytes: int


def find_tool(name: str) -> str | None:
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    site = Path(sysconfig.get_path("platlib"))
    candidates = [
        *(Path(h) / "bin" / name for h in homes if h),
        site / "nvidia" / "cu13" / "bin" / name,
        site / "nvidia" / "cuda_cuobjdump" / "bin" / name,
    ]
    if name == "nvcc" and os.environ.get("CUDACXX"):
        return os.environ["CUDACXX"]
    return shutil.which(name) or next((str(c) for c in candidates if os.access(c, os.X_OK)), None)


def demangle(text: str) -> str:
    if shutil.which("c++filt") is None:
        return text
    return subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout


def short_name(signature: str) -> str:
    """`void nerfad::mlp_kernel<64, true>(Params)` becomes `mlp_kernel<64, true>`."""
    signature = signature.removeprefix("void ")
    depth, end = 0, len(signature)
    for i, c in enumerate(signature):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0 and not signature.startswith("(anonymous", i):
            end = i
            break
    return re.sub(r"\b(nerfad|std)::|\(anonymous namespace\)::", "", signature[:end])


def read_ptxas(log: str, file: str, arch: str) -> list[Kernel]:
    """The kernels in what `ptxas -v` printed."""
    kernels = []
    for part in re.split(r"Compiling entry function '", demangle(log))[1:]:
        signature, _, rest = part.partition("' for")

        def number(pattern: str, text: str = rest) -> int:
            found = re.search(pattern, text)
            return int(found[1]) if found else 0

        spill = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
        registers, shared = number(r"Used (\d+) registers"), number(r"(\d+) bytes smem")
        kernels.append(Kernel(file, short_name(signature), arch, registers, shared, spill))
    return kernels


def count_hmma(cuobjdump: str, cubin: Path) -> dict[str, int]:
    """Kernel name -> HMMA instructions."""
    sass = subprocess.run([cuobjdump, "-sass", str(cubin)], capture_output=True, text=True, check=True).stdout
    counts = {}
    for function in re.split(r"\n\s*Function : ", sass)[1:]:
        mangled, _, body = function.partition("\n")
        counts[short_name(demangle(mangled.strip()).strip())] = len(re.findall(r"\bHMMA\b", body))
    return counts


def compile_one(nvcc: str, source: Path, arch: str, folder: Path) -> tuple[str | None, list[Kernel], Path]:
    """(error, kernels, cubin)"""
    cubin = folder / f"{source.stem}.sm_{arch}.cubin"
    flags = ["-O3", "-std=c++17", f"-I{ROOT / 'csrc/include'}", f"-I{ROOT / 'csrc/cuda'}", f"-arch=sm_{arch}"]
    done = subprocess.run(
        [nvcc, *flags, "-cubin", "-Xptxas", "-v", str(source), "-o", str(cubin)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return f"{source.name} does not compile for sm_{arch}:\n{done.stderr}", [], cubin
    return None, read_ptxas(done.stderr, source.name, arch), cubin


def report(kernels: list[Kernel]) -> list[str]:
    """Prints a row per kernel, registers by architecture; returns what is wrong."""
    problems = []
    archs = list(dict.fromkeys(k.arch for k in kernels))
    print(f"{'kernel':60} {'smem':>6}  registers for sm_{', sm_'.join(archs)}")
    for file, name in dict.fromkeys((k.file, k.name) for k in kernels):
        rows = [k for k in kernels if (k.file, k.name) == (file, name)]
        registers = " ".join(f"{k.registers:>3}" for k in rows)
        spilling = [k for k in rows if k.spill_bytes]
        note = (
            "  spills " + ", ".join(f"{k.spill_bytes} B (sm_{k.arch})" for k in spilling) if spilling else ""
        )
        print(f"{name:60} {rows[0].shared_bytes:>6}  {registers}{note}")
        problems += [
            f"{k.name} spills {k.spill_bytes} bytes on sm_{k.arch} (allowed: {SPILL_ALLOWANCE})"
            for k in spilling
            if k.spill_bytes > SPILL_ALLOWANCE
        ]
    return problems


def missing_kernels(kernels: list[Kernel]) -> list[str]:
    return [
        f"no kernel is named {part}, which TENSOR_CORE_KERNELS lists"
        for part in TENSOR_CORE_KERNELS
        if not any(part in k.name for k in kernels)
    ]


def check_tensor_cores(cubins: list[Path]) -> list[str]:
    problems: list[str] = []
    cuobjdump = find_tool("cuobjdump")
    if cuobjdump is None:
        print("tensor cores not checked: cuobjdump and nvdisasm are missing (see --help)")
        return problems
    for cubin in cubins:
        for name, n in count_hmma(cuobjdump, cubin).items():
            if any(part in name for part in TENSOR_CORE_KERNELS):
                print(f"{cubin.suffixes[0][1:]:8} {name}: {n} HMMA")
                if n == 0:
                    problems.append(f"{name} holds no HMMA instruction in {cubin.name}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="CUDA sources (default: all of csrc/cuda)")
    parser.add_argument("--archs", default=",".join(ARCHS), help="comma-separated, without sm_")
    arguments = parser.parse_args()
    nvcc = find_tool("nvcc")
    if nvcc is None:
        print("gate_cuda: skipped, there is no nvcc (set CUDACXX or CUDA_HOME)")
        return 0
    sources = arguments.files or sorted((ROOT / "csrc/cuda").glob("*.cu"))
    jobs = [(source, arch) for source in sources for arch in arguments.archs.split(",")]
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = list(pool.map(lambda job: compile_one(nvcc, *job, Path(folder)), jobs))
        kernels = [kernel for _, found, _ in compiled for kernel in found]
        problems += [error for error, _, _ in compiled if error]
        problems += report(kernels)
        problems += check_tensor_cores([cubin for error, _, cubin in compiled if not error])
        if not arguments.files:
            problems += missing_kernels(kernels)
    for problem in problems:
        print(f"gate_cuda: {problem}", file=sys.stderr)
    if not problems:
        print(
            f"gate_cuda: {len({(k.file, k.name) for k in kernels})} kernels in {len(sources)} files, all well"
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
