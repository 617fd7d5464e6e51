"""Pieces that several kinds of weather are made of: noise, and the blend over a picture."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from dabench.datasets.weather.kind import Pictures

Field = npt.NDArray[np.float32]


def blend(picture: Pictures, opacity: Field, layer: Field) -> Pictures:
    """Lay a grey layer over a picture, (1 - opacity) * picture + opacity * layer, rounded down.

    Args:
        picture: (H, W, 3) uint8.
        opacity: (H, W) in [0, 1].
        layer: (H, W) grey in [0, 255].

    Returns:
        (H, W, 3) uint8.
    """
    kept = 1 - opacity
    # OpenCV rounds to the nearest integer: half a level less is rounding down
    added = opacity * layer - 0.5
    out = cv2.multiply(picture, cv2.merge((kept, kept, kept)), dtype=cv2.CV_32F)
    result: Pictures = cv2.add(out, cv2.merge((added, added, added)), dtype=cv2.CV_8U)
    return result


def blend_colour(picture: Pictures, opacity: Field, colour: tuple[int, int, int]) -> Pictures:
    """Lay one colour over a picture: (1 - opacity) * picture + opacity * colour, rounded.

    Args:
        picture: (H, W, 3) uint8.
        opacity: (H, W) in [0, 1].
        colour: red, green, blue in [0, 255].

    Returns:
        (H, W, 3) uint8.
    """
    plain = _plain(picture.shape[0], picture.shape[1], colour)
    result: Pictures = cv2.blendLinear(picture, plain, 1 - opacity, opacity)
    return result


@lru_cache(maxsize=16)
def _plain(height: int, width: int, colour: tuple[int, int, int]) -> Pictures:
    plain = np.empty((height, width, 3), np.uint8)
    plain[:] = colour
    plain.flags.writeable = False
    return plain


def enlarge(grid: Field, height: int, width: int) -> Field:
    """Return ``grid`` at (height, width), interpolated cubically (values may overshoot)."""
    result: Field = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return result


def coarse_uniform(rng: np.random.Generator, number: int) -> Field:
    """Return ``number`` values uniform in (0, 1), 16 bits each: half the time of ``random``."""
    drawn = np.frombuffer(rng.bytes(2 * number), "<u2").astype(np.float32)
    drawn += 0.5
    drawn *= 2.0**-16
    return drawn


def smooth_noise(rng: np.random.Generator, cells: tuple[int, ...], weights: Field) -> Field:
    """Return a small square field of noise in several octaves, to be enlarged.

    Args:
        rng: the item's generator.
        cells: side of each octave's grid, ascending; the last is the side of the result.
        weights: what each octave counts; with a sum of 1 values stay near [0, 1].

    Returns:
        (cells[-1], cells[-1]), mean about half the sum of the weights.
    """
    drawn = rng.random(sum(side * side for side in cells), dtype=np.float32)
    side, start = cells[-1], 0
    field = np.zeros((side, side), np.float32)
    for number, weight in zip(cells, weights, strict=True):
        grid = drawn[start : start + number * number].reshape(number, number)
        field += weight * (grid if number == side else enlarge(grid, side, side))
        start += number * number
    return field


def smoothstep(values: Field, low: float, high: float) -> Field:
    """Return 0 below ``low``, 1 above ``high`` and a smooth cubic between them."""
    steps = np.clip((values - low) * (1 / (high - low)), 0, 1)
    result: Field = steps * steps * (3 - 2 * steps)
    return result
