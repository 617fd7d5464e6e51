"""A results folder made small: records in today's form, superseded ones in one file (no torch).

Whenever this is killed, each record is in its place once, and the next call goes on.
"""

from __future__ import annotations

import contextlib
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from dabench.errors import StoreError
from dabench.store.archive import archive_of, archived_names
from dabench.store.arrays import file_beside, read_arrays, split, write_arrays
from dabench.store.files import free_name, listed, locked, write_atomically
from dabench.store.reading import load_record
from dabench.store.store import Store


@dataclass
class Packed:
    """What was done.

    Attributes:
        rewritten: records that held their curves, or whose predictions had no checksum.
        archived: files that went into the archive.
        problems: a line for each file that stays as it is, and why.
    """

    rewritten: int = 0
    archived: int = 0
    problems: list[str] = field(default_factory=list)


def pack(root: Path, *, dry_run: bool = False) -> Packed:
    """Rewrite a folder's old records in today's form, and put superseded ones into one archive.

    Scores, curves and predictions stay what they are, but for the confidences, which are rounded
    (:mod:`dabench.store.arrays`).

    Args:
        root: the results folder.
        dry_run: only count.

    Raises:
        StoreError: the disk refuses, or there are no records.
    """
    found, store = Packed(), Store(root, curves=False)
    if not store.records.is_dir():
        raise StoreError(f"{store.records}: no such folder; give the --results of the records")
    for path, record in store.read():
        if "predictions_checksum" not in record:
            try:
                found.rewritten += _rewrite(store, path, dry_run)
            except StoreError as error:
                found.problems.append(str(error))
    found.problems += store.problems
    with locked(store.records):
        _archive(store.superseded, found, dry_run)
    return found


def _rewrite(store: Store, path: Path, dry_run: bool) -> bool:
    """Move a record's curves to the file beside it; return whether there is anything to move.

    The new file beside it serves the old record too, which holds its curves itself: so it comes
    first, and takes the old one's place.
    """
    with locked(store.records):
        record = load_record(path)  # another process may have replaced it
        if "predictions_checksum" in record:
            return False
        kept = record.get("predictions")
        file = file_beside(path, record) if kept else free_name(path.with_suffix(".npz"))
        lean, beside = split(record, read_arrays(file) if kept else {})
        if not beside or "curves" in lean:
            return False
        if not dry_run:
            digest = write_arrays(file, beside, store.records)
            mark = {"predictions": file.name, "predictions_checksum": digest}
            store.dump(path, lean | mark)
        return True


def _archive(folder: Path, found: Packed, dry_run: bool) -> None:
    """Add the files of a folder to its archive, then remove them."""
    archive, new, old = archive_of(folder), [], []
    try:
        names = archived_names(archive)
        for path in listed(folder, "*"):
            if path.name not in names:
                new.append(path)
            elif _holds(archive, path):  # killed after it was added
                old.append(path)
            else:
                found.problems.append(f"{path}: {archive} holds another file of this name")
        found.archived = len(new) + len(old)
        if dry_run:
            return

        def fill(file: BinaryIO) -> None:
            if archive.exists():
                with open(archive, "rb") as before:
                    shutil.copyfileobj(before, file)
            with zipfile.ZipFile(file, "a", strict_timestamps=False) as packed:
                for path in new:
                    text = path.suffix == ".json"  # the others are packed already
                    way = zipfile.ZIP_DEFLATED if text else zipfile.ZIP_STORED
                    packed.write(path, path.name, way)

        if new:
            write_atomically(archive, fill)
        for path in (*old, *new):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
    except (OSError, zipfile.BadZipFile) as error:
        raise StoreError(f"cannot pack {folder} into {archive}: {error}") from error


def _holds(archive: Path, path: Path) -> bool:
    with zipfile.ZipFile(archive) as packed:
        return packed.read(path.name) == path.read_bytes()
