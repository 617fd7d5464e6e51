"""Low light and drops on the lens: what happens at the camera itself."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from dabench.datasets.weather_fields import Field, smoothstep
from dabench.datasets.weather_kind import Pictures

#: low light: (gamma, gain, shot noise: variance / signal, read noise: standard deviation), levels of 255
LOW_LIGHT = (
    (1.10, 0.72, 0.25, 1.5),
    (1.20, 0.54, 0.40, 2.5),
    (1.30, 0.40, 0.60, 3.5),
    (1.40, 0.29, 0.85, 4.5),
    (1.50, 0.20, 1.15, 5.5),
)
#: what red, green and blue keep: eyes and sensors see dusk bluish
TINT = (0.88, 0.95, 1.08)

#: drops on the lens: (number a square of the shorter side, least and largest radius in shorter sides)
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
    return (quantiles / quantiles.std()).astype(np.float32)


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
    side = min(height, width)
    drops = _drops(rng, height, width, severity)
    places = _owners(drops, height, width)
    at = np.flatnonzero(places)
    if not at.size:
        return picture.copy()
    centre_x, centre_y, radius, flat, lean = drops[places.reshape(-1)[at] - 1].T
    x = ((at % width).astype(np.float32) - centre_x) / radius
    y = ((at // width).astype(np.float32) - centre_y) / radius
    # not quite round: an ellipse that leans to one side, a little heavier at its foot
    rho = np.sqrt((x + lean * y) ** 2 + (y * flat) ** 2) - np.float32(0.08) * y
    bend = np.float32(-1.3) - np.float32(1.2) * rho * rho
    soft = cv2.blur(picture, (max(3, round(0.05 * side) | 1),) * 2)
    seen = _look(soft, centre_x + bend * x * radius, centre_y + bend * y * radius)
    # the rim is dark; light from above gathers at the foot of the drop
    shade = np.float32(1.08) - np.float32(0.45) * rho**4 + np.float32(0.16) * y
    edge = np.maximum(np.float32(0.22), 1 / radius)
    opacity = np.float32(0.94) * smoothstep((1 - rho) / edge, 0, 1)
    pixels = picture.reshape(-1, 3)[at].astype(np.float32)
    mixed = pixels + opacity[:, None] * (seen * shade[:, None] - pixels)
    out = picture.copy()
    out.reshape(-1, 3)[at] = np.clip(mixed + np.float32(0.5), 0, 255).astype(np.uint8)
    return out


def _look(picture: Pictures, x: Field, y: Field) -> Pictures:
    """Return (N, 3): the picture at N places; beyond its border it is mirrored."""
    # in rows of 256: OpenCV maps to fewer than 32,767 rows
    room = (-len(x) % 256,)
    across, down = (np.append(v, np.zeros(room, np.float32)).reshape(-1, 256) for v in (x, y))
    seen = cv2.remap(picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    found: Pictures = seen.reshape(-1, 3)[: len(x)]
    return found


def _drops(rng: np.random.Generator, height: int, width: int, severity: int) -> Field:
    """Return (drops, 5): centre x and y, radius, flatness and lean; small drops are more frequent."""
    count, low, high = DROPS[severity - 1]
    side = min(height, width)
    number = max(1, round(count * height * width / side**2))
    drawn = rng.random((number, 5), dtype=np.float32)
    drawn[:, 0] *= width
    drawn[:, 1] *= height
    drawn[:, 2] = side * (low + (high - low) * drawn[:, 2] ** 2)
    drawn[:, 3] = 0.85 + 0.15 * drawn[:, 3]
    drawn[:, 4] = 0.3 * (drawn[:, 4] - 0.5)
    return drawn


def _owners(drops: Field, height: int, width: int) -> npt.NDArray[np.uint16]:
    """Return (H, W): the number (from 1) of the drop that covers a pixel, or 0."""
    places = np.zeros((height, width), np.uint16)
    # fixed-point centres: four bits behind the point; a margin for drops that are not round
    for number, (x, y, radius) in enumerate((16 * drops[:, :3]).astype(int).tolist(), 1):
        cv2.circle(places, (x, y), int(1.3 * radius), number, -1, cv2.LINE_8, 4)
    return places
