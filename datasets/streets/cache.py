"""Frames that were drawn once, kept in the cache folder: complete or absent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dabench.contract.data import Frames
from dabench.datasets.caching.cache_folder import (
    check_array,
    read_sealed,
    report_write_errors,
    write_arrays,
    write_whole,
)
from dabench.datasets.caching.image_cache import CachedImages
from dabench.datasets.streets.canvas import Pictures

Drawn = tuple[Pictures, Pictures]  # (N, H, W, 3) images and (N, H, W) masks, uint8


def cached_frames(
    cache_dir: Path, name: str, shape: tuple[int, int, int], draw: Callable[[], Drawn]
) -> Frames:
    """Return frames from ``images/<name>/`` of the cache folder; drawn where it has none.

    Args:
        cache_dir: the cache folder.
        name: of the folder; it says everything that decides the content.
        shape: N, H, W.
        draw: makes images and masks.

    Raises:
        CacheError: the cache folder cannot be written.
    """
    folder = cache_dir / "images" / name

    def read() -> Frames | None:
        return _read(folder, shape)

    with report_write_errors("image cache", cache_dir):
        return read() or write_whole(folder, lambda new: _write(new, draw()), read)


def _read(folder: Path, shape: tuple[int, int, int]) -> Frames | None:
    """Return the frames, or None where the folder is absent, or was damaged."""

    def read(facts: dict[str, Any]) -> Frames:
        images, masks = CachedImages(folder / "images.npy"), CachedImages(folder / "masks.npy")
        check_array("images.npy", images, (*shape, 3))
        check_array("masks.npy", masks, shape)
        return Frames(images, masks, str(facts["digest"]))

    return read_sealed("image cache", folder, read)


def _write(folder: Path, drawn: Drawn) -> None:
    """Write what ``_read`` reads into an empty folder."""
    sha = hashlib.sha256()
    for array in drawn:
        sha.update(array.tobytes())
    images, masks = drawn
    write_arrays(folder, sha.hexdigest(), images=images, masks=masks)
