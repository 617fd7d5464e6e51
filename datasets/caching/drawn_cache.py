"""Labelled pictures that were drawn once, kept in the cache folder: complete or absent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dabench.contract.data import Labelled
from dabench.datasets.caching.cache_folder import report_write_errors, write_arrays, write_whole
from dabench.datasets.caching.image_cache import read_images


def drawn_by() -> str:
    """Return the versions of the libraries that draw, for names of folders: pixels hang on them."""
    import cv2
    import numpy as np
    import PIL

    return f"pillow{PIL.__version__}-numpy{np.__version__}-opencv{cv2.__version__}"


def drawn_once(
    cache_dir: Path, name: str, count: int, size: int, draw: Callable[[], Labelled]
) -> Labelled:
    """Return pictures from ``images/<name>/`` of the cache folder; drawn where it has none.

    Args:
        cache_dir: the cache folder.
        name: of the folder; it says everything that decides the content.
        count: how many pictures there are.
        size: their side in pixels.
        draw: makes them.

    Raises:
        CacheError: the cache folder cannot be written.
    """
    folder = cache_dir / "images" / name

    def read() -> Labelled | None:
        return read_images(folder, count, size)

    with report_write_errors("image cache", cache_dir):
        return read() or write_whole(folder, lambda new: _write(new, draw()), read)


def _write(folder: Path, made: Labelled) -> None:
    """Write what ``read_images`` reads into an empty folder."""
    write_arrays(folder, made.digest, images=made.images, labels=made.labels)
