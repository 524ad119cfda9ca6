"""What all preprocessing stages share: the job, the folder it works in, and how it resumes.

A stage reads what earlier stages left, writes data set files through `DatasetWriter` (each whole or
absent) and its own results as one array file in `.preprocess`, which marks the stage as done. A run that
was interrupted anywhere continues with the first unfinished stage, and within it with the first
unfinished frame.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nerfad.data.writer import DatasetWriter, read_manifest, write_json
from nerfad.errors import InputFileError, OutputError
from nerfad.io.atomic import atomic_write
from nerfad.io.images import load_image
from nerfad.progress import Progress, report

Item = TypeVar("Item")
Result = TypeVar("Result")
STATE = ".preprocess"
# Work handed to the pool ahead of its turn; bounds the decoded frames held in memory.
_AHEAD_PER_WORKER = 8


@dataclass(frozen=True)
class Job:
    """What determines the result: the video's content and the settings."""

    video_sha256: str
    size: int
    fps: float
    landmarks: str


def is_finished(out: Path, job: Job) -> bool:
    """Whether a folder holds the finished data set of this very job."""
    manifest = read_manifest(out)
    return manifest is not None and manifest.get("job") == asdict(job)


class Workspace:
    """One preprocessing job in one output folder."""

    def __init__(
        self,
        video: Path,
        out: Path,
        job: Job,
        *,
        models: str | Path | None = None,
        progress: Progress | None = None,
        workers: int | None = None,
    ) -> None:
        self.video = video
        self.out = out
        self.job = job
        self.models = models
        self._progress = progress
        self._shares: dict[str, float] = {}
        self.workers = workers or max(1, min(os.cpu_count() or 1, 8))
        self.state = out / STATE
        self._claim()

    def plan(self, shares: dict[str, float]) -> None:
        """Say which stages there will be and what share of the whole time each takes."""
        self._shares = shares

    def report(self, stage: str, done: int, total: int) -> None:
        """Tell the caller how far a stage is."""
        before = 0.0
        for name, share in self._shares.items():
            if name == stage:
                report(self._progress, before + share * done / max(total, 1), f"{stage} {done}/{total}")
                return
            before += share

    @cached_property
    def writer(self) -> DatasetWriter:
        """Writer of the data set's files."""
        return DatasetWriter(self.out)

    @property
    def size(self) -> int:
        """Rows and columns of the data set's pictures."""
        return self.job.size

    def _claim(self) -> None:
        """Make the folder this job's, unless it holds something else."""
        marker = self.state / "job.json"
        if marker.is_file() and json.loads(marker.read_text()) == asdict(self.job):
            return
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise OutputError(
                f"{self.out} already holds something else (another video, other settings, or other files); "
                "choose a new folder or delete this one."
            )
        write_json(marker, asdict(self.job))

    def has(self, stage: str) -> bool:
        """Whether a stage has left its result."""
        return (self.state / f"{stage}.npz").is_file()

    def save(self, stage: str, **arrays: Any) -> None:
        """Keep a stage's result, and with it mark the stage as done."""
        with atomic_write(self.state / f"{stage}.npz") as file:
            np.savez(file, **arrays)

    def load(self, stage: str) -> dict[str, np.ndarray]:
        """The result of an earlier stage."""
        with np.load(self.state / f"{stage}.npz", allow_pickle=False) as archive:
            return dict(archive)

    def discard(self) -> None:
        """Remove this job's marker, and the folder if nothing else is in it."""
        shutil.rmtree(self.state, ignore_errors=True)
        if self.out.is_dir() and not any(self.out.iterdir()):
            self.out.rmdir()

    def image(self, frame_id: int) -> np.ndarray:
        """A frame written by the frames stage, uint8 RGB."""
        return load_image(self.out / f"ori_imgs/{frame_id}.jpg")

    def parallel(
        self,
        stage: str,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        total: int,
        done: int = 0,
    ) -> Iterator[Result]:
        """Results of `work` in order, computed on threads (the nets and OpenCV release the GIL).

        Progress is reported as counts from `done` to `total`.
        """
        pending: deque[Future[Result]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix=stage)
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) < self.workers * _AHEAD_PER_WORKER:
                    continue
                yield pending.popleft().result()
                done += 1
                self.report(stage, done, total)
            while pending:
                yield pending.popleft().result()
                done += 1
                self.report(stage, done, total)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def per_frame(
        self,
        stage: str,
        work: Callable[[int], dict[str, np.ndarray]],
        frame_ids: np.ndarray,
        block: int = 250,
    ) -> dict[str, np.ndarray]:
        """Arrays of all frames, stacked; blocks of frames are kept on disk, so that a later run of an
        interrupted stage starts at the first missing block.
        """
        parts: list[dict[str, np.ndarray]] = []
        for start in range(0, len(frame_ids), block):
            name = f"{stage}/{start:07d}"
            if not self.has(name):
                ids = frame_ids[start : start + block].tolist()
                rows = list(self.parallel(stage, work, ids, total=len(frame_ids), done=start))
                self.save(name, **{key: np.stack([row[key] for row in rows]) for key in rows[0]})
            parts.append(self.load(name))
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def thread_local(make: Callable[[], Result]) -> Callable[[], Result]:
    """A function that gives every thread its own object: nets must not be shared between threads."""
    store = threading.local()

    def get() -> Result:
        if not hasattr(store, "value"):
            store.value = make()
        return store.value

    return get


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except IsADirectoryError:
        raise InputFileError(f"{path} is a folder; name a video.") from None
    except FileNotFoundError:
        raise InputFileError(f"{path} does not exist; check the path.") from None
    except OSError as error:
        raise InputFileError(f"{path} cannot be read ({error.strerror}).") from error
    return digest.hexdigest()
