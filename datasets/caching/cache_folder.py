"""Folders that are complete or absent: written under a temporary name and renamed whole."""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dabench.errors import CacheError

log = logging.getLogger("dabench")
T = TypeVar("T")
STALE = 3600.0  # seconds without a write after which a temporary folder was left by a dead process


def write_whole(folder: Path, write: Callable[[Path], None], read: Callable[[], T | None]) -> T:
    """Write a folder under a temporary name, rename it and read it.

    Where another process was quicker its work is kept; a damaged folder is replaced.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        write(temporary)
        for _ in range(3):
            with suppress(OSError):  # the name is taken: by a good twin, or by a damaged folder
                os.replace(temporary, folder)
            done = read()
            if done is not None:
                return done
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    raise CacheError(f"image cache {folder} is damaged; delete it and run again")


@contextmanager
def report_write_errors(what: str, cache_dir: Path) -> Iterator[None]:
    """Turn an ``OSError`` inside into a ``CacheError`` that says what to do.

    Args:
        what: is cached, for the message: ``image cache``.
        cache_dir: the cache folder.
    """
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"{what} in {cache_dir}: {error.strerror or error}; free some space or give another "
            "--cache-dir"
        ) from error


def write_arrays(folder: Path, digest: str, **arrays: Any) -> None:
    """Write ``NAME.npy`` for every array, and the digest that ``read_digest`` finds."""
    for name, array in arrays.items():
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, np.asarray(array))
            sync_to_disk(file)
    with (folder / "meta.json").open("wb") as file:
        file.write(json.dumps({"digest": digest}).encode())
        sync_to_disk(file)


def _sweep(folder: Path) -> None:
    """Remove temporary folders of this name that a killed process left behind."""
    for old in folder.parent.glob(f".{folder.name}.*"):
        with suppress(OSError):
            if time.time() - max(p.stat().st_mtime for p in (old, *old.iterdir())) > STALE:
                shutil.rmtree(old)


def read_digest(folder: Path) -> str | None:
    """Return the digest in ``meta.json``, or None where there is none."""
    try:
        return str(json.loads((folder / "meta.json").read_text())["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that holds (or will hold) a folder."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def sync_to_disk(file: Any) -> None:
    """Bring a file to the disk: one that is full must raise before the folder is renamed."""
    file.flush()
    os.fsync(file.fileno())


@functools.cache
def warn_once(message: str) -> None:
    """Warn, once a process: every load of the same set would say the same."""
    log.warning(message)
