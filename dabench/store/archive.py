"""Superseded records in one compressed file, ``records/superseded.zip`` (no torch)."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

from dabench.errors import StoreError


def read_file(path: Path) -> bytes:
    """Return what a file holds; one of ``superseded/`` may have gone into the archive.

    Raises:
        OSError: it is in neither, or cannot be read.
        StoreError: the archive is damaged.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_now) as file:
            return file.read() or b""
    except FileNotFoundError:
        if path.parent.name != "superseded":
            raise
        archive = archive_of(path.parent)
        if path.name not in archived_names(archive):
            raise
    try:
        with zipfile.ZipFile(archive) as packed:
            return packed.read(path.name)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise StoreError(f"cannot read {path.name} in {archive}: {error}") from error


def archive_of(folder: Path) -> Path:
    """Return the archive of a folder of superseded records."""
    return folder.with_suffix(".zip")


def archived_names(archive: Path) -> set[str]:
    """Return the names of the files in an archive; none where there is none.

    Raises:
        StoreError: it cannot be read, or is no archive.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            return set(packed.namelist())
    except FileNotFoundError:
        return set()
    except (OSError, zipfile.BadZipFile) as error:
        raise StoreError(f"cannot read {archive}: {error}; restore it, or move it away") from error


def is_kept(path: Path) -> bool:
    """Return whether a file is in its place, or in the archive of its folder."""
    archived = path.parent.name == "superseded" and path.name in archived_names(
        archive_of(path.parent)
    )
    return archived or path.is_file()


def superseded_as(folder: Path, run: str) -> list[Path]:
    """Return the superseded records whose names begin so, packed or not, by name."""
    loose = {path.name for path in folder.glob("*.json")}
    names = loose | archived_names(archive_of(folder))
    return [folder / name for name in sorted(names) if name.startswith(run) and ".json" in name]


def _open_now(path: str, flags: int) -> int:
    """Open a file; a pipe of that name would wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
