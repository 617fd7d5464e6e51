"""Published files that cannot be mapped as pictures: turned once, kept in the image cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dabench.contract.data import Labelled
from dabench.datasets.caching.cache_folder import (
    check_array,
    read_sealed,
    report_write_errors,
    write_whole,
)
from dabench.datasets.caching.image_cache import CachedImages

SIDE = 32
FORMAT = "1"  # part of the cache folder's name: raise it whenever what is written changes


def turned_once(
    name: str, paths: Sequence[Path], cache_dir: Path, write: Callable[[Path], None]
) -> Labelled:
    """Return (N, 32, 32, 3) pictures as a memory map, and their labels.

    Args:
        name: of the set and the part; the cache folder's name begins with it.
        paths: the files; others, and other sizes or times, are another cache folder.
        cache_dir: ``images/<name>-<key>/`` is made here.
        write: writes ``images.npy`` and ``labels.npy`` into an empty folder and seals it.

    Raises:
        CacheError: the cache folder cannot be written.
    """
    facts = FORMAT
    for path in paths:
        stat = path.stat()
        facts += f"|{path.absolute()}|{stat.st_size}|{stat.st_mtime_ns}"
    key = hashlib.sha256(facts.encode(errors="surrogateescape")).hexdigest()[:16]
    folder = cache_dir / "images" / f"{name}-{key}"

    def read() -> Labelled | None:
        return read_sealed("image cache", folder, lambda facts: _read(folder, facts["digest"]))

    with report_write_errors("image cache", cache_dir):
        return read() or write_whole(folder, write, read)


def _read(folder: Path, digest: str) -> Labelled:
    images, labels = CachedImages(folder / "images.npy"), np.load(folder / "labels.npy")
    check_array("images.npy", images, (len(labels), SIDE, SIDE, 3))
    return Labelled(images, labels.astype(np.int64), str(digest))
