"""What is made from the image files of one domain: the contents of a new cache folder."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from dabench.datasets.caching.cache_folder import seal, sync_to_disk
from dabench.datasets.decoding.images import decode, hash_picture
from dabench.errors import DataError, one_line

FORMAT = "2"  # part of every key: raise it whenever the pixels or the files change
CHUNK = 256  # images that are decoded ahead of the writer
Item = TypeVar("Item")
Made = TypeVar("Made")
QUIET = 500  # up to so many images no progress bar is shown; off a terminal there is none at all


class Entry(NamedTuple):
    """One image file: ``domain/class/file``, where it lies, and its class index."""

    name: str
    path: Path
    label: int


class ImageBuild(NamedTuple):
    """What a cache folder is made from: files in their final order, side in pixels, and crop."""

    dataset: str
    domain: str
    entries: Sequence[Entry]
    size: int
    crop: float | None = None

    @property
    def form(self) -> str:
        """Return what decides pixels beside the files."""
        return f"{self.size}" if self.crop is None else f"{self.size}, crop {self.crop}"

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Return (N,) class indices in the final order."""
        return np.array([entry.label for entry in self.entries], dtype=np.int64)

    def key(self) -> str:
        """Return a folder name that changes with any file's place, name, class, size or time."""
        sha = hashlib.sha256(f"{FORMAT}|{self.form}\n".encode())
        for folder in folders_of(entry.path for entry in self.entries):
            sha.update(folder + b"\n")
        for entry in self.entries:
            try:
                stat = entry.path.stat()
            except OSError as error:
                raise DataError(f"cannot read {entry.path}: {error.strerror}") from error
            facts = f"{entry.name}|{entry.label}|{stat.st_size}|{stat.st_mtime_ns}\n"
            sha.update(facts.encode(errors="surrogateescape"))
        readable = re.sub(r"[^\w.-]", "_", f"{self.dataset}-{self.domain}-{self.size}")
        return f"{readable}-{sha.hexdigest()[:16]}"

    def map_paths(
        self, make: Callable[[Path], tuple[Any, str]], verb: str
    ) -> Iterator[tuple[Any, str]]:
        """Yield ``make(path)`` in order, a few threads ahead."""
        return map_ahead(make, [entry.path for entry in self.entries], f"{verb} {self.domain}")

    def write_pixels(self, folder: Path) -> None:
        """Write ``images.npy``, ``labels.npy`` and ``meta.json`` (digest) into an empty folder."""
        hashes = []
        with (folder / "images.npy").open("wb") as file:
            shape = (len(self.entries), self.size, self.size, 3)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for picture, sha in self.map_paths(
                lambda path: decode(path, self.size, self.dataset, self.crop), "decoding"
            ):
                file.write(picture.tobytes())  # not through a map: a full disk must raise
                hashes.append(sha)
            sync_to_disk(file)
        with (folder / "labels.npy").open("wb") as file:
            np.save(file, self.labels)
            sync_to_disk(file)
        self._write_meta(folder, hashes)

    def write_links(self, folder: Path) -> None:
        """Write links named by number into an empty folder."""
        for i, entry in enumerate(self.entries):
            link_path(folder, i).symlink_to(entry.path.absolute())

    def write_digest(self, folder: Path) -> None:
        """Write ``meta.json`` (digest) into an empty folder."""
        hashes = []
        for _, sha in self.map_paths(hash_picture, "reading"):
            hashes.append(sha)
            os.utime(folder)  # nothing is written for long, and the folder must not look left over
        self._write_meta(folder, hashes)

    def _write_meta(self, folder: Path, hashes: list[str]) -> None:
        digest = hashlib.sha256(f"size {self.form}\n".encode())
        for entry, sha in zip(self.entries, hashes, strict=True):
            digest.update(f"{sha} {entry.name}\n".encode(errors="surrogateescape"))
        seal(folder, digest=digest.hexdigest())


def folders_of(paths: Iterable[Path]) -> list[bytes]:
    """Return the folders that hold files, in order of their names, links followed.

    They are part of a key: what lies elsewhere may have other content though names, sizes and times
    are the same, as versions of a set from archives are.
    """
    folders = sorted({path.parent for path in paths})
    return [os.fsencode(os.path.realpath(folder)) for folder in folders]


def link_path(folder: Path, row: int) -> Path:
    """Return the path of a link: a number, so that it tells no class."""
    return folder / f"{row:08d}"


def map_ahead(
    make: Callable[[Item], Made], items: Sequence[Item], title: str, chunk: int = CHUNK
) -> Iterator[Made]:
    """Yield ``make(item)`` in order, a few threads and at most ``chunk`` items ahead."""
    total = len(items)
    bar = tqdm(total=total, desc=one_line(title), unit="img", disable=total <= QUIET or None)
    with bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, total, chunk):
            for made in pool.map(make, items[start : start + chunk]):
                yield made
                bar.update()
