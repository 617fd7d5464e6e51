"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from dabench.errors import StoreError
from dabench.store.archive import archive_of, archived_names

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
        with os.fdopen(handle, "w+b") as file:
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


@contextlib.contextmanager
def locked(folder: Path, waits: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold a folder for one process at a time; whoever dies lets it go.

    Where a system or a file system has no such locks, nobody waits.

    Args:
        folder: it is made; the lock is a file in it.
        waits: called before it waits for another process.

    Raises:
        StoreError: the folder cannot be written.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StoreError(f"cannot write {folder}: {error.strerror}; choose another") from error
        try:
            if sys.platform != "win32":
                import fcntl

                with contextlib.suppress(OSError):  # there may be no locks here
                    try:
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        waits()
                        fcntl.flock(handle, fcntl.LOCK_EX)
                if _is_removed(folder / ".lock", handle):
                    continue  # who held it before has removed the folder
            yield
            return
        finally:
            os.close(handle)


def _is_removed(path: Path, handle: int) -> bool:
    """Return whether an open file has lost its name; some file systems count no names at all."""
    found = os.fstat(handle)
    try:
        return not found.st_nlink and not os.path.samestat(os.stat(path), found)
    except FileNotFoundError:
        return True


def keep_copy(path: Path, target: Path) -> None:
    """Give a file a second name, or make a copy where the file system has no such names."""
    try:
        os.link(path, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        shutil.copy2(path, target)


def set_aside(paths: list[Path], folder: Path, move: Callable[[Path, Path], object]) -> Path:
    """Move or copy files to a folder under one name that none of them has there, or in its archive.

    Args:
        paths: a record, then what lies beside it and may be missing.
        folder: where to; it is made.
        move: ``os.replace`` or ``keep_copy``.

    Returns:
        The record's new path.

    Raises:
        StoreError: the disk refuses.
    """
    stem, _, ending = paths[0].name.partition(".")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        packed = archived_names(archive_of(folder))
        for number in itertools.count():
            new = folder / (stem if number == 0 else f"{stem}.{number}")
            targets = [new.with_name(f"{new.name}.{ending}")]
            targets += [new.with_name(new.name + path.suffix) for path in paths[1:]]
            if not any(target.exists() or target.name in packed for target in targets):
                break
        # the record last: there is none without what lies beside it
        for path, target in reversed([*zip(paths, targets, strict=True)]):
            with contextlib.suppress(FileNotFoundError):
                move(path, target)
    except OSError as error:
        raise StoreError(f"cannot move {paths[0]} to {folder}: {error.strerror}") from error
    return targets[0]


def move_aside(paths: list[Path], folder: Path) -> Path:
    """Move files as :func:`set_aside` does, all of them there before the first goes.

    Whenever this is interrupted, the record has what lies beside it wherever it is: in its place,
    in the folder, or in both.

    Raises:
        StoreError: the disk refuses.
    """
    new = set_aside(paths, folder, keep_copy)
    try:
        for path in paths:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot remove {path}, which is now {new}: {error.strerror}") from error
    return new


def free_name(path: Path) -> Path:
    """Return the path, with the first number before its ending with which there is no such file."""
    numbered = (path.with_suffix(f".{number}{path.suffix}") for number in itertools.count(1))
    return next(found for found in itertools.chain([path], numbered) if not found.exists())


def listed(folder: Path, pattern: str) -> list[Path]:
    """Return what is in a folder, by name, hidden files left out; nothing where there is none.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"cannot read {folder}: {error.strerror}") from error
    found = names if pattern == "*" else fnmatch.filter(names, pattern)
    return [folder / name for name in sorted(found) if name[0] != "."]


def kept_models(root: Path) -> dict[str, Path]:
    """Return run id -> the folder of its adapted model, where ``--save-model`` kept one.

    Args:
        root: the results folder.
    """
    cards = (root / "runs").glob("*/model/model.yaml")
    return {card.parts[-3]: card.parent for card in cards}


def link(target: Path, page: Path) -> str:
    """Return what a page in a folder writes to link a file or folder, however both are named."""
    return quote(Path(os.path.relpath(target, page)).as_posix())


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
