"""Gaussian, shot and impulse noise (Hendrycks & Dietterich, ICLR 2019), by channel."""

from __future__ import annotations

import numpy as np

from dabench.datasets.corruptions.levels import Levels, clip_to_bytes
from dabench.datasets.weather.kind import Pictures

#: standard deviation, in units of white
GAUSSIAN = Levels((0.08, 0.12, 0.18, 0.26, 0.38), (0.04, 0.06, 0.08, 0.09, 0.10))
#: photons at white
SHOT = Levels((60, 25, 12, 5, 3), (500, 250, 100, 75, 50))
#: share of values that are replaced, half by black and half by white
IMPULSE = Levels((0.03, 0.06, 0.09, 0.17, 0.27), (0.01, 0.02, 0.03, 0.05, 0.07))


def gaussian_noise(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Add independent normal noise to every value."""
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    noise *= np.float32(255 * GAUSSIAN.at(picture, severity))
    noise += picture
    return clip_to_bytes(noise)


def shot_noise(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Replace every value by a Poisson count of that mean, scaled back."""
    photons = SHOT.at(picture, severity)
    counts = rng.poisson(picture * (photons / 255)).astype(np.float32)
    counts *= np.float32(255 / photons)
    return clip_to_bytes(counts)


def impulse_noise(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Turn values black or white.

    One 16-bit draw decides both whether and what, so that the share is a multiple of 2**-15
    (the original draws twice, in double precision).
    """
    half = round(IMPULSE.at(picture, severity) * 2**15)
    draws = rng.integers(0, 2**16, picture.shape, dtype=np.uint16)
    white = np.negative((draws < half).view(np.uint8))  # 0 or 255
    kept = np.negative((draws < 2**16 - half).view(np.uint8))
    white |= picture
    white &= kept
    return white
