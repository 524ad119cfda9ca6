"""A table of a pytest-benchmark JSON: median of each contender, and kernels against plain torch.

    python benchmarks/summarise.py benchmarks/results/ops-cpu.json

Pairs are tests that differ in the backend alone; the ratio is reference over native.
"""

import json
import re
import sys
from pathlib import Path


def main(path: str) -> None:
    data = json.loads(Path(path).read_text())
    machine, commit = data["machine_info"], data["commit_info"]
    print(f"{machine['cpu'].get('brand_raw', machine['processor'])}, commit {commit['id'][:7]}")
    medians = {f"{b['group']} {b['name']}": b["stats"]["median"] for b in data["benchmarks"]}
    for name, seconds in medians.items():
        other = re.sub(r"\bnative\b", "reference", name)
        ratio = f"{medians[other] / seconds:8.1f}x" if other != name and other in medians else ""
        print(f"{name:60} {1e3 * seconds:10.3f} ms {ratio}")


if __name__ == "__main__":
    main(sys.argv[1])
