"""The four extra corruptions (Hendrycks & Dietterich, ICLR 2019): for choosing, never for reports.

Speckle noise, Gaussian blur, spatter and saturation.
"""

from __future__ import annotations

import cv2
import numpy as np

from dabench.datasets.corruptions.glass import soften
from dabench.datasets.corruptions.levels import Floats, Levels, clip_to_bytes
from dabench.datasets.weather.kind import Pictures

#: standard deviation, in units of the value itself
SPECKLE = Levels((0.15, 0.2, 0.35, 0.45, 0.6), (0.06, 0.1, 0.12, 0.16, 0.2))
#: standard deviation, pixels
BLUR = Levels((1, 2, 3, 4, 6), (0.4, 0.6, 0.7, 0.8, 1))
#: mean and deviation of the liquid, blur of it (pixels), threshold, strength of water or blur of
#: mud (pixels), whether it is mud
SPATTER = Levels(
    (
        (0.65, 0.3, 4, 0.69, 0.6, False),
        (0.65, 0.3, 3, 0.68, 0.6, False),
        (0.65, 0.3, 2, 0.68, 0.5, False),
        (0.65, 0.3, 1, 0.65, 1.5, True),
        (0.67, 0.4, 1, 0.65, 1.5, True),
    ),
    (
        (0.62, 0.1, 0.7, 0.7, 0.5, False),
        (0.65, 0.1, 0.8, 0.7, 0.5, False),
        (0.65, 0.3, 1, 0.69, 0.5, False),
        (0.65, 0.1, 0.7, 0.69, 0.6, True),
        (0.65, 0.1, 0.5, 0.68, 0.6, True),
    ),
)
#: HSV's saturation is multiplied by the first and the second is added
SATURATE = Levels(
    ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
)
#: red, green and blue of water and mud
WATER, MUD = np.array((175, 238, 238), np.float32), np.array((63, 42, 20), np.float32)
#: water's edges are lit from below right
LIGHT = np.array(((-2, -1, 0), (-1, 1, 1), (0, 1, 2)), np.float32)
#: share of the chroma that red, green and blue of grey lie below the largest: its hue is red
GREY = np.array((0, 1, 1), np.float32)


def speckle_noise(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Add independent normal noise to every value, in proportion to the value."""
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    noise *= np.float32(SPECKLE.at(picture, severity))
    noise += 1
    noise *= picture
    return clip_to_bytes(noise)


def gaussian_blur(picture: Pictures, severity: int, _: np.random.Generator) -> Pictures:
    """Blur by a Gaussian; the last pixels are continued beyond the edges."""
    return clip_to_bytes(soften(picture.astype(np.float32), BLUR.at(picture, severity)))


def spatter(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Splash water (severities 1 to 3) or mud (4 and 5) on the lens.

    Deviations: where no drop lies the picture stays (the original divides by 0); liquid above 1 is
    1 (the original's bytes start again at 0).
    """
    mean, deviation, blur, threshold, last, mud = SPATTER.at(picture, severity)
    drawn = rng.standard_normal(picture.shape[:2], dtype=np.float32)
    liquid = soften(drawn * np.float32(deviation) + np.float32(mean), blur)
    if mud:
        cover = soften((liquid > threshold).astype(np.float32), last)
        cover[cover < 0.8] = 0
        return clip_to_bytes(picture * (1 - cover)[..., None] + cover[..., None] * MUD)
    liquid[liquid < threshold] = 0
    shine = _water(np.minimum(liquid * 255, 255).astype(np.uint8))
    strongest = float(shine.max())
    if strongest > 0:
        shine *= np.float32(last / strongest)
    return clip_to_bytes(picture + shine[..., None] * WATER)


def _water(liquid: Pictures) -> Floats:
    """Return (H, W): how much light drops send back, by the distance from their edges."""
    inside = np.asarray(255 - cv2.Canny(liquid, 50, 150), np.uint8)
    distance = np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, 5), 20)
    relief = cv2.equalizeHist(np.asarray(cv2.blur(distance, (3, 3)), np.float32).astype(np.uint8))
    lit = np.asarray(cv2.filter2D(relief, cv2.CV_8U, LIGHT), np.uint8)
    shine: Floats = liquid.astype(np.float32) * np.asarray(cv2.blur(lit, (3, 3)), np.float32)
    return shine


def saturate(picture: Pictures, severity: int, _: np.random.Generator) -> Pictures:
    """Change HSV's saturation; value and hue stay, and the hue of grey is red.

    The same as going to HSV and back.
    """
    factor, added = SATURATE.at(picture, severity)
    values = picture.astype(np.float32)
    value = values.max(2, keepdims=True)
    chroma = value - values.min(2, keepdims=True)
    saturation = chroma / np.maximum(value, 1)
    wanted = np.clip(saturation * np.float32(factor) + np.float32(added), 0, 1)
    grey = chroma == 0
    # distance of each channel from the largest one, as a share of the chroma
    share = np.where(grey, GREY, (value - values) / np.where(grey, 1, chroma))
    return clip_to_bytes(value * (1 - share * wanted))
