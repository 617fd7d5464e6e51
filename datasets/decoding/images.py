"""One image file -> pixels and the SHA-256 of its bytes: the one place that reads pictures.

The rules, in their order: the first frame or page; upright by its EXIF orientation; grey values of
more than 8 bits scaled by their type's range; colour profile and alpha dropped; RGB.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from dabench.datasets.decoding.picture_files import formats
from dabench.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL import Image

LIMIT = "DABENCH_MAX_PIXELS"  # environment variable: height x width of the largest picture read
_USUAL_LIMIT = 178_956_970  # Pillow's own
_ORIENTATION = 0x0112  # of EXIF
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF; photometric 0: white is zero
Pictures = npt.NDArray[np.uint8]


def decode(path: Path, size: int, dataset: str, crop: float | None = None) -> tuple[Pictures, str]:
    """Return a (size, size, 3) uint8 picture (antialiased bilinear) and the SHA-256 of the file.

    Args:
        path: of the file.
        size: side in pixels.
        dataset: for messages.
        crop: share of the shorter side that the central square has which is read; None = the whole
            picture, squeezed. .875 at 224 px is ``Resize(256)`` and ``CenterCrop(224)`` of
            torchvision, to the pixel.

    Raises:
        DataError: the file cannot be read or is no complete image; names it.
    """
    picture, digest, _ = decode_sized(path, (size, size), dataset, crop)
    return picture, digest


def decode_sized(
    path: Path, shape: tuple[int, int], dataset: str, crop: float | None = None
) -> tuple[Pictures, str, tuple[int, int]]:
    """Return what :func:`decode` does at (height, width), and height and width of the file.

    Raises:
        DataError: the file cannot be read or is no complete image; names it.
    """
    from PIL import Image

    try:
        whole, digest = read_picture(path)
    except DataError as error:
        raise DataError(
            f"{error}; replace the file, and look for more with `dabench data check {dataset}`"
        ) from error
    if crop is None:
        small = whole.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    else:
        small = _central(whole, shape, crop)
    return np.asarray(small, dtype=np.uint8), digest, (whole.height, whole.width)


def _central(whole: Image.Image, shape: tuple[int, int], crop: float) -> Image.Image:
    """Resize a picture so that its shorter side is shape / crop, and cut its centre out."""
    from PIL import Image

    short = round(min(shape) / crop)
    width, height = (short * side // min(whole.size) for side in whole.size)
    left, top = round((width - shape[1]) / 2), round((height - shape[0]) / 2)
    larger = whole.resize((width, height), Image.Resampling.BILINEAR)
    return larger.crop((left, top, left + shape[1], top + shape[0]))


def read_picture(path: Path) -> tuple[Image.Image, str]:
    """Return a picture in RGB at its own size, and the SHA-256 of the file and of special rules.

    Raises:
        ConfigError: ``DABENCH_MAX_PIXELS`` is no number.
        DataError: the file cannot be read, is no complete image, or larger than allowed; names it.
    """
    from PIL import Image

    most = _most_pixels()
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit cannot be set by a user; ours is below
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            if image.width * image.height > most:
                raise ValueError(
                    f"more than {most} pixels, as in files made to fill the memory; where it is "
                    f"yours, set {LIMIT} to its height x width"
                )
            picture, turned = upright(image)
            picture, changes = eight_bits(picture, image)
            # a palette with transparency must become RGBA first
            if "transparency" in picture.info:
                picture = picture.convert("RGBA")
            picture = picture.convert("RGB")
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        raise DataError(f"cannot decode {os.path.realpath(path)} ({_reason(error)})") from error
    # the digest stands for the pixels: what earlier versions read otherwise has another one
    rules = ("upright " if turned else "") + changes
    return picture, hashlib.sha256(data + rules.encode()).hexdigest()


def upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """Turn a picture as its EXIF orientation says, as every viewer does; say whether it did."""
    from PIL import Image

    image.load()  # TIFF files are turned here, by Pillow
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - damaged tags leave a picture as it is, in viewers too
        orientation = None
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation if isinstance(orientation, int) else 1)
    return (image, False) if turn is None else (image.transpose(turn), True)


def _most_pixels() -> int:
    text = os.environ.get(LIMIT, "") or str(_USUAL_LIMIT)
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ConfigError(f"{LIMIT}={text}: expected a whole number of pixels, 1 or more")
    return int(text)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("<")[0].strip() or type(error).__name__


def eight_bits(picture: Image.Image, file: Image.Image) -> tuple[Image.Image, str]:
    """Bring grey values of more than 8 bits to 0-255 by their type's range; name the rule.

    16 bits: v / 257. 12 bits (TIFF): 255 v / 4095. Floats: 255 v, where all lie in [0, 1]. TIFF
    files in which white is zero are inverted.

    Args:
        picture: in any mode.
        file: what it was opened as, whose format and tags say more; a picture without a file is
            its own.

    Raises:
        ValueError: signed or 32-bit whole numbers, or floats outside [0, 1]: their range is not
            known.
    """
    from PIL import Image

    tags = getattr(file, "tag_v2", {})
    inverted = tags.get(_PHOTOMETRIC) == 0  # Pillow inverts 8 bits alone
    # some versions of Pillow open 16-bit PNG and PGM files as 32-bit whole numbers
    if picture.mode.startswith("I;16") or (picture.mode == "I" and file.format in {"PNG", "PPM"}):
        bits = 12 if tags.get(_BITS) == (12,) else 16
        values = np.asarray(picture, dtype=np.float64) / ((2**bits - 1) / 255)
    elif picture.mode == "F":
        bits, values = 0, np.asarray(picture)
        # not (inside) rather than outside: it also refuses what is no number
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError("float values outside [0, 1]; save it with 8 or 16 bits")
        values = values * 255.0
    elif picture.mode == "I":
        raise ValueError("signed or 32-bit whole numbers of unknown range; save it with 8 bits")
    else:
        return picture, ""
    values = 255.0 - values if inverted else values
    rule = (f"{bits} bits" if bits else "floats") + (", white is zero" if inverted else "")
    return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8)), rule


def hash_picture(path: Path) -> tuple[None, str]:
    """Return nothing (no pixels are needed) and the digest that ``read_picture`` returns.

    A JPEG that no rule turns, as nearly all are, is hashed without being decoded.
    """
    try:
        with path.open("rb") as file:
            if _is_plain_jpeg(file):
                file.seek(0)
                return None, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return None, read_picture(path)[1]


def _is_plain_jpeg(file: BinaryIO) -> bool:
    from PIL import Image

    try:
        with Image.open(file, formats=("JPEG",)) as found:
            return found.getexif().get(_ORIENTATION, 1) not in range(2, 9)
    except Exception:  # noqa: BLE001 - another format, or damaged: to be decoded, which says so
        return False
