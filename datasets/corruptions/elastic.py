"""Elastic transform (Hendrycks & Dietterich, ICLR 2019): a random shear, then a smooth wobble."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from dabench.datasets.corruptions.levels import Floats, Levels, clip_to_bytes, is_small
from dabench.datasets.weather.kind import Pictures

#: in multiples of the shorter side: strength and smoothness of the wobble, reach of the shear
ELASTIC = Levels(
    (
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    ),
    (
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ),
)
#: ImageNet-C took its pictures' sides for 244 pixels when they were 224
SLIP = 244 / 224
#: kernels end at so many standard deviations
TRUNCATE = 3
#: pixels; from here on a sum of few cosines is quicker than a kernel
FEW_COSINES = 6.0
#: cosines whose frequency times sigma exceeds this are left out (weights below 1/1000)
CUTOFF = 8.0


def elastic_transform(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Move three points at random (an affine map), then every pixel by a smooth random field.

    Deviations: lengths follow the shorter side, so that they are the original's at its own 224
    and 32 pixels; the field at coarse scales is a sum of cosines; OpenCV before 5 interpolates at
    1/32 of a pixel.
    """
    height, width = picture.shape[:2]
    constants = ELASTIC.at(picture, severity)
    side = min(height, width) * (1 if is_small(picture) else SLIP)
    strength, smoothness, reach = (side * constant for constant in constants)
    size = (width, height)
    matrix = _shear(height, width, reach, rng)
    values = picture.astype(np.float32)
    sheared = cv2.warpAffine(values, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    if strength == 0:
        return clip_to_bytes(np.asarray(sheared, np.float32))
    right, down = (smooth(_uniform(height, width, rng), smoothness) * strength for _ in range(2))
    right += np.arange(width, dtype=np.float32)
    down += np.arange(height, dtype=np.float32)[:, None]
    border = cv2.BORDER_REFLECT
    moved = cv2.remap(sheared, right, down, cv2.INTER_LINEAR, borderMode=border)
    return clip_to_bytes(np.asarray(moved, np.float32))


def _shear(
    height: int, width: int, reach: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return the 2 × 3 map that moves three corners of a middle square by up to ``reach``."""
    middle, third = np.array([width // 2, height // 2]), min(height, width) // 3
    corners = (middle + third * np.array([[1, 1], [1, -1], [-1, -1]])).astype(np.float32)
    moved = corners + rng.uniform(-reach, reach, (3, 2)).astype(np.float32)
    return np.asarray(cv2.getAffineTransform(corners, moved), np.float64)


def _uniform(height: int, width: int, rng: np.random.Generator) -> Floats:
    noise = rng.random((height, width), dtype=np.float32)
    noise *= 2
    noise -= 1
    return noise


def smooth(noise: Floats, sigma: float) -> Floats:
    """Return (H, W) noise blurred by a Gaussian of ``sigma`` pixels, mirrored at the edges."""
    if sigma < FEW_COSINES:
        size = 2 * int(TRUNCATE * sigma + 0.5) + 1
        border = cv2.BORDER_REFLECT
        blurred = cv2.GaussianBlur(noise, (size, size), sigma, borderType=border)
        return np.asarray(blurred, np.float32)
    (rows, rows_in), (columns, columns_in) = (_cosines(side, sigma) for side in noise.shape)
    return np.asarray(rows @ (rows_in.T @ noise @ columns_in) @ columns.T, np.float32)


@lru_cache(maxsize=64)
def _cosines(side: int, sigma: float) -> tuple[Floats, Floats]:
    """Return (side, n) cosines ``c``, and ``w`` such that ``c @ w.T`` blurs a mirrored axis.

    They are the blur's eigenvectors (DCT-II), and the same times the truncated kernel's
    eigenvalues.
    """
    count = min(side, math.ceil(CUTOFF * side / (math.pi * sigma)) + 1)
    frequency = np.pi * np.arange(count) / side
    steps = np.arange(-int(TRUNCATE * sigma + 0.5), int(TRUNCATE * sigma + 0.5) + 1)
    kernel = np.exp(-(steps**2) / (2 * sigma**2))
    weights = np.cos(np.outer(frequency, steps)) @ kernel / kernel.sum()
    basis = np.cos(np.outer(np.arange(side) + 0.5, frequency)) * math.sqrt(2 / side)
    basis[:, 0] = math.sqrt(1 / side)
    return basis.astype(np.float32), (basis * weights).astype(np.float32)
