"""Folders for a command's time, in the system's temporary folder; those of killed ones go."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

#: seconds without a write: a process that is not seen here may live in another container
STALE = 3600.0
_NAME = re.compile(r"dabench-(?:sweep|reproduce)-(\d+)-\w+")


def scratch_folder(kind: str) -> tempfile.TemporaryDirectory[str]:
    """Make ``dabench-KIND-PID-…``; the first call of a process removes those of dead ones.

    Args:
        kind: ``sweep`` or ``reproduce``.
    """
    _sweep(Path(tempfile.gettempdir()))
    return tempfile.TemporaryDirectory(prefix=f"dabench-{kind}-{os.getpid()}-")


@functools.cache
def _sweep(parent: Path) -> None:
    if os.name != "posix":  # elsewhere to ask whether a process lives is to kill it
        return
    with contextlib.suppress(OSError):
        for folder in parent.glob("dabench-*"):
            name = _NAME.fullmatch(folder.name)
            if name is None or _is_alive(int(name[1])):
                continue
            with contextlib.suppress(OSError):
                mine = folder.lstat().st_uid == os.geteuid() and not folder.is_symlink()
                files = (folder, *folder.rglob("*"))
                last = max(path.lstat().st_mtime for path in files) if mine else time.time()
                if time.time() - last > STALE:
                    shutil.rmtree(folder)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True
