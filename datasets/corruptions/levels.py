"""Constants of a corruption at both standards, and what all corruptions share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from dabench.datasets.weather.kind import Pictures
from dabench.errors import ConfigError, DataError

Floats = npt.NDArray[np.float32]
T = TypeVar("T")

SEVERITIES = 5
#: pictures whose shorter side is below this take CIFAR-C's constants, all others ImageNet-C's
CIFAR_BELOW = 64
SMALLEST = 16
#: grey levels; keeps what should be a whole number from falling to the one below
SLACK = 1e-3


@dataclass(frozen=True)
class Levels(Generic[T]):
    """Constants of severities 1 to 5.

    Attributes:
        imagenet: for 224 × 224 pixels (Hendrycks & Dietterich, ICLR 2019, ImageNet-C).
        cifar: for 32 × 32 pixels (the same authors' CIFAR-10-C).
    """

    imagenet: tuple[T, T, T, T, T]
    cifar: tuple[T, T, T, T, T]

    def at(self, picture: Pictures, severity: int) -> T:
        """Return the constants for one picture.

        Raises:
            DataError: the picture is not (H, W, 3) uint8 of at least 16 × 16 pixels.
            ConfigError: the severity is not one of 1 to 5.
        """
        _check(picture, severity)
        return (self.cifar if is_small(picture) else self.imagenet)[severity - 1]


def is_small(picture: Pictures) -> bool:
    """Whether CIFAR-C's constants hold for a picture."""
    return bool(min(picture.shape[:2]) < CIFAR_BELOW)


def clip_to_bytes(values: Floats) -> Pictures:
    """Clip grey levels to 0–255 and drop their fraction as the original does; spoils ``values``."""
    values += np.float32(SLACK)
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)


def _check(picture: Pictures, severity: int) -> None:
    shape = picture.shape
    fits = picture.dtype == np.uint8 and len(shape) == 3 and shape[2] == 3
    if not fits or min(shape[:2]) < SMALLEST:
        raise DataError(
            f"a corruption was given {picture.dtype} of shape {shape}, expected uint8 (H, W, 3) "
            f"of at least {SMALLEST} × {SMALLEST} pixels; convert or enlarge the picture"
        )
    if severity not in range(1, SEVERITIES + 1):
        raise ConfigError(
            f"severity {severity!r} of a corruption, expected 1 to {SEVERITIES}; choose one of them"
        )
