"""The benchmark: `python -m nerfad.bench`. Imports no torch, so that OpenMP can be set up first."""

import os

# Counted before OpenMP is loaded: it binds this thread to one of them.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
