"""What the command line draws: one progress bar, and a line for each result."""

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from nerfad.progress import Progress

console = Console(stderr=True, highlight=False)


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A bar on a terminal; on a pipe or in a log, a line for every tenth of the work, and now and then one
    about the preparations before it.
    """
    if not console.is_terminal:
        yield _LinePrinter(title)
        return
    columns = (
        TextColumn("[bold]{task.fields[title]}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=1.0, title=title)
        yield lambda done, text: bar.update(task, completed=done, description=text)


class _LinePrinter:
    PREPARING_EVERY_S = 5.0

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = -1
        self._since = 0.0

    def __call__(self, done: float, text: str) -> None:
        tenth, now = int(done * 10), time.monotonic()
        if tenth != self._last or (done == 0 and now - self._since > self.PREPARING_EVERY_S):
            self._last, self._since = tenth, now
            print(f"{self._title} {100 * done:3.0f} %  {text}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    console.print(text)
