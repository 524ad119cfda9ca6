"""Figures of a run: averaged between reports, and never overwritten by a report without steps."""

from pathlib import Path

import pytest

from nerfad.engine.progress import RunLog


def test_figures_are_averaged_and_told(tmp_path: Path):
    told: list[tuple[float, str]] = []
    log = RunLog(tmp_path, lambda done, text: told.append((done, text)))
    log.add(100, head_mse=0.01)
    log.add(100, head_mse=0.03)
    log.report(2, elapsed_s=10.0, share=0.5)
    assert log.entries[-1]["psnr"] == pytest.approx(16.99, abs=0.01)
    assert told[-1][0] == 0.5
    assert "step 2" in told[-1][1] and "PSNR 16.99 dB" in told[-1][1] and "0.2 min left" in told[-1][1]


def test_a_report_without_steps_keeps_the_last_figures(tmp_path: Path):
    told: list[tuple[float, str]] = []
    log = RunLog(tmp_path, lambda done, text: told.append((done, text)))
    log.add(100, head_mse=0.01)
    log.report(1, elapsed_s=10.0, share=0.9)
    log.report(1, elapsed_s=11.0, share=1.0)
    assert len(log.entries) == 1
    assert told[-1][0] == 1.0 and "PSNR 20.00 dB" in told[-1][1] and "0.0 min left" in told[-1][1]
