"""Low light and drops on the lens: what happens at the camera itself."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from dabench.datasets.weather.fields import Field, smoothstep
from dabench.datasets.weather.kind import Pictures

#: low light: (gamma, gain, shot noise as variance / signal, read noise as standard deviation)
LOW_LIGHT = (
    (1.10, 0.72, 0.25, 1.5),
    (1.20, 0.54, 0.40, 2.5),
    (1.30, 0.40, 0.60, 3.5),
    (1.40, 0.29, 0.85, 4.5),
    (1.50, 0.20, 1.15, 5.5),
)
#: what red, green and blue keep: eyes and sensors see dusk bluish
TINT = (0.88, 0.95, 1.08)

#: drops: (number a square of the shorter side, least and largest radius in shorter sides)
DROPS = (
    (8, 0.05, 0.10),
    (13, 0.05, 0.12),
    (19, 0.05, 0.14),
    (26, 0.05, 0.16),
    (34, 0.05, 0.18),
)


def low_light(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Return the picture at dusk: gamma, gain, a bluish tint, shot and read noise of each pixel.

    Args:
        picture: (H, W, 3) uint8.
        severity: 1 to 5.
        rng: the item's generator.

    Returns:
        (H, W, 3) uint8.
    """
    signal, spread = _exposure(severity)
    number = picture.size
    # a byte chooses one of 256 quantiles: a sixth of the time that normal numbers take
    noise = _normal()[np.frombuffer(rng.bytes(number), np.uint8)].reshape(picture.shape)
    noise *= cv2.LUT(picture, spread)
    result: Pictures = cv2.add(cv2.LUT(picture, signal), noise, dtype=cv2.CV_8U)
    return result


@lru_cache(maxsize=8)
def _exposure(severity: int) -> tuple[Field, Field]:
    """Return (1, 256, 3) tables: the mean and the standard deviation of each grey level's noise."""
    gamma, gain, shot, read = LOW_LIGHT[severity - 1]
    light = (np.arange(256)[:, None] / 255) ** gamma
    signal = np.clip(255 * gain * light * np.array(TINT), 0, 255)[None].astype(np.float32)
    spread: Field = np.sqrt(read**2 + shot * signal).astype(np.float32)
    return signal, spread


@lru_cache(maxsize=1)
def _normal() -> Field:
    """Return 256 quantiles of the normal distribution, scaled to a standard deviation of 1."""
    from statistics import NormalDist

    quantiles = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])
    scaled: Field = (quantiles / quantiles.std()).astype(np.float32)
    return scaled


def lens_drops(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Return the picture through drops on the lens, each a small blurred view turned upside down.

    Args:
        picture: (H, W, 3) uint8.
        severity: 1 to 5.
        rng: the item's generator.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = picture.shape[:2]
    drops = _drops(rng, height, width, severity)
    places = _owners(drops, height, width)
    centre_x, centre_y, radius, flat, lean, thickness = drops.T.take(places, axis=1)
    across, down = _grid(height, width)
    x, y = (across - centre_x) / radius, (down - centre_y) / radius
    # not quite round: an ellipse that leans to one side, a little heavier at its foot
    rho = cv2.magnitude(x + lean * y, y * flat) - 0.08 * y
    square = rho * rho
    reach = (-1.3 - 1.2 * square) * radius
    soft = cv2.blur(picture, (max(3, round(0.05 * min(height, width)) | 1),) * 2)
    seen = cv2.remap(
        soft,
        centre_x + reach * x,
        centre_y + reach * y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    edge = np.maximum(0.22, 1 / radius)
    opacity = thickness * smoothstep((1 - rho) / edge, 0, 1)
    # the rim is dark; light from above gathers at the foot of the drop
    light = opacity * (1.08 - 0.45 * square * square + 0.16 * y)
    kept = 1 - opacity
    kept_part = cv2.multiply(picture, cv2.merge((kept, kept, kept)), dtype=cv2.CV_32F)
    drop_part = cv2.multiply(seen, cv2.merge((light, light, light)), dtype=cv2.CV_32F)
    result: Pictures = cv2.add(kept_part, drop_part, dtype=cv2.CV_8U)
    return result


def _drops(rng: np.random.Generator, height: int, width: int, severity: int) -> Field:
    """Return (1 + drops, 6): centre x and y, radius, flatness, lean, opacity; row 0 is no drop."""
    count, low, high = DROPS[severity - 1]
    side = min(height, width)
    number = max(1, round(count * height * width / side**2))
    drawn = np.zeros((number + 1, 6), np.float32)
    drawn[1:] = rng.random((number, 6), dtype=np.float32)
    drawn[:, 0] *= width
    drawn[:, 1] *= height
    # small drops are more frequent
    drawn[:, 2] = side * (low + (high - low) * drawn[:, 2] ** 2)
    drawn[:, 3] = 0.85 + 0.15 * drawn[:, 3]
    drawn[:, 4] = 0.3 * (drawn[:, 4] - 0.5)
    drawn[:, 5] = 0.94
    # so wide that every pixel is its centre, and with nothing to be seen through it
    drawn[0] = 0, 0, 1e6, 1, 0, 0
    return drawn


def _owners(drops: Field, height: int, width: int) -> npt.NDArray[np.uint16]:
    """Return (H, W): the row in ``drops`` of the drop that covers a pixel, or 0."""
    places = np.zeros((height, width), np.uint16)
    # fixed-point centres: four bits behind the point; a margin for drops that are not round
    table = (16 * drops[1:, :3]).astype(int).tolist()
    for number, (x, y, radius) in enumerate(table, 1):
        cv2.circle(places, (x, y), int(1.3 * radius), number, -1, cv2.LINE_8, 4)
    return places


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> tuple[Field, Field]:
    """Return (1, W) and (H, 1): the coordinates of the pixels."""
    return np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
