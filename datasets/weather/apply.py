"""Weather over batches of pictures: a pure function of pictures, kind, severity, ids and a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dabench.datasets.corruptions.kinds import CORRUPTIONS, EXTRA
from dabench.datasets.weather.albumentations import ALBUMENTATIONS
from dabench.datasets.weather.kind import Kind, Pictures
from dabench.datasets.weather.own import OWN
from dabench.datasets.weather.published import PUBLISHED
from dabench.errors import ConfigError, DataError, did_you_mean

#: raised whenever the pixels of a kind change
VERSION = "1"
#: part of every digest of a stream; OpenCV's versions differ in a grey level of warped pictures
RENDERING = f"weather {VERSION}, OpenCV {cv2.__version__}"
#: smaller pictures have no room for weather
MIN_SIDE = 16

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            *OWN,
            *PUBLISHED,
            *CORRUPTIONS,
            *EXTRA,
            *ALBUMENTATIONS,
        )
    }
)


def find_kind(name: str) -> Kind:
    """Return a kind by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in KINDS:
        raise ConfigError(f"weather: unknown kind '{name}'{did_you_mean(name, KINDS)}")
    return KINDS[name]


def apply_weather(
    images: Pictures,
    kind: str,
    severity: int,
    ids: npt.NDArray[np.integer[Any]],
    seed: int = 0,
) -> Pictures:
    """Return the pictures in one kind of weather.

    A picture depends on itself, kind, severity, its id and the seed alone: not on the batch it is
    in, its place there, or the process.

    Args:
        images: (B, H, W, 3) uint8, H and W at least 16.
        kind: a name in ``KINDS``.
        severity: 0 (clear) to the kind's ``levels``.
        ids: (B,) integers, what tells a sample from all others, whatever its place.
        seed: of the whole stream.

    Returns:
        (B, H, W, 3) uint8, always new memory; severity 0 is a copy.

    Raises:
        ConfigError: unknown kind, or a severity that it has not.
        DataError: images or ids of another form.
    """
    found = find_kind(kind)
    levels = range(found.levels + 1)
    if isinstance(severity, bool) or severity not in levels:
        raise ConfigError(
            f"weather '{kind}': severity {severity!r} is not one of 0 (clear) to {found.levels}"
        )
    _check(images, ids)
    if severity == 0:
        return images.copy()
    severity = int(severity)
    out = np.empty_like(images, order="C")
    for row, number in enumerate(ids.tolist()):
        picture = np.ascontiguousarray(images[row])
        out[row] = found.render(picture, severity, _generator(seed, kind, severity, number))
    return out


def _generator(seed: int, kind: str, severity: int, number: int) -> np.random.Generator:
    """Return an item's own generator."""
    words = f"{seed}/{kind}/{severity}/{number}".encode()
    digest = hashlib.blake2b(words, digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _check(images: Pictures, ids: npt.NDArray[np.integer[Any]]) -> None:
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        shape = getattr(images, "shape", type(images).__name__)
        raise DataError(
            f"weather: expected images (B, H, W, 3), got {shape}; add the batch axis, or repeat a "
            "grey picture three times"
        )
    if images.shape[3] != 3:
        raise DataError(
            f"weather: expected 3 channels (RGB), got {images.shape[3]}; repeat a grey channel "
            "three times, drop an alpha channel"
        )
    if images.dtype != np.uint8:
        raise DataError(f"weather: expected uint8 images in 0 to 255, got {images.dtype}")
    if min(images.shape[1:3]) < MIN_SIDE:
        raise DataError(
            f"weather: images are {images.shape[1]} x {images.shape[2]}; both sides must be at "
            f"least {MIN_SIDE} pixels; enlarge them first"
        )
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise DataError("weather: expected ids as a one-dimensional array of integers")
    if len(ids) != len(images):
        raise DataError(f"weather: {len(images)} images but {len(ids)} ids; give one id an image")
