"""Labelled pictures that were drawn once, kept in the cache folder: complete or absent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dabench.contract.data import Labelled
from dabench.datasets.cache_folder import publish, sync
from dabench.datasets.image_cache import read_images
from dabench.errors import CacheError


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

    try:
        return read() or publish(folder, lambda new: _write(new, draw()), read)
    except OSError as error:
        raise CacheError(
            f"image cache in {cache_dir}: {error.strerror or error}; free some space or give "
            "another --cache-dir"
        ) from error


def _write(folder: Path, made: Labelled) -> None:
    """Write what ``read_images`` reads into an empty folder."""
    for name, array in (("images", made.images), ("labels", made.labels)):
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, np.asarray(array))
            sync(file)
    with (folder / "meta.json").open("wb") as file:
        file.write(json.dumps({"digest": made.digest}).encode())
        sync(file)
