"""Snow, frost, fog and brightness (Hendrycks & Dietterich, ICLR 2019)."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from dabench.datasets.corruptions.frost import LOOKS, PERIOD, SHRINK, frost_texture
from dabench.datasets.corruptions.levels import SLACK, Floats, Levels, clip_to_bytes, is_small
from dabench.datasets.corruptions.motion import line_blur
from dabench.datasets.corruptions.plasma import plasma
from dabench.datasets.corruptions.zoom import enlarge, source_window
from dabench.datasets.weather.kind import Pictures

#: mean, deviation of the flakes' noise; zoom; threshold; radius, sigma of their fall; clear share
SNOW = Levels(
    (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
)
#: weights of picture and frost
FROST = Levels(
    ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
)
#: strength in units of white, decay of the clouds
FOG = Levels(
    ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
)
#: added to HSV's value, in units of white
BRIGHTNESS = Levels((0.1, 0.2, 0.3, 0.4, 0.5), (0.05, 0.1, 0.15, 0.2, 0.3))
#: 1 at 0, else 0
BLACK = (np.arange(256) == 0).astype(np.uint8)


def snow(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Whiten, then add blurred flakes and the same flakes turned by 180 degrees."""
    *flakes, clear = SNOW.at(picture, severity)
    layer = _flakes(picture.shape[0], picture.shape[1], tuple(flakes), rng)
    layer += layer[::-1, ::-1].copy()
    values = picture.astype(np.float32)
    pale = np.asarray(cv2.cvtColor(values, cv2.COLOR_RGB2GRAY), np.float32)
    pale *= np.float32(1.5)
    pale += np.float32(127.5)
    white = np.asarray(cv2.cvtColor(pale, cv2.COLOR_GRAY2RGB), np.float32)
    np.maximum(white, values, out=white)
    cv2.addWeighted(values, clear, white, 1 - clear, 0, dst=white)
    white += np.asarray(cv2.cvtColor(layer, cv2.COLOR_GRAY2RGB), np.float32)
    return clip_to_bytes(white)


def _flakes(
    height: int, width: int, constants: tuple[float, ...], rng: np.random.Generator
) -> Floats:
    """Return (H, W) grey levels of falling flakes, whole numbers.

    Only that part of the noise is drawn which the zoom shows; its distribution is the original's.
    """
    mean, deviation, factor, threshold, radius, sigma = constants
    rows, columns = source_window(height, factor)[1], source_window(width, factor)[1]
    noise = rng.standard_normal((rows, columns), dtype=np.float32)
    noise *= np.float32(255 * deviation)
    noise += np.float32(255 * mean)
    if factor > 1:
        noise = enlarge(noise, height, width, factor, whole=False)
    noise[noise < 255 * threshold] = 0
    falling = line_blur(
        clip_to_bytes(noise).astype(np.float32), int(radius), sigma, rng.uniform(-135, -45)
    )
    return np.rint(falling, out=falling)


def frost(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Overlay a window of a frost texture, made by rule: after the original, not the same."""
    kept, added = FROST.at(picture, severity)
    small = is_small(picture)
    period = PERIOD // (SHRINK if small else 1)
    height, width = picture.shape[:2]
    look = int(rng.integers(len(LOOKS)))
    top, left = rng.integers(0, period, 2).tolist()
    repeats = -(-height // period) + 1, -(-width // period) + 1
    texture = frost_texture(look, small, *repeats)
    ice = texture[top : top + height, left : left + width]
    # OpenCV rounds, the original cuts off
    return np.asarray(cv2.addWeighted(picture, kept, ice, added, SLACK - 0.5), np.uint8)


def fog(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Add clouds and scale so that the brightest possible value stays what it was."""
    strength, decay = FOG.at(picture, severity)
    height, width = picture.shape[:2]
    brightest = int(picture.max()) / 255
    scale = brightest / (brightest + strength)
    clouds = plasma(1 << (max(height, width) - 1).bit_length(), decay, rng)[:height, :width]
    veil = np.asarray(
        cv2.cvtColor(clouds * np.float32(255 * strength * scale), cv2.COLOR_GRAY2RGB), np.float32
    )
    veil += np.multiply(picture, np.float32(scale), dtype=np.float32)
    return clip_to_bytes(veil)


def brightness(picture: Pictures, severity: int, _: np.random.Generator) -> Pictures:
    """Add to the largest channel (HSV's value) and scale the others along; black becomes grey.

    Hue and saturation stay: the same as going to HSV and back.
    """
    ratios = _ratios(BRIGHTNESS.at(picture, severity))
    red, green, blue = cv2.split(picture)
    value = cv2.max(cv2.max(red, green), blue)
    if cv2.countNonZero(value) < value.size:
        # 1 where all three are 0: the ratio there is that of 1
        picture = np.maximum(picture, cv2.cvtColor(cv2.LUT(value, BLACK), cv2.COLOR_GRAY2RGB))
    values = np.asarray(cv2.cvtColor(cv2.LUT(value, ratios), cv2.COLOR_GRAY2RGB), np.float32)
    values *= picture
    return values.astype(np.uint8)  # never above 255


@lru_cache(maxsize=16)
def _ratios(added: float) -> Floats:
    """Return new value over old one by HSV's value (0–255), a millionth more against rounding."""
    value = np.arange(256)
    raised = np.minimum(value + 255 * added, 255)
    ratios: Floats = (raised / np.maximum(value, 1) * (1 + 1e-6)).astype(np.float32)
    return ratios
