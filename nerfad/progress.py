"""How long work tells what it does: a callback, so that only the command line draws anything."""

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with the fraction done (0 to 1) and a short text: the stage and its latest figures."""


def report(progress: Progress | None, done: float, text: str) -> None:
    """Calls `progress` if there is one."""
    if progress is not None:
        progress(done, text)
