"""Published ``.npy`` files: opened as memory maps, checked by their header, hashed once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dabench.datasets.caching.cache_folder import (
    read_sealed,
    report_write_errors,
    seal,
    write_whole,
)
from dabench.datasets.decoding.images import Pictures
from dabench.errors import DataError, reason_of

#: bytes that are hashed at a time
BLOCK = 2**24


def map_file(path: Path, what: str, where: str) -> np.memmap:
    """Return the array in a ``.npy`` file as a read-only memory map.

    Args:
        path: the file.
        what: the data set's name, for messages.
        where: what to do about a bad file, for messages.

    Raises:
        DataError: missing, truncated, longer than its header says, or not a plain array.
    """
    try:
        found = np.lib.format.open_memmap(path, mode="r")
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{what}: there is no {path}; {where}") from None
    except Exception as error:  # headers of foreign files raise some ten kinds
        raise DataError(
            f"{what}: {path} is no whole .npy file of numbers ({reason_of(error)}); {where}"
        ) from error
    if size != found.offset + found.nbytes:
        over = size - found.offset - found.nbytes
        raise DataError(f"{what}: {path} has {over} bytes more than its header says; {where}")
    return found


def check_pictures(found: np.memmap, count: int, what: str, where: str) -> None:
    """Refuse an array that is not (count, 32, 32, 3) uint8, picture after picture.

    Raises:
        DataError: says what was found, and what is published.
    """
    shape = (count, 32, 32, 3)
    if found.dtype != np.uint8 or found.shape != shape or not found.flags.c_contiguous:
        order = "" if found.flags.c_contiguous else ", column by column"
        raise DataError(
            f"{what}: {found.filename} holds {found.dtype} of {found.shape}{order}; published is "
            f"uint8 of {shape}, which labels.npy has the labels of; {where}"
        )


def read_labels(path: Path, classes: int, what: str, where: str) -> npt.NDArray[np.int64]:
    """Return the (N,) labels in a ``.npy`` file.

    Raises:
        DataError: no such file, not one whole number a picture, or one that names no class.
    """
    found = map_file(path, what, where)
    if found.ndim != 1 or found.dtype.kind not in "iu" or not len(found):
        raise DataError(
            f"{what}: {path} holds {found.dtype} of {found.shape}; expected (N,) whole numbers; "
            f"{where}"
        )
    if found.min() < 0 or found.max() >= classes:
        raise DataError(
            f"{what}: {path} has labels {found.min()} to {found.max()}; expected 0 to "
            f"{classes - 1}; {where}"
        )
    return np.asarray(found, np.int64)


def digest_of(path: Path, rows: slice, what: str, cache_dir: Path) -> str:
    """Return the SHA-256 of some pictures of a file, from the cache where it was read before.

    The cache knows a file by its path, size and time of change.

    Args:
        path: a ``.npy`` file that was checked.
        rows: which pictures.
        what: name that the cache folder begins with.
        cache_dir: ``digests/<name>/`` is made here.

    Raises:
        CacheError: the cache folder cannot be written.
    """
    stat = path.stat()
    facts = f"{path.absolute()}|{stat.st_size}|{stat.st_mtime_ns}|{rows}"
    key = hashlib.sha256(facts.encode(errors="surrogateescape")).hexdigest()[:16]
    folder = cache_dir / "digests" / f"{what}-{path.stem}-{key}"

    def read() -> str | None:
        return read_sealed("digest", folder, lambda facts: str(facts["digest"]))

    def write(new: Path) -> None:
        pictures: Pictures = np.load(path, mmap_mode="r")[rows]
        sha, step = (
            hashlib.sha256(str(pictures.shape).encode()),
            max(1, BLOCK // pictures[0].nbytes),
        )
        for start in range(0, len(pictures), step):
            sha.update(pictures[start : start + step].tobytes())
        seal(new, digest=sha.hexdigest())

    with report_write_errors("digest cache", cache_dir):
        return read() or write_whole(folder, write, read)
