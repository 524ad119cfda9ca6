"""Files that are either complete or not there.

A result is written under a hidden name in its own folder and moved over the final name once it is
complete, so that a full disk, an exception or Ctrl-C leaves whatever was there before untouched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nerfad.errors import OutputError

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder, then run the command again",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another folder, then run it again",
    errno.EFBIG: "the file would exceed the size that this system allows; choose another folder",
    errno.EACCES: "permission is denied; choose a folder that you may write to",
    errno.EPERM: "permission is denied; choose a folder that you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EISDIR: "it is a folder; choose a file name",
    errno.ENOTDIR: "a part of its path is a file, not a folder; choose another name",
    errno.EEXIST: "a part of its path is a file, not a folder; choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """The one sentence that says why `path` could not be written and what to do about it."""
    remedy = _REMEDIES.get(error.errno or 0, f"{error.strerror or error}; choose another folder")
    return OutputError(f"cannot write {os.fspath(path)}: {remedy}.")


def check_file_target(path: str | os.PathLike[str]) -> None:
    """Raise OutputError where no file could be written at `path`; to be asked before long work, not after."""
    _check_target(Path(path), Path(path).parent, is_folder=False)


def check_folder_target(path: str | os.PathLike[str]) -> None:
    """Raise OutputError where nothing could be written into a folder at `path`. Makes nothing."""
    _check_target(Path(path), Path(path), is_folder=True)


def _check_target(target: Path, folder: Path, is_folder: bool) -> None:
    try:
        if not is_folder and target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        there = next(part for part in (folder, *folder.parents) if part.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is a file")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "permission denied")
    except OSError as error:
        raise output_error(target, error) from error


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it becomes `path`.

    The temporary name keeps the suffix, because some writers choose their format by it. Missing
    parent folders are made. If the block raises, the temporary file is removed and `path` keeps its
    earlier content; an `OSError` is turned into an `OutputError`.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}-{secrets.token_hex(3)}.tmp{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise output_error(target, error) from error
        raise


@contextlib.contextmanager
def atomic_write(
    path: str | os.PathLike[str], mode: str = "wb", *, encoding: str | None = None, sync: bool = False
) -> Iterator[IO[Any]]:
    """Yield a file opened for writing whose content appears at `path` when the block ends well.

    `sync` waits until the content has reached the disk, which is worth its milliseconds for what
    cannot be made again, such as a checkpoint.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with atomic_write(f"{folder}/note.txt", "w") as file:
    ...     _ = file.write("complete")
    >>> open(f"{folder}/note.txt").read()
    'complete'
    """
    if "b" not in mode and encoding is None:
        encoding = "utf-8"
    with atomic_path(path) as temporary, open(temporary, mode, encoding=encoding) as file:
        yield file
        file.flush()
        if sync:
            os.fsync(file.fileno())
