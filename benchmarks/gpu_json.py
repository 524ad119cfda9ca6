"""Puts together what `gpu_check.sh` found: how each step ended, the environment, and the benchmark's results.

python benchmarks/gpu_json.py STEPS BENCHMARK.json OUT.json
"""

import importlib
import json
import platform
import sys
from pathlib import Path
from typing import Any


def read_steps(text: str) -> list[dict[str, Any]]:
    """Lines `name TAB exit code TAB seconds`, or `name TAB skipped TAB reason`."""
    steps: list[dict[str, Any]] = []
    for line in text.splitlines():
        name, outcome, detail = line.split("\t")
        if outcome == "skipped":
            steps.append({"name": name, "skipped": detail})
        else:
            steps.append({"name": name, "exit_code": int(outcome), "seconds": int(detail)})
    return steps


def device() -> dict[str, Any]:
    """The machine and its GPU, as far as this Python can tell."""
    found: dict[str, Any] = {"machine": platform.machine(), "python": platform.python_version()}
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return found
    found.update(torch=torch.__version__, cuda=torch.version.cuda)
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found.update(
            gpu=properties.name,
            compute_capability=f"{properties.major}.{properties.minor}",
            multiprocessors=properties.multi_processor_count,
            memory_bytes=properties.total_memory,
        )
    return found


def assemble(steps: Path, benchmark: Path) -> dict[str, Any]:
    """The whole report; a benchmark that wrote nothing, or half a file, is null."""
    try:
        results = json.loads(benchmark.read_text())
    except (OSError, ValueError):
        results = None
    ran = read_steps(steps.read_text()) if steps.is_file() else []
    return {"device": device(), "steps": ran, "benchmark": results}


if __name__ == "__main__":
    out = Path(sys.argv[3])
    text = json.dumps(assemble(Path(sys.argv[1]), Path(sys.argv[2])), indent=1)
    partial = out.with_suffix(".part")
    partial.write_text(text + "\n")
    partial.replace(out)
    print(f"wrote {out}")
