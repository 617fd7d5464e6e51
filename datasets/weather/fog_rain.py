"""Fog and rain: what stands between the camera and the scene.

Sizes are relative to the shorter side.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from dabench.datasets.weather.fields import Field, blend_colour, enlarge, smooth_noise
from dabench.datasets.weather.kind import Pictures

#: fog: optical depth of the farthest point (it transmits exp(-depth) of the light)
FOG_DEPTH = (0.6, 1.0, 1.5, 2.1, 3.0)
#: grey levels of the airlight; one is chosen for each picture
AIRLIGHT = (212, 218, 224, 230)
_OCTAVES, _WEIGHTS = (3, 6, 12), np.array([0.55, 0.3, 0.15], np.float32)

#: rain: (streaks a square of the shorter side, their length, opacity, brightness left, haze)
RAIN = (
    (110, 0.08, 0.40, 0.92, 0.04),
    (190, 0.10, 0.44, 0.86, 0.08),
    (280, 0.12, 0.48, 0.79, 0.12),
    (380, 0.14, 0.52, 0.72, 0.16),
    (500, 0.16, 0.56, 0.64, 0.20),
)
RAIN_COLOUR = (198, 203, 210)
#: degrees off the vertical; a streak's width; share of streaks that are near (longer, stronger)
_SLANT, _WIDTH, _NEAR = 18.0, 0.007, 0.2
#: streaks are drawn on at most this shorter side and enlarged: finer ones would not be seen
_CANVAS = 160


def fog(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Return the picture in fog: transmission falls with a depth that grows upwards, in drifts.

    After Koschmieder's law: light * t + airlight * (1 - t), t = exp(-optical depth).

    Args:
        picture: (H, W, 3) uint8.
        severity: 1 to 5.
        rng: the item's generator.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = picture.shape[:2]
    drifts = smooth_noise(rng, _OCTAVES, _WEIGHTS)
    tilt, light = rng.uniform(-0.15, 0.15), AIRLIGHT[int(rng.integers(len(AIRLIGHT)))]
    depth = _ramp(_OCTAVES[-1]) + tilt * _ramp(_OCTAVES[-1]).T
    depth += 1.1 * (drifts - 0.5)
    opacity = 1 - np.exp(-FOG_DEPTH[severity - 1] * np.maximum(depth, 0.1))
    smooth = np.clip(enlarge(opacity.astype(np.float32), height, width), 0, 1)
    return blend_colour(picture, smooth, (light - 2, light, light + 3))


@lru_cache(maxsize=4)
def _ramp(side: int) -> Field:
    """Return a square that falls from 1 at the top (far) to 0.4 at the bottom (near)."""
    down = np.linspace(1, 0.4, side, dtype=np.float32)
    return np.ascontiguousarray(np.broadcast_to(down[:, None], (side, side)))


def rain(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Return the picture in rain: darker, slightly hazy, behind two depths of slanted streaks.

    Args:
        picture: (H, W, 3) uint8.
        severity: 1 to 5.
        rng: the item's generator.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = picture.shape[:2]
    count, length, strength, left, haze = RAIN[severity - 1]
    shrink = min(1.0, _CANVAS / min(height, width))
    rows, columns = round(height * shrink), round(width * shrink)
    near = round(count * _NEAR)
    far = _streaks(rng, rows, columns, count - near, length)
    streaks = _streaks(rng, rows, columns, near, 2 * length)
    streaks += 0.6 * far
    lean = math.tan(math.radians(rng.uniform(-_SLANT, _SLANT)))
    shear = np.array([[1, lean, -lean * rows / 2], [0, 1, 0]])
    streaks = cv2.warpAffine(streaks, shear, (columns, rows), borderMode=cv2.BORDER_WRAP)
    if shrink < 1:
        streaks = cv2.resize(streaks, (width, height), interpolation=cv2.INTER_LINEAR)
    opacity = np.minimum(strength * streaks, 0.75)
    opacity += haze
    return blend_colour(cv2.convertScaleAbs(picture, alpha=left), opacity, RAIN_COLOUR)


def _streaks(rng: np.random.Generator, rows: int, columns: int, count: int, length: float) -> Field:
    """Return (rows, columns) vertical streaks of value up to 1; they add where they cross."""
    side = min(rows, columns)
    number = round(count * rows * columns / side**2)
    width = _WIDTH * side
    layer = np.zeros((rows, columns), np.float32)
    places = rng.integers(0, rows * columns, number)
    # a streak thinner than a pixel covers a part of it
    layer.reshape(-1)[places] = (0.4 + 0.6 * rng.random(number)) * min(1.0, width)
    tall = max(2, round(length * side))
    layer = cv2.boxFilter(layer, -1, (1, tall), normalize=False, borderType=cv2.BORDER_REFLECT)
    ends = max(1, tall // 3)
    blurred: Field = cv2.blur(layer, (1, ends), borderType=cv2.BORDER_REFLECT)
    return blurred
