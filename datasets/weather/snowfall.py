"""Falling snow after imgaug's ``SnowflakesLayer`` (0.4.0), written anew in OpenCV.

The picture is darkened first and the flakes are laid over it, so that they stay white. How we read
what the publications leave open stands in ``docs/weather.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from dabench.datasets.weather.fields import Field, enlarge
from dabench.datasets.weather.kind import Pictures

#: published for all levels
DENSITY_UNIFORMITY, FLAKE_SIZE, FLAKE_SIZE_UNIFORMITY = 0.9, 0.1, 0.8
ANGLE, SPEED, BLUR_SIGMA_FRACTION = 10.0, 0.015, 0.001
#: imgaug's limits of the blur, pixels at the native size
BLUR_SIGMA_LIMITS = (0.5, 3.75)
_GATE = 8
#: a Gaussian so narrow (pixels) leaves bytes as they are
_NO_BLUR = 0.2
_VALUES = 2**16


@dataclass(frozen=True)
class SnowLevel:
    """A published level.

    Attributes:
        density: share of the flakes' grid that holds a flake.
        brightness: factor on the picture before the flakes fall.
    """

    density: float
    brightness: float


def snowfall(
    picture: Pictures, level: SnowLevel, native: int, rng: np.random.Generator
) -> Pictures:
    """Return the picture, darkened, behind falling snow.

    Args:
        picture: (H, W, 3) uint8.
        level: its parameters.
        native: side in pixels that the blur's limits are meant for.
        rng: the item's generator.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = picture.shape[:2]
    flakes = _flakes(rng, height, width, level.density)
    side = max(height, width)
    low, high = (limit * side / native for limit in BLUR_SIGMA_LIMITS)
    sigma = min(max(side * BLUR_SIGMA_FRACTION, low), high)
    if sigma > _NO_BLUR:
        size = max(int(3.3 * sigma), 5) | 1
        flakes = cv2.GaussianBlur(flakes, (size, size), sigma)
    length = int(SPEED * side + 1e-9)
    angle = rng.uniform(-ANGLE, ANGLE)
    if length > 1:
        flakes = cv2.filter2D(flakes, -1, _motion(max(length, 3) | 1, angle))
    glow, core = _tables()
    dark = darken(picture, level.brightness)
    dark = cv2.add(dark, cv2.cvtColor(cv2.LUT(flakes, glow), cv2.COLOR_GRAY2RGB))
    result: Pictures = cv2.max(dark, cv2.cvtColor(cv2.LUT(flakes, core), cv2.COLOR_GRAY2RGB))
    return result


def darken(picture: Pictures, factor: float) -> Pictures:
    """Return ``picture * factor`` for a factor in [0, 1], rounded to the nearest grey level."""
    levels = np.floor(np.arange(256) * factor + 0.5).astype(np.uint8)
    result: Pictures = cv2.LUT(picture, levels)
    return result


def _flakes(rng: np.random.Generator, height: int, width: int, density: float) -> Pictures:
    """Return (H, W) grey flakes before the blur: salt on a coarser grid, thinned in patches."""
    rows, columns = (max(1, int(n * (1 - FLAKE_SIZE))) for n in (height, width))
    drawn = rng.integers(0, _VALUES, (rows, columns), dtype=np.uint16)
    # inverse of the distribution function of Beta(1, 1 - uniformity)
    shape = 1 / (1 - DENSITY_UNIFORMITY)
    gate = 1 - (1 - rng.random((_GATE, _GATE))) ** shape
    mask = np.clip(enlarge(gate.astype(np.float32), rows, columns), 0, 1)
    mask *= _salt(density)[drawn]
    flakes: Pictures = cv2.resize(
        mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    return flakes


@lru_cache(maxsize=32)
def _salt(density: float) -> Field:
    """Return what each 16-bit number draws: 0, or with probability ``density`` a white of 128-255.

    The white is 255 * (0.5 + |b - 0.5|) with b from Beta(0.5, 0.5), whose distribution function is
    an arc sine; so |b - 0.5| is half a cosine of an angle that is uniform in [0, pi / 2].
    """
    uniform = (np.arange(_VALUES) + 0.5) / _VALUES / density
    white = 127.5 * (1 + np.cos(uniform * np.pi / 2))
    return np.where(uniform < 1, np.floor(white + 0.5), 0).astype(np.float32)


def _motion(side: int, angle: float) -> Field:
    """Return a kernel that smears over ``side`` pixels, ``angle`` degrees off the vertical."""
    kernel = np.zeros((side, side), np.float32)
    kernel[:, side // 2] = np.linspace(1, 0, side)
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), angle, 1.0)
    turned = cv2.warpAffine(kernel, turn, (side, side))
    result: Field = turned / turned.sum()
    return result


@lru_cache(maxsize=1)
def _tables() -> tuple[Pictures, Pictures]:
    """Return, for each grey level of the flakes, what is added and what is the least afterwards."""
    spread = 1 - FLAKE_SIZE_UNIFORMITY
    contrast = np.floor(255 * (np.arange(256) / 255) ** (1 + 2 * spread)) * (1 + 5 * spread)
    glow = np.clip((0.1 + 20 * SPEED) * contrast, 0, 255)
    core = np.clip((1.0 + 20 * SPEED) * contrast, 0, 255)
    return glow.astype(np.uint8), core.astype(np.uint8)
