"""Cloud layers after imgaug's ``CloudLayer`` (0.4.0), written anew in OpenCV.

A layer is a brightness map and an opacity map; both hold noise whose spectrum falls with a power of
the frequency. How we read what the publications leave open stands in ``docs/weather.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from dabench.datasets.weather.fields import Field, blend, coarse_uniform, enlarge
from dabench.datasets.weather.kind import Pictures

#: what the publication fixed "within the recommended values" without listing it
FREQ_EXPONENT = -2.0
COARSE_SCALE = 10.0
ALPHA_MULTIPLIER = 0.4
#: the brightness map's coarse grid, and the least side of a grid of noise
_COARSE, _LEAST = 8, 4


@dataclass(frozen=True)
class CloudLevel:
    """A published level.

    Attributes:
        intensity_mean: grey level of the clouds, [0, 255].
        alpha_min: opacity before ``density`` where noise is 0.
        alpha_sizes: sides in pixels, at the native size, of the grid of opacity noise; one is
            chosen for each picture.
        density: multiplies the opacity, which is then clipped to [0, 1].
    """

    intensity_mean: float
    alpha_min: float
    alpha_sizes: tuple[int, ...]
    density: float


def cloud_layer(
    picture: Pictures, level: CloudLevel, native: int, rng: np.random.Generator
) -> Pictures:
    """Return the picture under a layer of clouds.

    Args:
        picture: (H, W, 3) uint8.
        level: its parameters.
        native: side in pixels that the level's pixel sizes were published for.
        rng: the item's generator.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = picture.shape[:2]
    chosen = level.alpha_sizes[int(rng.integers(len(level.alpha_sizes)))]
    side = max(height, width)
    opacity = frequency_noise(rng, height, width, chosen * side / native)
    opacity *= ALPHA_MULTIPLIER * level.density
    opacity += level.alpha_min * level.density
    np.clip(opacity, 0, 1, out=opacity)
    coarse = rng.standard_normal((_COARSE, _COARSE), dtype=np.float32)
    brightness = frequency_noise(rng, height, width, side)
    brightness *= 0.4 * level.intensity_mean  # mean * (2 noise - 1) / 5
    brightness += enlarge(coarse * COARSE_SCALE, height, width)
    brightness += 0.8 * level.intensity_mean
    np.clip(brightness, 0, 255, out=brightness)
    return blend(picture, opacity, brightness)


def frequency_noise(rng: np.random.Generator, height: int, width: int, size_max: float) -> Field:
    """Return noise with a spectrum that falls as frequency**-2, scaled to [0, 1].

    Args:
        rng: the item's generator.
        height, width: of the result.
        size_max: the longer side of the grid that the noise is made on; smaller than the result:
            enlarged cubically.

    Returns:
        (height, width), values in [0, 1].
    """
    shrink = min(1.0, size_max / max(height, width))
    rows = max(int(height * shrink + 1e-9), _LEAST)
    columns = max(int(width * shrink + 1e-9), _LEAST)
    drawn = coarse_uniform(rng, 2 * rows * columns).reshape(2, rows, columns)
    angle = drawn[1]
    angle *= 2 * np.pi
    spectrum = np.empty((rows, columns, 2), np.float32)
    # version 0.4.0 multiplies the cosined radius once more by the sine; kept as it was published.
    # The radius' factor max(rows, columns)**2 cancels in the scaling to [0, 1]
    np.multiply(drawn[0] * np.cos(angle), _decay(rows, columns), out=spectrum[..., 0])
    np.multiply(spectrum[..., 0], np.sin(angle), out=spectrum[..., 1])
    waves = cv2.dft(spectrum, flags=cv2.DFT_INVERSE)[..., 0]
    field: Field = cv2.normalize(waves, None, 0, 1, cv2.NORM_MINMAX)
    if (rows, columns) != (height, width):
        field = enlarge(field, height, width)
    np.clip(field, 0, 1, out=field)
    return field


@lru_cache(maxsize=64)
def _decay(rows: int, columns: int) -> Field:
    """Return frequency**FREQ_EXPONENT on the grid of an FFT, 0 at frequency 0."""
    down, across = (np.minimum(np.arange(n), n - np.arange(n)) for n in (rows, columns))
    radius = np.hypot(down[:, None], across[None, :])
    radius[0, 0] = 1
    decay: Field = (radius**FREQ_EXPONENT).astype(np.float32)
    decay[0, 0] = 0
    decay.flags.writeable = False
    return decay
