"""A lock between processes, so that two of them can share one folder of runs."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

POLL_S = 0.5


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file `path`; yields whether it is held.

    The system lets go of it when the process ends, however it ends.

    Args:
        wait: for whoever holds it; otherwise yield False at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        held = _try(file.fileno())
        while wait and not held:
            time.sleep(POLL_S)
            held = _try(file.fileno())
        yield held


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
