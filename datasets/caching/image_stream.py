"""Images decoded whenever they are asked for, where the disk would not hold them decoded."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from dabench.contract.data import Labelled
from dabench.datasets.caching.cache_folder import log, read_sealed, sweep, write_whole
from dabench.datasets.caching.image_build import ImageBuild, link_path
from dabench.datasets.decoding.images import Pictures, decode


class StreamedImages:
    """Pictures that are decoded whenever they are asked for: (B,) positions -> (B, S, S, 3) uint8.

    It knows a folder of links named by number, their count and the side S; no class name.
    """

    def __init__(
        self, folder: Path, count: int, size: int, dataset: str, crop: float | None = None
    ) -> None:
        self._folder = folder
        self._count = count
        self._size = size
        self._dataset = dataset
        self._crop = crop

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Pictures:
        rows = np.arange(self._count)[index]
        out = np.empty((rows.size, self._size, self._size, 3), np.uint8)
        for i, row in enumerate(rows.reshape(-1)):
            path = link_path(self._folder, int(row))
            out[i], _ = decode(path, self._size, self._dataset, self._crop)
        return out.reshape(*rows.shape, *out.shape[1:])


def stream_images(cache_dir: Path, build: ImageBuild) -> Labelled:
    """Make (once) the links, and the digest, which lies elsewhere than the links."""
    place = hashlib.sha256(os.fsencode(build.entries[0].path.absolute())).hexdigest()[:8]
    links = cache_dir / "links" / f"{build.key()}-{place}"
    meta = cache_dir / "digests" / f"{build.key()}-2"  # 1: of the files' bytes alone

    def complete() -> bool | None:
        return _links_are_right(links, build) or None

    def digest() -> str | None:
        return read_sealed("digest of images", meta, lambda facts: str(facts["digest"]))

    if not complete():
        write_whole(links, build.write_links, complete)
    found = digest() or write_whole(meta, build.write_digest, digest)
    images = StreamedImages(links, len(build.entries), build.size, build.dataset, build.crop)
    return Labelled(images, build.labels, found)


def _links_are_right(folder: Path, build: ImageBuild) -> bool:
    """Say whether every link leads to its image; warn where a folder is there and one does not."""
    if not folder.exists():
        return False
    sweep(folder.parent)
    try:
        right = len(os.listdir(folder)) == len(build.entries) and all(
            os.readlink(link_path(folder, i)) == os.fspath(entry.path.absolute())
            for i, entry in enumerate(build.entries)
        )
    except OSError:
        right = False
    if not right:
        log.warning("links to images %s cannot be used; making them again", folder)
        shutil.rmtree(folder, ignore_errors=True)
    return right
