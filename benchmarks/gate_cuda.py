"""Compiles every CUDA kernel for every architecture we ship, without a GPU, and looks at what came out.

    python benchmarks/gate_cuda.py [--archs 80,90a] [FILE.cu ...]

Prints registers, shared memory and spills of each kernel. Fails where a file does not compile, where a
kernel spills more than SPILL_ALLOWANCE bytes, and where a kernel lacks instructions that REQUIRED lists. The
last needs `pip install --no-deps nvidia-cuda-cuobjdump==13.2.86 nvidia-cuda-nvdisasm==13.2.86` and says so
where they are missing. Without nvcc it ends well with one sentence.
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


@dataclass(frozen=True)
class Required:
    """At least `count` instructions of a kind in every kernel with `kernel` in its name."""

    kernel: str
    instruction: str  # as SASS names it
    count: int
    since: int = 80  # the first architecture that has the instruction


HMMA = "HMMA"
WIDE_LOAD = "LDG.E.128.CONSTANT"  # 16 bytes at once, of memory that does not change

REQUIRED = (
    Required("mlp_fwd_mma_kernel", HMMA, 1),
    Required("mlp_bwd_mma_kernel", HMMA, 1),
    Required("render_mma_kernel", HMMA, 1),
    Required("field_fwd_mma_kernel", HMMA, 1),
    # A cell of an expanded level has 8 corners of 2 features: 64 bytes of float32, 32 bytes of float16. Their
    # entries in the table have 8 and 4 bytes: no other load of these kernels is as wide.
    Required("grid_encode_fwd_kernel<float, 3, 2>", WIDE_LOAD, 4),
    Required("grid_encode_fwd_kernel<Half, 3, 2>", WIDE_LOAD, 2),
    # For tables of all widths and types: cells take 60 loads, entries of 16 and 32 bytes 40.
    Required("render_mma_kernel<4, MarchedRay>", WIDE_LOAD, 60 + 40),
    Required("grid_encode_bwd_table_kernel<3, 2>", "REDG.E.ADD.F32x2", 1, since=90),
    Required("grid_encode_bwd_table_kernel<3, 4>", "REDG.E.ADD.F32x4", 1, since=90),
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


def read_sass(cuobjdump: str, cubin: Path) -> dict[str, str]:
    """Kernel name -> its instructions."""
    sass = subprocess.run([cuobjdump, "-sass", str(cubin)], capture_output=True, text=True, check=True).stdout
    functions = (part.partition("\n") for part in re.split(r"\n\s*Function : ", sass)[1:])
    return {short_name(demangle(mangled.strip()).strip()): body for mangled, _, body in functions}


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
        f"no kernel is named {required.kernel}, which REQUIRED lists"
        for required in REQUIRED
        if not any(required.kernel in k.name for k in kernels)
    ]


def missing_instructions(kernels: dict[str, str], cubin: Path) -> list[str]:
    """Prints what REQUIRED asks about; returns what is wrong."""
    problems = []
    arch = int(re.sub(r"\D", "", cubin.suffixes[0]))
    for required in REQUIRED:
        for name, body in kernels.items():
            if required.kernel not in name or arch < required.since:
                continue
            what = required.instruction
            n = len(re.findall(rf"\b{re.escape(what)}\b", body))
            print(f"{cubin.suffixes[0][1:]:8} {name}: {n} {what}")
            if n < required.count:
                problems.append(f"{name} holds {n} {what} in {cubin.name}, fewer than {required.count}")
    return problems


def check_instructions(cubins: list[Path]) -> list[str]:
    cuobjdump = find_tool("cuobjdump")
    if cuobjdump is None:
        print("instructions not checked: cuobjdump and nvdisasm are missing (see --help)")
        return []
    return [p for cubin in cubins for p in missing_instructions(read_sass(cuobjdump, cubin), cubin)]


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
        problems += check_instructions([cubin for error, _, cubin in compiled if not error])
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
