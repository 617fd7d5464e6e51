"""What is made from the frames of one part: the contents of a new cache folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dabench.contract.types import IGNORE
from dabench.datasets.caching.cache_folder import seal, sync_to_disk
from dabench.datasets.caching.image_build import folders_of, map_ahead
from dabench.datasets.decoding.images import Pictures, decode_sized
from dabench.datasets.decoding.masks import decode_mask
from dabench.datasets.frame_folders.dense_ids import MaskIds
from dabench.datasets.frame_folders.frame_files import Pair
from dabench.errors import DataError

FORMAT = "1"  # part of every key: raise it whenever the pixels or the files change
CHUNK = 32  # frames that are decoded ahead of the writer


class Frame(NamedTuple):
    """(H, W, 3) picture, (H, W) class indices, SHA-256 of both files."""

    picture: Pictures
    mask: Pictures
    digest: str


class FrameBuild(NamedTuple):
    """What a cache folder is made from: frames in their order, classes, (height, width)."""

    dataset: str
    domain: str
    frames: Sequence[Pair]
    classes: tuple[str, ...]
    shape: tuple[int, int]

    def _start(self) -> str:
        """Return what every frame depends on: size, classes and the maps of numbers and colours."""
        kinds = self._kinds()
        maps = [ids.table(self.classes).tobytes().hex() for ids in kinds]
        colours = [sorted(ids.colours.items()) for ids in kinds if ids.colours]
        return f"{self.shape}|{self.classes}|{maps}{colours or ''}\n"

    def _kinds(self) -> list[MaskIds]:
        kinds = {pair.ids.layout: pair.ids for pair in self.frames}
        return [kinds[layout] for layout in sorted(kinds)]

    def key(self) -> str:
        """Return a folder name that changes with a file's place, name, size or time, or the map."""
        sha = hashlib.sha256(f"{FORMAT}|{self._start()}".encode())
        # a number that is ignored and one that is refused look alike in the maps
        sha.update(str([sorted(ids.names.items()) for ids in self._kinds()]).encode())
        for folder in folders_of(path for pair in self.frames for path in (pair.image, pair.mask)):
            sha.update(folder + b"\n")
        for pair in self.frames:
            try:
                stats = [path.stat() for path in (pair.image, pair.mask)]
            except OSError as error:
                raise DataError(f"cannot read {error.filename}: {error.strerror}") from error
            facts = "|".join(f"{stat.st_size}|{stat.st_mtime_ns}" for stat in stats)
            sha.update(f"{pair.name}|{pair.mask.name}|{facts}\n".encode(errors="surrogateescape"))
        height, width = self.shape
        words = f"{self.dataset}-{self.domain}-{height}x{width}"
        readable = re.sub(r"[^\w.-]", "_", words)
        return f"{readable}-{sha.hexdigest()[:16]}"

    def decode(self, pair: Pair) -> Frame:
        """Return one frame at the build's size.

        Raises:
            DataError: an unreadable file, a mask of another kind, a number outside the map, or an
                image and a mask of different sizes.
        """
        picture, digest, size = decode_sized(pair.image, self.shape, self.dataset)
        table = pair.ids.table(self.classes)
        mask = decode_mask(pair.mask, self.shape, pair.ids, table, self.dataset)
        if size != mask.size:
            raise DataError(
                f"image {pair.image} is {size[1]} x {size[0]} pixels and its mask {pair.mask} "
                f"{mask.size[1]} x {mask.size[0]}; expected the same size; replace one of them or "
                "remove both"
            )
        return Frame(picture, mask.pixels, f"{digest} {mask.digest}")

    def write(self, folder: Path) -> None:
        """Write ``images.npy``, ``masks.npy`` and ``meta.json`` into an empty folder."""
        digest, unlabelled = hashlib.sha256(self._start().encode()), 0
        with (
            (folder / "images.npy").open("wb") as images,
            (folder / "masks.npy").open("wb") as masks,
        ):
            count = len(self.frames)
            for file, shape in ((images, (count, *self.shape, 3)), (masks, (count, *self.shape))):
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            title = f"decoding {self.domain}"
            made = map_ahead(self.decode, self.frames, title, CHUNK)
            for pair, frame in zip(self.frames, made, strict=True):
                images.write(frame.picture.tobytes())  # not through a map: a full disk must raise
                masks.write(frame.mask.tobytes())
                unlabelled += bool((frame.mask == IGNORE).all())
                line = f"{frame.digest} {pair.name}\n"
                digest.update(line.encode(errors="surrogateescape"))
            sync_to_disk(images)
            sync_to_disk(masks)
        seal(folder, digest=digest.hexdigest(), unlabelled=unlabelled)
