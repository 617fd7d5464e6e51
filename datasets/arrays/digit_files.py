"""Readers of published digits: idx files, npz, LIBSVM text and MATLAB arrays."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dabench.datasets.decoding.images import Pictures
from dabench.errors import DataError, reason_of

Read = tuple[Pictures, np.ndarray[Any, Any]]


class Part(NamedTuple):
    """Files of a part in one layout, and what reads them: (N, 32, 32, 3) and labels 0 to 9."""

    paths: tuple[Path, ...]
    read: Callable[[], Read]


def find_part(home: Path, domain: str, part: str) -> Part | None:
    """Return the files of a part (train or test) of mnist, usps or svhn; None = not there."""
    for found in _LAYOUTS[domain](home, part):
        if all(path.is_file() for path in found.paths):
            return found
    return None


def read_part(found: Part, domain: str) -> Read:
    """Return (N, 32, 32, 3) uint8 pictures and (N,) labels 0 to 9.

    Raises:
        DataError: a damaged file, one of another form, or labels that fit no picture or no digit.
    """
    where = ", ".join(map(str, found.paths))
    try:
        images, labels = found.read()
    except Exception as error:  # zip, zlib, bz2, SciPy and NumPy raise some twenty kinds
        raise DataError(
            f"digit-files: {domain}: {where} cannot be read ({reason_of(error)}); get it again"
        ) from error
    shape = tuple(images.shape[1:])
    if images.dtype != np.uint8 or shape != (32, 32, 3) or len(images) != len(labels):
        raise DataError(
            f"digit-files: {domain}: {where}: {len(images)} pictures of {shape} {images.dtype} and "
            f"{len(labels)} labels; expected as many, of the published size"
        )
    if not len(labels) or labels.min() < 0 or labels.max() > 9:
        raise DataError(f"digit-files: {domain}: {where}: labels are not the digits 0 to 9")
    return images, labels.astype(np.int64)


def _read_idx(path: Path, dimensions: int) -> np.ndarray[Any, Any]:
    """Return the array in an idx file of bytes, packed by gzip or not."""
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    head = 4 + 4 * dimensions
    if raw[:4] != bytes((0, 0, 8, dimensions)) or len(raw) < head:
        raise ValueError(f"no idx file of bytes in {dimensions} dimensions")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", dimensions, 4))
    if len(raw) != head + int(np.prod(shape)):
        raise ValueError(f"{len(raw) - head} bytes, and its head says {shape}")
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)


def _padded(grey: np.ndarray[Any, Any]) -> Pictures:
    """Return (N, 28, 28) as (N, 32, 32, 3): two black pixels around."""
    if grey.dtype != np.uint8 or grey.shape[1:] != (28, 28):
        raise ValueError(f"{grey.dtype} of {grey.shape}, expected uint8 of (N, 28, 28)")
    return np.repeat(np.pad(grey, ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=-1)


def _mnist(home: Path, part: str) -> list[Part]:
    start = {"train": "train", "test": "t10k"}[part]
    found = []
    for folder in (home, home / "raw"):
        for end in ("", ".gz"):
            images = folder / f"{start}-images-idx3-ubyte{end}"
            labels = folder / f"{start}-labels-idx1-ubyte{end}"

            def read(images: Path = images, labels: Path = labels) -> Read:
                return _padded(_read_idx(images, 3)), _read_idx(labels, 1)

            found.append(Part((images, labels), read))
    packed = home / "mnist.npz"

    def read_npz() -> Read:
        with np.load(packed) as file:
            return _padded(file[f"x_{part}"]), file[f"y_{part}"]

    return [*found, Part((packed,), read_npz)]


def _usps(home: Path, part: str) -> list[Part]:
    path = home / {"train": "usps.bz2", "test": "usps.t.bz2"}[part]

    def read() -> Read:
        from PIL import Image
        from sklearn.datasets import load_svmlight_file

        rows, labels = load_svmlight_file(str(path), n_features=256)
        grey = np.clip((rows.toarray() + 1) / 2 * 255, 0, 255).astype(np.uint8).reshape(-1, 16, 16)
        big = [Image.fromarray(g).resize((28, 28), Image.Resampling.BICUBIC) for g in grey]
        return _padded(np.stack([np.asarray(b) for b in big])), labels - 1

    return [Part((path,), read)]


def _svhn(home: Path, part: str) -> list[Part]:
    path = home / f"{part}_32x32.mat"

    def read() -> Read:
        from scipy.io import loadmat

        found = loadmat(str(path), variable_names=("X", "y"))
        return np.ascontiguousarray(found["X"].transpose(3, 0, 1, 2)), found["y"].ravel() % 10

    return [Part((path,), read)]


_LAYOUTS: Mapping[str, Callable[[Path, str], list[Part]]] = {
    "mnist": _mnist,
    "usps": _usps,
    "svhn": _svhn,
}
