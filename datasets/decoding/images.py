"""One image file -> pixels and the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dabench.errors import DataError

Pictures = npt.NDArray[np.uint8]


def decode(path: Path, size: int, dataset: str) -> tuple[Pictures, str]:
    """Return a (size, size, 3) uint8 picture (antialiased bilinear) and the SHA-256 of the file.

    Raises:
        DataError: the file cannot be read or is no complete image; names it.
    """
    picture, digest, _ = decode_sized(path, (size, size), dataset)
    return picture, digest


def decode_sized(
    path: Path, shape: tuple[int, int], dataset: str
) -> tuple[Pictures, str, tuple[int, int]]:
    """Return what :func:`decode` does at (height, width), and height and width of the file.

    Raises:
        DataError: the file cannot be read or is no complete image; names it.
    """
    from PIL import Image

    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            own = (image.height, image.width)
            # a palette with transparency must become RGBA first
            whole = image.convert("RGBA") if "transparency" in image.info else image
            size = (shape[1], shape[0])
            small = whole.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).split("<")[0].strip() or type(error).__name__
        raise DataError(
            f"cannot decode {os.path.realpath(path)} ({reason}); replace the file, and look for "
            f"more with `dabench data check {dataset}`"
        ) from error
    return np.asarray(small, dtype=np.uint8), hashlib.sha256(data).hexdigest(), own


def hash_file(path: Path) -> tuple[None, str]:
    """Return nothing (no pixels are needed) and the SHA-256 of the file."""
    try:
        with path.open("rb") as file:
            return None, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
