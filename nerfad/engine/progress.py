"""What a training run tells while it runs: figures, curves, previews, the log."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from nerfad.io.images import save_image
from nerfad.progress import Progress, report


class RunLog:
    """Collects figures between reports and passes them on to the console, TensorBoard and the log.

    Args:
        run: the run's folder.
        progress: draws the bar.
        entries: log of earlier calls of the same run.
        unit: what the rate counts.
    """

    INTERVAL_S = 2.0

    def __init__(
        self,
        run: Path,
        progress: Progress | None,
        entries: list[dict[str, float]] | None = None,
        unit: str = "rays",
    ) -> None:
        self.run = run
        self.entries = entries or []
        self._unit = unit
        self._progress = progress
        self._board = _open_board(run / "tensorboard")
        self._sums: dict[str, float] = {}
        self._n_steps = 0
        self._n_items = 0
        self._since = time.perf_counter()

    def add(self, n_items: int, **figures: float) -> None:
        """Figures of one step; they are averaged until the next report."""
        self._n_steps += 1
        self._n_items += n_items
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    @property
    def due(self) -> bool:
        return time.perf_counter() - self._since > self.INTERVAL_S

    def report(self, step: int, elapsed_s: float, share: float) -> None:
        """Pass the averages since the last call on."""
        if self._n_steps == 0 and self.entries:
            # Nothing new since the last report: its figures stand.
            report(self._progress, min(share, 1.0), self._text(self.entries[-1], 0.0))
            return
        seconds = max(time.perf_counter() - self._since, 1e-9)
        entry = {name: value / max(self._n_steps, 1) for name, value in self._sums.items()}
        if "head_mse" in entry:
            entry["psnr"] = -10 * float(np.log10(max(entry.pop("head_mse"), 1e-10)))
        entry[f"{self._unit}_per_second"] = self._n_items / seconds
        if self._board is not None:
            for name, value in entry.items():
                self._board.add_scalar(f"train/{name}", value, step)
        entry = {"step": step, "elapsed_s": round(elapsed_s, 2), **entry}
        self.entries.append({name: round(value, 5) for name, value in entry.items()})
        left = elapsed_s / share - elapsed_s if share > 0 else 0.0
        report(self._progress, min(share, 1.0), self._text(entry, left))
        self._sums, self._n_steps, self._n_items = {}, 0, 0
        self._since = time.perf_counter()

    def _text(self, entry: dict[str, float], left_s: float) -> str:
        rate = f"{entry[f'{self._unit}_per_second']:,.0f} {self._unit}/s"
        quality = f"  PSNR {entry['psnr']:.2f} dB" if "psnr" in entry else ""
        return f"step {entry['step']:.0f}  {rate}{quality}  {left_s / 60:.1f} min left"

    def stage(self, done: float, text: str) -> None:
        """Tell what is going on before there are steps to count."""
        report(self._progress, done, text)

    def preview(self, step: int, truth: np.ndarray, image: np.ndarray) -> None:
        """Save truth and rendering, uint8 [H, W, 3], side by side."""
        self.picture(step, np.concatenate([truth, image], 1))

    def picture(self, step: int, picture: np.ndarray) -> None:
        """Save a preview, uint8 [H, W, 3]."""
        save_image(self.run / "previews" / f"{step:07d}.png", picture)
        if self._board is not None:
            self._board.add_image("preview", picture, step, dataformats="HWC")

    def median(self, name: str) -> float:
        """Median over the log of a figure, 0 before the first report."""
        values = [entry[name] for entry in self.entries if name in entry]
        return float(np.median(values)) if values else 0.0

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def peak_memory_mb() -> float:
    """The largest resident size of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0 if sys.platform != "darwin" else 1024.0**2)


def _open_board(folder: Path) -> Any:
    """A TensorBoard writer, or None where tensorboard is not installed (it is not part of the core)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
