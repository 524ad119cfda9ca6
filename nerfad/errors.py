"""The errors a user of nerfad can cause.

Each carries one sentence that names the thing and the remedy. The command line prints it without a
traceback and exits with code 2; a library user catches `NerfadError`.
"""

import contextlib
import errno
import sys
from collections.abc import Iterator


class NerfadError(Exception):
    """Base of every error that user input can cause."""


class InputFileError(NerfadError):
    """A file is missing, truncated, or not of the kind it is used as."""


class VideoError(NerfadError):
    """A video can be read but not used: no face, two faces, no sound, too short, too small."""


class DatasetError(NerfadError):
    """A data set folder lacks something or contradicts itself."""


class CheckpointError(NerfadError):
    """A checkpoint is missing, of another kind, or of another data set."""


class ModelNotFoundError(NerfadError):
    """A model file (landmarker, segmentation, metric weights) is not installed."""


class OutputError(NerfadError):
    """A result cannot be written: no space, no permission, the target is something else."""


class BackendError(NerfadError):
    """The compiled kernels are missing or cannot run where they are asked to."""


@contextlib.contextmanager
def in_one_sentence() -> Iterator[None]:
    """Round the body of a command: what its user can cause ends the process with one sentence.

    Exit code 2 for a `NerfadError` and for a file that the system refuses, 130 for Ctrl-C. Any other error is
    ours, and keeps its traceback.
    """
    try:
        yield
    except NerfadError as error:
        _end(str(error), 2)
    except KeyboardInterrupt as interruption:
        _end(str(interruption) or "interrupted; the same command continues where it stopped.", 130)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            target = error.filename or "the output"
            _end(f"no space is left on the disk of {target}; free some and run the same command again.", 2)
        if error.filename is None:
            raise
        _end(f"{error.filename}: {error.strerror}; check the path and your rights to it.", 2)


def _end(sentence: str, code: int) -> None:
    # Plain print: rich would wrap a path in the middle and read brackets as markup.
    print(f"nerfad: {sentence}", file=sys.stderr)
    sys.exit(code)
