"""Image files -> ``Labelled``: decoded once into a memory map, or decoded as they stream.

The order is that of the hashed relative paths: folder order is sorted by class, so there a
position would be a label. Labels lie in a file of their own, and no path with a class name is
handed out. A cache folder is named after what it was made from (names, sizes and times of the
files), is written under a temporary name and renamed whole: it is complete or absent, and never
changed afterwards.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from dabench.contract.data import Labelled
from dabench.errors import CacheError, DataError

log = logging.getLogger("dabench")
T = TypeVar("T")
Pictures = npt.NDArray[np.uint8]
FORMAT = "1"  # part of every key: raise it whenever the pixels or the files change
CHUNK = 256  # images that are decoded ahead of the writer
QUIET = 500  # up to so many images no progress bar is shown
STALE = 3600.0  # seconds without a write after which a temporary folder was left by a dead process


class Entry(NamedTuple):
    """One image file: ``domain/class/file``, where it lies, and its class index."""

    name: str
    path: Path
    label: int


class CachedImages:
    """Memory-mapped (N, S, S, 3) uint8 pictures; a spawned worker gets the path, not the pixels."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._array: Pictures = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> Pictures:
        picked = self._array[index]
        return np.array(picked) if isinstance(picked, np.memmap) else picked

    def __reduce__(self) -> tuple[type[CachedImages], tuple[Path]]:
        return CachedImages, (self._path,)


class StreamedImages:
    """Pictures that are decoded whenever they are asked for: (B,) positions -> (B, S, S, 3) uint8.

    It knows a folder of links named by number, their count and the side S; no class name.
    """

    def __init__(self, folder: Path, count: int, size: int, dataset: str) -> None:
        self._folder = folder
        self._count = count
        self._size = size
        self._dataset = dataset

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Pictures:
        rows = np.arange(self._count)[index]
        out = np.empty((rows.size, self._size, self._size, 3), np.uint8)
        for i, row in enumerate(rows.reshape(-1)):
            out[i], _ = decode(_link(self._folder, int(row)), self._size, self._dataset)
        return out.reshape(*rows.shape, *out.shape[1:])


def load_images(
    dataset: str, domain: str, entries: Sequence[Entry], size: int, cache_dir: Path
) -> Labelled:
    """Return the images in name-hashed order, from the cache where they were decoded before.

    Args:
        dataset: name for messages and the cache key.
        domain: name for messages and the cache key.
        entries: the files, in any order.
        size: side in pixels; the aspect ratio is not kept.
        cache_dir: ``images/<key>/`` is made here, or ``links/<key>/`` where the disk is too small.

    Returns:
        Images (N, size, size, 3) uint8, labels (N,) int64, and a digest over names and file bytes.

    Raises:
        DataError: an image cannot be decoded.
        CacheError: the cache folder cannot be written.
    """
    ordered = sorted(entries, key=lambda e: hashlib.sha256(os.fsencode(e.name)).digest())
    build = _Build(dataset, domain, ordered, size)
    folder = cache_dir / "images" / build.key()
    need = len(ordered) * size * size * 3
    try:
        found = _read(folder, len(ordered), size)
        if found is None and need > 0.9 * (free := free_bytes(cache_dir)):
            _say_once(
                f"{dataset}/{domain}: {need / 1e9:.2g} GB of decoded images do not fit in "
                f"{cache_dir} ({free / 1e9:.2g} GB free); decoding as they stream, which is slower"
            )
            return _streamed(cache_dir, build)
        return found or _publish(
            folder, build.write_pixels, lambda: _read(folder, len(ordered), size)
        )
    except OSError as error:
        raise CacheError(
            f"image cache in {cache_dir}: {error.strerror or error}; free some space or give "
            "another --cache-dir"
        ) from error


def decode(path: Path, size: int, dataset: str) -> tuple[Pictures, str]:
    """Return a (size, size, 3) uint8 picture (antialiased bilinear) and the SHA-256 of the file.

    Raises:
        DataError: the file cannot be read or is no complete image; names it.
    """
    from PIL import Image

    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            # a palette with transparency must become RGBA first
            whole = image.convert("RGBA") if "transparency" in image.info else image
            small = whole.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).split("<")[0].strip() or type(error).__name__
        raise DataError(
            f"cannot decode {os.path.realpath(path)} ({reason}); replace the file, and look for "
            f"more with `dabench data check {dataset}`"
        ) from error
    return np.asarray(small, dtype=np.uint8), hashlib.sha256(data).hexdigest()


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that holds (or will hold) a folder."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


class _Build(NamedTuple):
    """What a cache folder is made from: files in their final order, and the side in pixels."""

    dataset: str
    domain: str
    entries: Sequence[Entry]
    size: int

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        return np.array([entry.label for entry in self.entries], dtype=np.int64)

    def key(self) -> str:
        """Return a folder name that changes with any file's name, class, size or time."""
        sha = hashlib.sha256(f"{FORMAT}|{self.size}\n".encode())
        for entry in self.entries:
            try:
                stat = entry.path.stat()
            except OSError as error:
                raise DataError(f"cannot read {entry.path}: {error.strerror}") from error
            facts = f"{entry.name}|{entry.label}|{stat.st_size}|{stat.st_mtime_ns}\n"
            sha.update(facts.encode(errors="surrogateescape"))
        readable = re.sub(r"[^\w.-]", "_", f"{self.dataset}-{self.domain}-{self.size}")
        return f"{readable}-{sha.hexdigest()[:16]}"

    def each(self, make: Callable[[Path], tuple[Any, str]], verb: str) -> Iterator[tuple[Any, str]]:
        """Yield ``make(path)`` in order, a few threads ahead."""
        total = len(self.entries)
        bar = tqdm(total=total, desc=f"{verb} {self.domain}", unit="img", disable=total <= QUIET)
        with bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, total, CHUNK):
                for made in pool.map(make, [e.path for e in self.entries[start : start + CHUNK]]):
                    yield made
                    bar.update()

    def write_pixels(self, folder: Path) -> None:
        """Write ``images.npy``, ``labels.npy`` and ``meta.json`` (digest) into an empty folder."""
        hashes = []
        with (folder / "images.npy").open("wb") as file:
            shape = (len(self.entries), self.size, self.size, 3)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for picture, sha in self.each(
                lambda path: decode(path, self.size, self.dataset), "decoding"
            ):
                file.write(picture.tobytes())  # not through a map: a full disk must raise
                hashes.append(sha)
            _sync(file)
        with (folder / "labels.npy").open("wb") as file:
            np.save(file, self.labels)
            _sync(file)
        self._write_meta(folder, hashes)

    def write_links(self, folder: Path) -> None:
        """Write links named by number into an empty folder."""
        for i, entry in enumerate(self.entries):
            _link(folder, i).symlink_to(entry.path.absolute())

    def write_digest(self, folder: Path) -> None:
        """Write ``meta.json`` (digest) into an empty folder."""
        self._write_meta(folder, [sha for _, sha in self.each(_hash_file, "reading")])

    def _write_meta(self, folder: Path, hashes: list[str]) -> None:
        digest = hashlib.sha256(f"size {self.size}\n".encode())
        for entry, sha in zip(self.entries, hashes, strict=True):
            digest.update(f"{sha} {entry.name}\n".encode(errors="surrogateescape"))
        with (folder / "meta.json").open("wb") as file:
            file.write(json.dumps({"digest": digest.hexdigest()}).encode())
            _sync(file)


def _streamed(cache_dir: Path, build: _Build) -> Labelled:
    """Make (once) the links, and the digest, which lies elsewhere than the links."""
    count = len(build.entries)
    place = hashlib.sha256(os.fsencode(build.entries[0].path.absolute())).hexdigest()[:8]
    links = cache_dir / "links" / f"{build.key()}-{place}"
    meta = cache_dir / "digests" / build.key()

    def complete() -> bool | None:
        return (links.is_dir() and len(os.listdir(links)) == count) or None

    if not complete():
        _publish(links, build.write_links, complete)
    digest = _read_digest(meta) or _publish(meta, build.write_digest, lambda: _read_digest(meta))
    return Labelled(StreamedImages(links, count, build.size, build.dataset), build.labels, digest)


def _read(folder: Path, count: int, size: int) -> Labelled | None:
    """Return the cached images, or None where the folder is absent or damaged (said once)."""
    if not folder.exists():
        return None
    with suppress(OSError, ValueError, EOFError):
        images, labels = CachedImages(folder / "images.npy"), np.load(folder / "labels.npy")
        digest, none = _read_digest(folder), images[:0]
        whole = none.shape == (0, size, size, 3) and none.dtype == np.uint8 and len(images) == count
        if whole and labels.shape == (count,) and digest is not None:
            return Labelled(images, labels.astype(np.int64), digest)
    _say_once(f"image cache {folder} is damaged; building it again")
    return None


def _read_digest(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "meta.json").read_text())["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _publish(folder: Path, write: Callable[[Path], None], read: Callable[[], T | None]) -> T:
    """Write a folder under a temporary name, rename it and read it.

    Where another process was quicker its work is kept; a damaged folder is replaced.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        write(temporary)
        for _ in range(3):
            with suppress(OSError):  # the name is taken: by a good twin, or by a damaged folder
                os.replace(temporary, folder)
            done = read()
            if done is not None:
                return done
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    raise CacheError(f"image cache {folder} is damaged; delete it and run again")


def _sweep(folder: Path) -> None:
    """Remove temporary folders of this name that a killed process left behind."""
    for old in folder.parent.glob(f".{folder.name}.*"):
        with suppress(OSError):
            if time.time() - max(p.stat().st_mtime for p in (old, *old.iterdir())) > STALE:
                shutil.rmtree(old)


def _hash_file(path: Path) -> tuple[None, str]:
    try:
        with path.open("rb") as file:
            return None, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _link(folder: Path, row: int) -> Path:
    return folder / f"{row:08d}"


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


@functools.cache
def _say_once(message: str) -> None:
    log.warning(message)
