"""Defocus, motion and zoom blur (Hendrycks & Dietterich, ICLR 2019); glass blur stands apart."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from dabench.datasets.corruptions.levels import Floats, Levels, clip_to_bytes
from dabench.datasets.corruptions.motion import line_blur
from dabench.datasets.corruptions.zoom import enlarge
from dabench.datasets.weather.kind import Pictures

#: radius of the disk, standard deviation that softens its rim; pixels
DEFOCUS = Levels(
    ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
)
#: radius and standard deviation, pixels
MOTION = Levels(
    ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
)
#: end and step of the factors, from 1; arguments of np.arange
ZOOM = Levels(
    ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
)
#: weights below this do nothing but slow the processor down (they underflow)
UNDERFLOW = 1e-9


def defocus_blur(picture: Pictures, severity: int, _: np.random.Generator) -> Pictures:
    """Convolve with a disk, mirrored at the edges."""
    kernel = disk(*DEFOCUS.at(picture, severity))
    return clip_to_bytes(
        np.asarray(cv2.filter2D(picture.astype(np.float32), -1, kernel), np.float32)
    )


@lru_cache(maxsize=64)
def disk(radius: float, softness: float) -> Floats:
    """Return the kernel of sum 1 (read-only), without the original's margin of zeros."""
    reach = 8 if radius <= 8 else int(radius)
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    hard = (down**2 + right**2 <= radius**2).astype(np.float32)
    size = 3 if radius <= 8 else 5
    soft = np.asarray(cv2.GaussianBlur(hard / hard.sum(), (size, size), softness), np.float32)
    soft[soft < UNDERFLOW] = 0
    used = int(np.abs(np.nonzero(soft)[0] - reach).max())
    kernel = soft[reach - used : reach + used + 1, reach - used : reach + used + 1].copy()
    kernel.flags.writeable = False
    return kernel


def motion_blur(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Blur along a line at most 45 degrees from level."""
    radius, sigma = MOTION.at(picture, severity)
    degrees = rng.uniform(-45, 45)
    return clip_to_bytes(line_blur(picture.astype(np.float32), radius, sigma, degrees))


def zoom_blur(picture: Pictures, severity: int, _: np.random.Generator) -> Pictures:
    """Return the mean of the picture and its enlargements, factor 1 included.

    Deviations: each side is cropped by itself; OpenCV before 5 interpolates at 1/32 of a pixel;
    no black edges where SciPy's positions leave the picture by rounding.
    """
    end, step = ZOOM.at(picture, severity)
    factors = np.arange(1, end, step).tolist()
    height, width = picture.shape[:2]
    clear = picture.astype(np.float32)
    total = clear * np.float32(2)  # the picture itself, and factor 1
    for factor in factors[1:]:
        total += enlarge(clear, height, width, factor)
    total /= len(factors) + 1
    return clip_to_bytes(total)
