"""One image file -> pixels and the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dabench.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION = 0x0112  # of EXIF
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
            upright, changes = _eight_bits(_upright(image), image.format or "")
            own = (upright.height, upright.width)
            # a palette with transparency must become RGBA first
            whole = upright.convert("RGBA") if "transparency" in upright.info else upright
            size = (shape[1], shape[0])
            small = whole.convert("RGB").resize(size, Image.Resampling.BILINEAR)
            turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).split("<")[0].strip() or type(error).__name__
        raise DataError(
            f"cannot decode {os.path.realpath(path)} ({reason}); replace the file, and look for "
            f"more with `dabench data check {dataset}`"
        ) from error
    # the digest stands for the pixels: what earlier versions read otherwise has another one
    rules = ("upright " if turned else "") + changes
    return np.asarray(small, dtype=np.uint8), hashlib.sha256(data + rules.encode()).hexdigest(), own


def _upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says, as every viewer does."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _eight_bits(image: Image.Image, format: str) -> tuple[Image.Image, str]:
    """Bring grey values of more than 8 bits to 0-255 by their type's range; name the rule.

    16 bits: v / 257. Floats: 255 v, where all lie in [0, 1].

    Raises:
        ValueError: 32-bit whole numbers, or floats outside [0, 1]: their range is not known.
    """
    from PIL import Image

    # some versions of Pillow open 16-bit PNG and PGM files as 32-bit whole numbers
    if image.mode.startswith("I;16") or (image.mode == "I" and format in {"PNG", "PPM"}):
        values = np.asarray(image, dtype=np.float64) / 257.0
        return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8)), "16 bits"
    if image.mode == "F":
        found = np.asarray(image)
        # not (inside) rather than outside: it also refuses what is no number
        if not bool(((found >= 0) & (found <= 1)).all()):
            raise ValueError("float values outside [0, 1]; save it with 8 or 16 bits")
        return Image.fromarray(np.rint(found * 255.0).astype(np.uint8)), "floats"
    if image.mode == "I":
        raise ValueError("32-bit whole numbers of unknown range; save it with 8 or 16 bits")
    return image, ""


def hash_file(path: Path) -> tuple[None, str]:
    """Return nothing (no pixels are needed) and the SHA-256 of the file."""
    try:
        with path.open("rb") as file:
            return None, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
