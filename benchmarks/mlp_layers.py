"""How near the networks' vector kernels come to the multiply-add peak; what keeping hidden layers would save.

    python benchmarks/mlp_layers.py [--threads N] [--json FILE]

Compiles benchmarks/cpp/mlp_layers.cpp, the kernels of csrc/cpu without torch, for AVX2 and AVX-512 where this
machine has them, and prints each layer's share of the peak and whole passes in nanoseconds a sample.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

from nerfad import _native
from nerfad.bench.results import provenance

TILES = 1140  # of 48 samples: about the training batch of the bench head
ROOT = Path(__file__).parents[1]
ISAS = ("avx2", "avx512")


def flags(isa: str) -> list[str]:
    """The compiler's, as the build has them."""
    found = re.search(rf"^set\({isa}_flags (.*)\)$", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
    assert found
    return found[1].split()


def measured(isa: str, threads: int, folder: Path, tiles: int = TILES) -> dict:
    """The figures of one instruction set."""
    program, source = folder / isa, ROOT / "benchmarks/cpp/mlp_layers.cpp"
    includes = [f"-I{ROOT / 'csrc/cpu'}", f"-I{ROOT / 'csrc/include'}"]
    compiler = os.environ.get("CXX", "c++")
    options = ["-std=c++17", "-O3", "-fno-math-errno", "-pthread", *flags(isa), *includes]
    subprocess.run([compiler, *options, str(source), "-o", str(program)], check=True)
    return json.loads(
        subprocess.run([program, str(threads), str(tiles)], check=True, capture_output=True).stdout
    )


def table(isa: str, figures: dict) -> str:
    """One instruction set's figures to read."""
    lines = [
        f"{isa}: peak {figures['peak_gflops']} GFLOP/s; share of it",
        "layer     forward  input  weights",
    ]
    for layer in figures["layers"]:
        shares = (f"{layer[k]:7.0%}" for k in ("forward", "input_grad", "weight_grad"))
        lines.append(f"{layer['in']:2} → {layer['out']:2}   {' '.join(shares)}")
    lines += [f"{name}: {ns:.0f} ns a sample" for name, ns in figures["ns_per_sample"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    here = _native.ISAS.index(_native.detected_isa())
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for isa in (isa for isa in ISAS if _native.ISAS.index(isa) <= here):
            results[isa] = measured(isa, args.threads, Path(folder))
            print(table(isa, results[isa]), flush=True)
    if args.json:
        command = f"python benchmarks/mlp_layers.py --threads {args.threads} --json {args.json.name}"
        record = provenance("cpu", []) | {"command": command, "threads": args.threads, "isa": results}
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
