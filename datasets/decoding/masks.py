"""One mask file -> class indices at the size of its frame, and the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dabench.datasets.decoding.images import upright
from dabench.datasets.frame_folders.dense_ids import MaskIds
from dabench.errors import DataError

_FOUND = {
    "1": "a black-and-white image",
    "L": "one 8-bit grey channel",
    "P": "a palette image, whose numbers are places in its palette",
    "RGB": "an 8-bit RGB image (colours, not ids)",
    "RGBA": "an 8-bit RGBA image (colours, not ids)",
    "I": "one 16-bit grey channel",
    "I;16": "one 16-bit grey channel",
}
_MODES = {"grey": ("L",), "indexed": ("L", "P")}


class Mask(NamedTuple):
    """A mask: (H, W) uint8 class indices, (height, width) of the file, SHA-256 of the file."""

    pixels: npt.NDArray[np.uint8]
    size: tuple[int, int]
    digest: str


def decode_mask(
    path: Path, shape: tuple[int, int], ids: MaskIds, table: npt.NDArray[np.uint8], dataset: str
) -> Mask:
    """Return the mask's class indices, resized to ``shape`` = (height, width) with nearest.

    Args:
        path: the mask file.
        shape: height and width of the result in pixels.
        ids: how the file keeps its numbers, and which ones there are.
        table: (256,) number -> class index or ``IGNORE`` (``ids.table``).
        dataset: name for messages.

    Raises:
        DataError: an unreadable file, another kind of image than expected, or a number outside
            the map (judged at full size); names the file, what was found and what was expected.
    """
    from PIL import Image

    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read mask {path}: {error.strerror}; mend the folder") from error
    numbers: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    if ids.storage == "rgb16":
        numbers, turned = _first_of_16_bit(data, path, ids), False
    elif ids.storage == "colours":
        numbers, turned = _by_colour(data, path, ids, dataset)
    else:
        numbers, turned = _one_channel(data, path, ids)
    found = np.flatnonzero(np.bincount(numbers.ravel(), minlength=256))
    outside = [int(value) for value in found if int(value) not in ids.names]
    if outside:
        raise DataError(f"{_outside(path, outside, ids)} `dabench data check {dataset}`")
    height, width = shape
    small = Image.fromarray(table[numbers]).resize((width, height), Image.Resampling.NEAREST)
    size = (numbers.shape[0], numbers.shape[1])
    # the digest stands for the pixels: earlier versions did not turn masks
    digest = hashlib.sha256(data + (b"upright " if turned else b"")).hexdigest()
    return Mask(np.asarray(small, dtype=np.uint8), size, digest)


def _one_channel(data: bytes, path: Path, ids: MaskIds) -> tuple[npt.NDArray[np.uint8], bool]:
    """Return the numbers, upright as the frame is, and whether they were turned."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode not in _MODES[ids.storage]:
                found = _FOUND.get(image.mode, f"an image of mode {image.mode}")
                raise _other_layout(path, found, ids)
            whole, turned = upright(image)
            return np.array(whole, dtype=np.uint8), turned
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        raise DataError(
            f"cannot decode mask {path}; expected {ids.layout}; replace the file"
        ) from error


def _outside(path: Path, values: Sequence[object], ids: MaskIds) -> str:
    more = f" and {len(values) - 6} more" if len(values) > 6 else ""
    return (
        f"mask {path} holds label values outside the map: {', '.join(map(str, values[:6]))}{more}; "
        f"expected {ids.layout}; replace the file, and look for more with"
    )


def _by_colour(
    data: bytes, path: Path, ids: MaskIds, dataset: str
) -> tuple[npt.NDArray[np.uint8], bool]:
    """Return the numbers of a mask of colours, upright, and whether it was turned."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            whole, turned = upright(image)
            pixels = np.asarray(whole.convert("RGB"), dtype=np.uint32)
    except Exception as error:  # as above
        raise DataError(
            f"cannot decode mask {path}; expected {ids.layout}; replace the file"
        ) from error
    found = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    colours = np.array(sorted(ids.colours), dtype=np.uint32)
    place = np.searchsorted(colours, found).clip(max=len(colours) - 1)
    strange = np.unique(found[colours[place] != found])
    if len(strange):
        named = [f"#{value:06x}" for value in strange.tolist()]
        raise DataError(f"{_outside(path, named, ids)} `dabench data check {dataset}`")
    numbers = np.array([ids.colours[int(value)] for value in colours], dtype=np.uint8)
    return numbers[place], turned


def _first_of_16_bit(data: bytes, path: Path, ids: MaskIds) -> npt.NDArray[np.uint16]:
    # Pillow keeps only the upper byte of such files
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if whole is None:
        raise DataError(f"cannot decode mask {path}; expected {ids.layout}; replace the file")
    if whole.dtype != np.uint16 or whole.ndim != 3:
        channels = whole.shape[2] if whole.ndim == 3 else 1
        found = f"{8 * whole.itemsize}-bit values in {channels} channel(s)"
        raise _other_layout(path, found, ids)
    first: npt.NDArray[np.uint16] = np.ascontiguousarray(whole[..., 2])  # it answers in BGR
    return first


def _other_layout(path: Path, found: str, ids: MaskIds) -> DataError:
    return DataError(
        f"mask {path} is {found}; expected {ids.layout}; put the masks of that layout in its place"
    )
