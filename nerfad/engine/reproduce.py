"""`nerfad reproduce`: the paper's tables from our own code, on the data at hand.

Everything lies in one folder of runs: a folder for each stage of each row and seed, and its scores. Whatever
is finished there is reused, whatever was interrupted goes on, and several processes may share the folder:
each stage is trained by one of them, and every one writes the table of all that is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nerfad.data.dataset import load_dataset
from nerfad.engine import checkpoint
from nerfad.engine.reproduce_config import ReproduceConfig
from nerfad.engine.reproduce_rows import SHARES, TABLES, Row, rows_of, stage_config
from nerfad.engine.reproduce_scores import score_row, score_video
from nerfad.engine.reproduce_table import table_of
from nerfad.errors import NerfadError, OutputError
from nerfad.io.atomic import atomic_write
from nerfad.io.lock import locked
from nerfad.progress import Progress, report

POLL_S = 2.0
RESULT = "result.json"


def reproduce(config: ReproduceConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Train and score what is missing, and write the table; returns what the file holds.

    Raises:
        NerfadError: the data set, a video or a setting cannot be used, or the folder of runs was begun with
            other settings.
        TrainingInterrupted: Ctrl-C; everything is saved, and the same call goes on.
    """
    return Reproduction(config, progress).go()


@dataclass(frozen=True)
class Task:
    """A row with a seed."""

    name: str
    row: Row
    seed: int


class Reproduction:
    """One call's work."""

    def __init__(self, config: ReproduceConfig, progress: Progress | None) -> None:
        self.config, self.progress = config, progress
        self.runs, self.budget = config.folder, config.budget
        for name, video in config.videos:
            if not video.is_file():
                raise NerfadError(f"--videos {name}={video}: there is no such file.")
        self.dataset = load_dataset(config.data)
        self.base = [load_dataset(path) for path in config.base]
        self._check_base()
        self._check_plan()
        rows = rows_of(config.table, base=bool(config.base))
        names = config.variants or tuple(rows)
        # Seed after seed: what an interrupted call leaves is a whole table with fewer seeds.
        self.tasks = [Task(name, rows[name], seed) for seed in config.seeds for name in names]
        self.n_done = 0

    def go(self) -> dict[str, Any]:
        """Work through the tasks; those that another process has begun are looked at again later."""
        pending = list(self.tasks)
        while pending:
            busy = [task for task in pending if not self._advance(task)]
            if len(busy) == len(pending):
                self._tell(0.0, f"another process works on {busy[0].name}, seed {busy[0].seed}")
                time.sleep(POLL_S)
            pending = busy
        self._score_videos()
        table = self._write()
        report(self.progress, 1.0, "reproduced")
        return table

    def _advance(self, task: Task) -> bool:
        """Do all that is missing of a task; False where another process is at it."""
        result = self._result_path(task)
        if not result.is_file():
            for stage in task.row.recipe.stages:
                if not self._train(task, stage):
                    return False
            with locked(result.parent / "lock", wait=False) as held:
                if not held:
                    return False
                # A short budget does not reach every step that is to be reported.
                reached = checkpoint.exists(task.row.field_run(self.runs, task.seed))
                if reached and not result.is_file():
                    self._score(task, result)
        self.n_done += 1
        self._write()
        return True

    def _train(self, task: Task, stage: str) -> bool:
        folder = task.row.recipe.folder(self.runs, stage, task.seed)
        share = self.budget.share(task.row.recipe, stage)
        if self._finished(folder, share):
            return True
        with locked(folder.with_name(folder.name + ".lock"), wait=False) as held:
            if not held:
                return False
            if not self._finished(folder, share):
                person = self.dataset.root.resolve()
                people = tuple(data.root.resolve() for data in self.base) or (person,)
                settings = stage_config(
                    task.row.recipe, stage, person, people, self.runs, task.seed, self.budget
                )
                _trainer(stage, people)(settings, self._part(task, stage))
        return True

    def _finished(self, folder: Path, share: float) -> bool:
        if not checkpoint.exists(folder):
            return False
        meta = checkpoint.load_meta(folder)
        if self.budget.steps is not None:
            return int(meta["step"]) >= max(1, round(share * self.budget.steps))
        assert self.budget.minutes is not None
        return float(meta["elapsed_s"]) >= 60 * share * self.budget.minutes

    def _score(self, task: Task, path: Path) -> None:
        scores = score_row(
            task.row,
            self.runs,
            task.seed,
            path.parent,
            self.dataset.root,
            max_frames=self.config.max_frames,
            models=self.config.models,
            device=self.config.device,
            progress=self._part(task, "scores"),
        )
        _write_json(path, {"seed": task.seed, "threads": self.config.threads, **scores})

    def _score_videos(self) -> None:
        run = self.tasks[0].row.recipe.folder(self.runs, "field", self.tasks[0].seed)
        for name, video in self.config.videos:
            folder = self.runs / "scores" / f"video-{name}"
            with locked(folder / "lock"):
                path, found = folder / RESULT, video.stat()
                stamp = [found.st_size, found.st_mtime_ns]
                if path.is_file() and json.loads(path.read_text())["file"] == stamp:
                    continue
                report(self.progress, 0.99, f"scoring {name}")
                scores = score_video(
                    video, run, folder, self.dataset.root, self.config.max_frames, self.config.models
                )
                _write_json(path, {"seed": 0, "file": stamp, **scores})

    def _write(self) -> dict[str, Any]:
        """The table of everything that lies in the folder of runs."""
        with locked(self.runs / "table.lock"):
            rows = {
                name: self._results(f"{recipe.name}-s*") for name, recipe in TABLES[self.config.table].items()
            }
            videos = {name: self._results(f"video-{name}") for name, _ in self.config.videos}
            table = table_of(self.config.table, rows, videos, self._about())
            _write_json(self.config.out, table)
        return table

    def _results(self, pattern: str) -> list[dict[str, Any]]:
        found = sorted((self.runs / "scores").glob(f"{pattern}/{RESULT}"))
        return sorted((json.loads(path.read_text()) for path in found), key=lambda result: result["seed"])

    def _about(self) -> dict[str, Any]:
        """What was done, without places on this machine."""
        config = self.config
        spent = f"--steps {config.steps}" if config.steps else f"--minutes {self.budget.minutes:g}"
        if config.clock != "wall":
            spent += f" --clock {config.clock}"
        if config.shares != SHARES:
            spent += f" --shares {config.shares[0]:g} {config.shares[1]:g}"
        people = f"--data {self.dataset.name} "
        if self.base:
            people += f"--base {' '.join(data.name for data in self.base)} "
        if config.clip_s is not None:
            people += f"--clip-s {config.clip_s:g} "
        if config.variants:
            spent += f" --variants {' '.join(config.variants)}"
        return {
            "command": f"nerfad reproduce --table {config.table} {people}"
            f"--seeds {' '.join(map(str, config.seeds))} {spent} --size {self.dataset_size} "
            f"--threads {config.threads} --max-frames {config.max_frames} --out {config.out.name}",
            "data": {
                "name": self.dataset.name,
                "fingerprint": self.dataset.fingerprint(),
                "frames": len(self.dataset),
                "au_source": self.dataset.au_source,
                "clip_s": config.clip_s,
            },
            "base": [{"name": data.name, "fingerprint": data.fingerprint()} for data in self.base],
            "budget": {
                "minutes": self.budget.minutes,
                "steps": self.budget.steps,
                "clock": self.budget.clock,
                "shares": {
                    "attention": self.budget.shares[0],
                    "fusion": self.budget.shares[1],
                    "field": "the rest",
                },
                "paper_sizes": config.paper_sizes,
            },
            "device": config.device,
        }

    @property
    def dataset_size(self) -> int:
        """Rows of the pictures that are trained on and scored."""
        return self.config.size or self.dataset.height

    def _check_base(self) -> None:
        for data in self.base:
            if data.fingerprint() == self.dataset.fingerprint():
                raise NerfadError(f"--base {data.root}: is the person of --data; give other people.")

    def _check_plan(self) -> None:
        """Runs of other data or another budget in the same folder would be mixed up: refuse them."""
        budget = asdict(self.budget)
        del budget["threads"]
        budget["shares"] = list(self.budget.shares)
        plan = {
            "fingerprint": self.dataset.fingerprint(),
            "max_frames": self.config.max_frames,
            "base": [data.fingerprint() for data in self.base] or None,
            **budget,
        }
        path = self.runs / "plan.json"
        with locked(self.runs / "plan.lock"):
            if not path.is_file():
                _write_json(path, plan)
                return
            known = {"clock": "wall", **json.loads(path.read_text())}  # older plans knew one clock only
        for name, value in plan.items():
            if known.get(name) != value:
                others = {"fingerprint": "another data set", "base": "another base"}
                what = others.get(name, f"{name} {known.get(name)}, not {value}")
                raise OutputError(f"{self.runs}: was begun with {what}; choose another --runs.")

    def _result_path(self, task: Task) -> Path:
        return self.runs / "scores" / f"{task.row.name}-s{task.seed}" / RESULT

    def _part(self, task: Task, stage: str) -> Progress:
        """Progress of a stage as progress of everything."""
        stages = [*task.row.recipe.stages, "scores"]
        spent = [self.budget.share(task.row.recipe, name) for name in stages[:-1]]
        shares = [0.9 * share / sum(spent) for share in spent] + [0.1]
        before = sum(shares[: stages.index(stage)])

        def tell(done: float, text: str) -> None:
            share = before + shares[stages.index(stage)] * done
            self._tell(share, f"{task.name}, seed {task.seed}, {stage} {done:.0%}: {text}")

        return tell

    def _tell(self, share: float, text: str) -> None:
        report(self.progress, (self.n_done + min(share, 1.0)) / len(self.tasks), text)


def _trainer(stage: str, people: tuple[Path, ...]) -> Callable[..., Any]:
    """What trains a stage, called with its settings and progress; `people` are those of a base."""
    if stage == "attention":
        from nerfad.engine.pretrain_attention import pretrain_attention

        return pretrain_attention
    if stage == "fusion":
        from nerfad.engine.pretrain_fusion import pretrain_fusion

        return pretrain_fusion
    if stage == "base":
        from nerfad.engine.train_base import train_base

        return partial(train_base, people)
    from nerfad.engine.train import train

    return train


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w") as file:
        file.write(json.dumps(values, indent=1, allow_nan=False) + "\n")
