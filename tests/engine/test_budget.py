"""Budgets in minutes by either clock."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from nerfad.engine.budget import BudgetedRun
from nerfad.engine.clock import read_clock
from nerfad.engine.progress import RunLog

BUDGET_S = 0.3


@dataclass
class Config:
    out: Path
    clock: str
    minutes: float | None = BUDGET_S / 60
    steps: int | None = None
    preview_every_s: float = 0.0
    save_every_s: float = 1000.0


class Sleeper:
    """Steps that mostly wait, as those of a process do whose machine is busy."""

    n_steps = 0

    def step(self, share):
        time.sleep(0.03)
        start = time.process_time()
        while time.process_time() < start + 0.01:
            torch.ones(100).sum()
        self.n_steps += 1
        return {"loss": 1.0}


class Run(BudgetedRun):
    def __init__(self, config):
        self.config, self.trainer = config, Sleeper()
        self.log = RunLog(config.out, None)
        self.started = read_clock(config.clock)

    def n_items(self):
        return 1

    def preview(self):
        raise AssertionError("no previews were asked for")

    def save(self):
        return self.trainer.n_steps


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_waiting_spends_the_wall_clock_only(one_thread, tmp_path):
    assert Run(Config(tmp_path / "wall", "wall")).step_until_spent() <= BUDGET_S / 0.04 + 1
    assert Run(Config(tmp_path / "cpu", "cpu")).step_until_spent() >= 0.5 * BUDGET_S / 0.01


def test_the_processor_clock_is_shared_out_over_threads(one_thread):
    alone = read_clock("cpu")
    torch.set_num_threads(2)
    assert read_clock("cpu") == pytest.approx(alone / 2, rel=0.05)
