"""Training throughput: the same model, the same rays, on the kernels and on the reference ops in eager torch.

    python benchmarks/e2e/bench_train.py [--dataset DATASET] [--size N] [--rounds 5] [--threads 2]

Trains on the kernels until the occupancy grid is pruned, then times whole steps (drawing rays to the
optimiser's step) of both backends in turn, from that state on. Prints one line each and writes
benchmarks/results/train.json. CPU time is given beside wall time, because it is what neighbours on a shared
machine disturb least.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from nerfad import _native
from nerfad.config import TrainConfig
from nerfad.data.dataset import load_dataset
from nerfad.engine.progress import peak_memory_mb
from nerfad.engine.train import TrainingRun
from nerfad.engine.trainer import Trainer
from nerfad.ops import use_backend

RESULTS = Path(__file__).parents[1] / "results" / "train.json"


def timed(trainer: Trainer, backend: str, n_steps: int) -> dict[str, float]:
    """Seconds, CPU seconds, rays and samples per step of a few steps on one backend."""
    rays, samples = 0, 0.0
    with use_backend(backend):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(n_steps):
            figures = trainer.step(share=0.2)
            rays += trainer.last_n_rays
            samples += figures["samples_per_ray"] * trainer.last_n_rays
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall_s": wall, "cpu_s": cpu, "rays": rays, "samples": samples, "steps": n_steps}


def summary(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the rounds."""
    return {
        "rays_per_s": statistics.median(r["rays"] / r["wall_s"] for r in rounds),
        "rays_per_cpu_s": statistics.median(r["rays"] / r["cpu_s"] for r in rounds),
        "samples_per_s": statistics.median(r["samples"] / r["wall_s"] for r in rounds),
        "ms_per_step": statistics.median(1e3 * r["wall_s"] / r["steps"] for r in rounds),
        "cpu_ms_per_step": statistics.median(1e3 * r["cpu_s"] / r["steps"] for r in rounds),
        "samples_per_ray": statistics.median(r["samples"] / r["rays"] for r in rounds),
    }


def prepared(args: argparse.Namespace, folder: Path) -> Trainer:
    """A trainer whose occupancy grid is pruned."""
    root = args.dataset
    if root is None:
        from nerfad.sample.generate import generate

        root = folder / "sample"
        generate(root, seconds=8.0, size=args.size or 128)
    config = TrainConfig(dataset=root, out=folder / "run", steps=10 * args.warm_up, size=args.size)
    dataset = load_dataset(config.dataset, config.size)
    run = TrainingRun(config, dataset, None, None, time.perf_counter())
    for _ in range(args.warm_up):
        run.trainer.step(share=0.2)
    return run.trainer


def git(*arguments: str) -> str:
    here = Path(__file__).parent
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=here, check=False)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--dataset", type=Path, help="a data set; by default a sample one is made")
    parser.add_argument("--size", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="native steps a round")
    parser.add_argument("--reference-steps", type=int, default=2)
    parser.add_argument("--warm-up", type=int, default=1100, help="steps before the clock starts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = prepared(args, Path(folder))
        timed(trainer, "reference", 1)
        rounds: dict[str, list[dict[str, float]]] = {"native": [], "reference": []}
        for _ in range(args.rounds):
            rounds["native"].append(timed(trainer, "native", args.steps))
            rounds["reference"].append(timed(trainer, "reference", args.reference_steps))
    result = {name: summary(values) for name, values in rounds.items()}
    ratios = {
        key: result["native"][key] / result["reference"][key] for key in ("rays_per_s", "rays_per_cpu_s")
    }
    for name, values in result.items():
        print(f"{name:10}", "  ".join(f"{key} {value:,.1f}" for key, value in values.items()))
    print(f"speed-up: {ratios['rays_per_s']:.1f}x wall, {ratios['rays_per_cpu_s']:.1f}x CPU time")
    # The data set's name is enough: where it lay is nobody's business.
    settings = " ".join(args.dataset.name if word == str(args.dataset) else word for word in sys.argv[1:])
    record = {
        "what": "whole training step, kernels against reference ops in eager torch",
        **result,
        "speed_up": ratios,
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "device": platform.processor() or platform.machine(),
        "isa": _native.isa(),
        "threads": args.threads,
        "torch": torch.__version__,
        "commit": git("rev-parse", "--short", "HEAD") + ("-dirty" if git("status", "--porcelain") else ""),
        "dataset": args.dataset.name if args.dataset else "sample",
        "command": f"python benchmarks/e2e/{Path(__file__).name} {settings}".strip(),
        "rounds": rounds,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
