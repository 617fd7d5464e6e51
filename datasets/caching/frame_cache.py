"""Frame files -> ``Frames``: decoded once into two memory maps, in the order of the frames.

A cache folder is named after what it was made from (folder, names, sizes and times of the
files, image size, map of numbers) and is complete or absent, like those of ``image_cache``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dabench.contract.data import Frames
from dabench.datasets.caching.cache_folder import (
    check_array,
    free_bytes,
    read_sealed,
    report_write_errors,
    warn_once,
    write_whole,
)
from dabench.datasets.caching.frame_build import FrameBuild
from dabench.datasets.caching.image_cache import CachedImages
from dabench.errors import CacheError


def load_frames(build: FrameBuild, cache_dir: Path) -> Frames:
    """Return the frames, from ``frames/<key>/`` in the cache where they were decoded before.

    Frames whose mask has no labelled pixel are kept, and their number is logged once.

    Raises:
        DataError: a frame cannot be decoded.
        CacheError: the cache folder cannot be written, or the disk is too small.
    """
    folder = cache_dir / "frames" / build.key()
    with report_write_errors("frame cache", cache_dir):
        found = read_frames(folder, build)
        if found is not None:
            return found
        _check_room(build, cache_dir, free_bytes(folder.parent))
        return write_whole(folder, build.write, lambda: read_frames(folder, build))


def _check_room(build: FrameBuild, cache_dir: Path, free: int) -> None:
    height, width = build.shape
    need = len(build.frames) * height * width * 4
    if need > 0.9 * free:
        raise CacheError(
            f"{build.dataset}/{build.domain}: {need / 1e9:.2g} GB of decoded frames do not fit in "
            f"{cache_dir} ({free / 1e9:.2g} GB free); give a smaller --image-size or another "
            "--cache-dir"
        )


def read_frames(folder: Path, build: FrameBuild) -> Frames | None:
    """Return the cached frames, or None where the folder is absent, or was damaged."""

    def read(facts: dict[str, Any]) -> Frames:
        images, masks = CachedImages(folder / "images.npy"), CachedImages(folder / "masks.npy")
        count, unlabelled = len(build.frames), int(facts["unlabelled"])
        check_array("images.npy", images, (count, *build.shape, 3))
        check_array("masks.npy", masks, (count, *build.shape))
        if unlabelled:
            warn_once(
                f"{build.dataset}/{build.domain}: {unlabelled} of {count} frames have no "
                "labelled pixel; they are kept, and no score counts them"
            )
        return Frames(images, masks, str(facts["digest"]))

    return read_sealed("frame cache", folder, read)
