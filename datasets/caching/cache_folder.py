"""Folders that are complete or absent: written under a temporary name and renamed whole.

``meta.json`` in each holds size, time and checksum of every array, and a checksum of itself: what
was changed since it was written is named and made again, never used.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dabench.errors import CacheError, reason_of

log = logging.getLogger("dabench")
T = TypeVar("T")
STALE = 3600.0  # seconds without a write after which a temporary folder was left by a dead process
#: bytes of a folder up to which all content is read whenever it is opened (about 0.1 s); beyond
#: it, where size or time of an array is not as it was written
SMALL = 2**28
#: what reading a damaged folder may raise; any other ``OSError`` may pass, or be the disk's
DAMAGE = (
    *(ValueError, EOFError, LookupError, TypeError, AttributeError),
    *(FileNotFoundError, NotADirectoryError, IsADirectoryError),
)


def write_whole(folder: Path, write: Callable[[Path], None], read: Callable[[], T | None]) -> T:
    """Write a folder under a temporary name, rename it and read it.

    Where another process was quicker its work is kept. ``read`` removes a damaged folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent)
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
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    raise CacheError(f"cache folder {folder} is damaged; delete it and run again")


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
        advice = "free some space or give" if error.errno in (ENOSPC, EDQUOT) else "give"
        where = f": {error.filename}" if error.filename else ""
        raise CacheError(
            f"{what} in {cache_dir} cannot be used ({error.strerror or error}{where}); {advice} "
            "another --cache-dir"
        ) from error


def write_arrays(folder: Path, digest: str, **arrays: Any) -> None:
    """Write ``NAME.npy`` for every array, and seal the folder with the digest of the data."""
    for name, array in arrays.items():
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, np.asarray(array))
            sync_to_disk(file)
    seal(folder, digest=digest)


def seal(folder: Path, **facts: Any) -> None:
    """Write ``meta.json``: facts, and size, time and checksum of every array in the folder."""
    files = {path.name: [*_stamp(path), _checksum(path)] for path in folder.glob("*.npy")}
    meta = facts | {"files": files}
    with (folder / "meta.json").open("wb") as file:
        file.write(json.dumps(meta | {"check": _check(meta)}).encode())
        sync_to_disk(file)


def read_sealed(what: str, folder: Path, read: Callable[[dict[str, Any]], T]) -> T | None:
    """Return what ``read`` makes of a folder's facts.

    Args:
        what: is cached, for the message: ``image cache``.
        folder: with what ``seal`` wrote.
        read: opens the arrays; any ``ValueError`` of it says what is wrong.

    Returns:
        None where the folder is absent, or was damaged: that is said, and it is removed.

    Raises:
        OSError: it cannot be read, and may be whole.
    """
    if not folder.exists():
        return None
    sweep(folder.parent)
    try:
        return read(check_seal(folder))
    except DAMAGE as error:
        log.warning("%s %s cannot be used (%s); building it again", what, folder, reason_of(error))
        shutil.rmtree(folder, ignore_errors=True)
    return None


def verify_all(cache_dir: Path, dataset: str) -> tuple[int, list[str]]:
    """Read all content of a data set's folders in the cache, and remove what is damaged.

    Args:
        cache_dir: the cache folder.
        dataset: name of the set, which the names of its folders begin with.

    Returns:
        How many folders there are, and a line for each that was damaged.
    """
    start = re.sub(r"[^\w.-]", "_", dataset)
    folders = [
        folder
        for kind in ("images", "frames", "digests")
        for folder in sorted((cache_dir / kind).glob(f"{start}-*"))
    ]
    damaged = []
    for folder in folders:
        try:
            check_seal(folder, full=True)
        except DAMAGE as error:
            shutil.rmtree(folder, ignore_errors=True)
            end = "cannot be removed: delete it" if folder.exists() else "removed"
            damaged.append(f"{folder}: {reason_of(error)}; {end}; the next run builds it again")
        except OSError as error:
            damaged.append(f"{folder}: cannot be read ({error.strerror})")
    return len(folders), damaged


def check_seal(folder: Path, *, full: bool = False) -> dict[str, Any]:
    """Return the facts of a folder whose arrays are those that were sealed.

    Args:
        folder: with what ``seal`` wrote.
        full: read all content, also of a large folder whose sizes and times are as they were.

    Raises:
        ValueError: what is not as it was written; the others of ``DAMAGE`` likewise.
    """
    meta = _read_meta(folder)
    full = full or sum(size for size, _, _ in meta["files"].values()) <= SMALL
    for name, (size, time_ns, checksum) in meta["files"].items():
        path = folder / name
        found = _stamp(path)
        if found[0] != size:
            raise ValueError(f"{name} has {found[0]} bytes, and had {size}")
        if full or found[1] != time_ns:
            if _checksum(path) != checksum:
                raise ValueError(f"{name} is not as it was written")
            with suppress(OSError):  # a copied cache is read once, and then trusted by its time
                if found[1] != time_ns:
                    os.utime(path, ns=(time_ns, time_ns))
    return meta


def _read_meta(folder: Path) -> dict[str, Any]:
    text = (folder / "meta.json").read_bytes()
    with suppress(ValueError, RecursionError):
        meta = json.loads(text)
        if isinstance(meta, dict):
            if "check" not in meta:
                raise LookupError("a version of dabench wrote it that kept no checksums")
            if meta.pop("check") == _check(meta):
                return meta
    raise ValueError("meta.json is not as it was written")


def check_array(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Refuse an array of bytes that has another shape or type; raises ``ValueError``."""
    none = array[:0]
    found = (len(array), *none.shape[1:])
    if found != shape or none.dtype != np.uint8:
        raise ValueError(f"{name}: {none.dtype} of {found}, and should be uint8 of {shape}")


def sweep(parent: Path) -> None:
    """Remove temporary folders that killed processes left behind, whatever they were writing."""
    for old in parent.glob(".*"):
        with suppress(OSError):
            files = [old, *old.iterdir()]
            if time.time() - max(path.lstat().st_mtime for path in files) > STALE:
                shutil.rmtree(old)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            found = zlib.crc32(block, found)
    return found


def _check(meta: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(meta, sort_keys=True).encode())


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
