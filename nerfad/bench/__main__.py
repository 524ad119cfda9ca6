"""`python -m nerfad.bench`: measures the kernels against what else there is; see `--help`."""

import os
import sys

PINNING = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}


def main() -> int:
    """Starts anew with OpenMP's threads pinned, which only a process that has not loaded it yet can have."""
    if not any(name in os.environ for name in PINNING):
        command = [sys.executable, "-m", "nerfad.bench", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **PINNING})
    from nerfad.bench.command import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
