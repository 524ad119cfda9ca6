"""How threads wait for each other; must be decided before torch is imported."""

import os

SPIN_COUNT = "3000"
"""Tens of microseconds: longer than from one parallel loop to the next, shorter than a time slice."""


def yield_cores_early() -> None:
    """Let a waiting OpenMP thread give its core away after some ten microseconds of spinning.

    GNU OpenMP spins for milliseconds by default. On a machine that does something else as well, the thread
    that is waited for may be the one that has no core: training then takes up to twice as long. Settings of
    the user's own are left alone.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
