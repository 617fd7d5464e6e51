"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dabench.errors import StoreError

_ADVICE = {
    errno.ENOSPC: "free the disk, or choose another folder",
    errno.EEXIST: "there is a file where a folder is needed; choose another name",
    errno.ENOTDIR: "there is a file where a folder is needed; choose another name",
    errno.EISDIR: "there is a folder of this name; choose another one for the file",
}


def write_atomically(path: Path, fill: Callable[[BinaryIO], None]) -> None:
    """Write a file under a temporary name in the same folder, fsync it, then rename it.

    Raises:
        StoreError: the disk is full, read-only or otherwise refuses.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            os.chmod(temporary, 0o644)
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "choose a folder that can be written")
        raise StoreError(f"cannot write {path}: {error.strerror}; {advice}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write a file of this content; otherwise as ``write_atomically``."""

    def fill(file: BinaryIO) -> None:
        file.write(content)

    write_atomically(path, fill)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
