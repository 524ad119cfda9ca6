"""What all trainings share: stepping until a budget is spent, with reports, previews, checkpoints, Ctrl-C."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

from nerfad.engine.clock import read_clock
from nerfad.engine.interrupt import StopRequest, TrainingInterrupted
from nerfad.engine.progress import RunLog

DEFAULT_MINUTES = 8.0


class BudgetConfig(Protocol):
    """What a budget needs to know."""

    @property
    def out(self) -> Path: ...

    @property
    def minutes(self) -> float | None: ...

    @property
    def steps(self) -> int | None: ...

    @property
    def clock(self) -> str: ...

    @property
    def preview_every_s(self) -> float: ...

    @property
    def save_every_s(self) -> float: ...


class Steps(Protocol):
    """A trainer."""

    n_steps: int

    def step(self, share: float) -> dict[str, float]:
        """One step at a share of the budget; its figures."""
        ...


class BudgetedRun(ABC):
    """A training from its first second to its last, or from one call to the next.

    Attributes:
        started: of its beginning by the config's clock, as if earlier calls belonged to this one.
        preview_at_once, preview_at_end: draw a preview after the first step, and after the last one.
    """

    config: BudgetConfig
    log: RunLog
    trainer: Steps
    started: float
    preview_at_once = False
    preview_at_end = False

    @property
    def elapsed_s(self) -> float:
        return read_clock(self.config.clock) - self.started

    @property
    def share(self) -> float:
        """Share of the budget that is spent."""
        if self.config.steps is not None:
            return self.trainer.n_steps / self.config.steps
        return self.elapsed_s / (60 * (self.config.minutes or DEFAULT_MINUTES))

    @abstractmethod
    def n_items(self) -> int:
        """Rays, crops or faces of the last step, for the report."""

    def stepped(self) -> None:  # noqa: B027 (most runs have nothing to do)
        """What else is to be done after a step."""

    @abstractmethod
    def preview(self) -> None:
        """Save a picture of what has been learnt."""

    @abstractmethod
    def save(self) -> Any:
        """Write the checkpoint."""

    def step_until_spent(self) -> Any:
        """Step until the budget is spent and save the last state; what `save` then returned.

        Raises:
            TrainingInterrupted: Ctrl-C; the state is saved, and the message says how to go on.
        """
        last_save = time.perf_counter()
        last_preview = float("-inf") if self.preview_at_once else last_save
        with StopRequest() as stop:
            while self.share < 1.0 and not stop.requested:
                figures = self.trainer.step(self.share)
                self.log.add(self.n_items(), **figures)
                self.stepped()
                if self.log.due:
                    self._report()
                now = time.perf_counter()
                if self.config.preview_every_s > 0 and now - last_preview > self.config.preview_every_s:
                    self.preview()
                    last_preview = now
                if now - last_save > self.config.save_every_s:
                    self.save()
                    last_save = now
            self._report()
            if self.preview_at_end:
                self.preview()
            saved = self.save()
        self.log.close()
        if stop.requested:
            raise TrainingInterrupted(
                f"stopped at step {self.trainer.n_steps}, everything is saved in {self.config.out}; "
                "run the same command again to go on."
            )
        return saved

    def _report(self) -> None:
        self.log.report(self.trainer.n_steps, self.elapsed_s, self.share)
