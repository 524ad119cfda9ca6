"""Files that are either complete or absent."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from nerfad.errors import OutputError


def write_atomic(path: str | Path, content: bytes) -> None:
    """Write a file so that a reader, or the same program after a crash, never sees half of it.

    The bytes go to a temporary file beside the target, which is then renamed over it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"{path}: the disk is full; free some space and run the same command again, "
                "what is finished is kept."
            ) from error
        raise OutputError(f"{path}: cannot be written ({error.strerror}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())
