"""Image files -> ``Labelled``: decoded once into a memory map, or decoded as they stream.

The order is that of the hashed relative paths: folder order is sorted by class, so there a
position would be a label. Labels lie in a file of their own, and no path with a class name is
handed out. A cache folder is named after what it was made from (folder, names, sizes and times of
the files), is written under a temporary name and renamed whole: it is complete or absent, and never
changed afterwards: one that was is named and built again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dabench.contract.data import Labelled
from dabench.datasets.caching.cache_folder import (
    check_array,
    free_bytes,
    read_sealed,
    report_write_errors,
    warn_once,
    write_whole,
)
from dabench.datasets.caching.image_build import Entry, ImageBuild
from dabench.datasets.caching.image_stream import stream_images
from dabench.datasets.decoding.images import Pictures


class CachedImages:
    """Memory-mapped (N, S, S, 3) uint8 pictures; a spawned worker gets the path, not the pixels.

    Of a file with more pictures than are meant, ``rows`` says which.
    """

    def __init__(self, path: Path, rows: slice = slice(None)) -> None:
        self._path, self._rows = path, rows
        self._array: Pictures = np.load(path, mmap_mode="r")[rows]

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> Pictures:
        picked = self._array[index]
        return np.array(picked) if isinstance(picked, np.memmap) else picked

    def __reduce__(self) -> tuple[type[CachedImages], tuple[Path, slice]]:
        return CachedImages, (self._path, self._rows)


def name_hashed(entries: Iterable[Entry]) -> list[Entry]:
    """Return files in the order of their hashed names, in which a position tells no class."""
    return sorted(entries, key=lambda e: hashlib.sha256(os.fsencode(e.name)).digest())


def load_images(
    dataset: str,
    domain: str,
    entries: Sequence[Entry],
    size: int,
    cache_dir: Path,
    crop: float | None = None,
) -> Labelled:
    """Return the images in name-hashed order, from the cache where they were decoded before.

    Args:
        dataset: name for messages and the cache key.
        domain: name for messages and the cache key.
        entries: the files, in any order.
        size: side in pixels; without ``crop`` the aspect ratio is not kept.
        cache_dir: ``images/<key>/`` is made here, or ``links/<key>/`` where the disk is too small.
        crop: as in ``decode``.

    Returns:
        Images (N, size, size, 3) uint8, labels (N,) int64, and a digest over names and file bytes.

    Raises:
        DataError: an image cannot be decoded.
        CacheError: the cache folder cannot be written.
    """
    ordered = name_hashed(entries)
    build = ImageBuild(dataset, domain, ordered, size, crop)
    folder = cache_dir / "images" / build.key()
    need = len(ordered) * size * size * 3
    with report_write_errors("image cache", cache_dir):
        found = read_images(folder, len(ordered), size)
        if found is None and need > 0.9 * (free := free_bytes(folder.parent)):
            warn_once(
                f"{dataset}/{domain}: {need / 1e9:.2g} GB of decoded images do not fit in "
                f"{cache_dir} ({free / 1e9:.2g} GB free); decoding as they stream, which is slower"
            )
            return stream_images(cache_dir, build)
        return found or write_whole(
            folder, build.write_pixels, lambda: read_images(folder, len(ordered), size)
        )


def read_images(folder: Path, count: int, size: int) -> Labelled | None:
    """Return the cached images, or None where the folder is absent, or was damaged."""

    def read(facts: dict[str, Any]) -> Labelled:
        images, labels = CachedImages(folder / "images.npy"), np.load(folder / "labels.npy")
        check_array("images.npy", images, (count, size, size, 3))
        if labels.shape != (count,):
            raise ValueError(f"labels.npy holds {labels.shape} labels, and should hold {count}")
        return Labelled(images, labels.astype(np.int64), str(facts["digest"]))

    return read_sealed("image cache", folder, read)
