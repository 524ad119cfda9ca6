"""The clocks by which a budget in minutes can be counted."""

from __future__ import annotations

import time

import torch


def read_clock(clock: str) -> float:
    """Seconds since some moment.

    Args:
        clock: "wall", the time of day; "cpu", what this process has computed over its number of threads:
            runs on a machine that does other things besides then have the same number of steps as alone.
    """
    if clock == "cpu":
        return time.process_time() / torch.get_num_threads()
    return time.perf_counter()
