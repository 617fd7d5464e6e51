"""Motion blur along a line: one half of a Gaussian, as ImageMagick's ``-motion-blur``."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from dabench.datasets.corruptions.levels import Floats

#: weights beyond this many standard deviations are left out: below 1/1000 of the first
REACH = 4
#: OpenCV filters with fewer coefficients than this directly, with more by way of Fourier
DIRECT = 130

Tap = tuple[int, int, float]


def taps(radius: int, sigma: float, degrees: float) -> list[Tap]:
    """Return (rows down, columns right, weight) of what each pixel is a mean of.

    ImageMagick's: ``2 * radius + 1`` steps of one pixel, rounded to whole pixels, weights
    ``exp(-step² / (2 sigma²))`` of sum 1. Deviation: none beyond 4 sigma.
    """
    steps = np.arange(min(2 * radius + 1, math.ceil(REACH * sigma) + 1))
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = math.radians(degrees)
    down = np.ceil(steps * math.sin(angle) - 0.5).astype(int)
    right = np.ceil(steps * math.cos(angle) - 0.5).astype(int)
    return list(zip(down.tolist(), right.tolist(), weights.tolist(), strict=True))


def line_blur(image: Floats, radius: int, sigma: float, degrees: float) -> Floats:
    """Return a (H, W) or (H, W, C) image blurred along a line; the edge is continued outside.

    Args:
        image: the picture.
        radius: the line has ``2 * radius + 1`` steps.
        sigma: standard deviation of the weights, pixels.
        degrees: direction that is looked into, clockwise from rightwards.
    """
    line = taps(radius, sigma, degrees)
    up, down = -min(tap[0] for tap in line), max(tap[0] for tap in line)
    left, right = -min(tap[1] for tap in line), max(tap[1] for tap in line)
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, up, down, left, right, cv2.BORDER_REPLICATE)
    total: Floats | None = None
    for y, x, kernel in _pieces(line):
        rows, columns = kernel.shape
        view = padded[up + y :, left + x :][: height + rows - 1, : width + columns - 1]
        part = cv2.filter2D(view, -1, kernel, anchor=(0, 0))[:height, :width]
        total = np.asarray(part if total is None else cv2.add(total, part), np.float32)
    return np.asarray(total, np.float32)


def _pieces(line: list[Tap]) -> Iterator[tuple[int, int, Floats]]:
    """Cut a line into kernels small enough to be applied directly; give each one's corner."""
    piece: list[Tap] = []
    for tap in line:
        if piece and math.prod(_box([*piece, tap])[2:]) >= DIRECT:
            yield _kernel(piece)
            piece = []
        piece.append(tap)
    yield _kernel(piece)


def _box(piece: list[Tap]) -> tuple[int, int, int, int]:
    """Return the smallest row and column, and the numbers of rows and columns."""
    rows, columns = [tap[0] for tap in piece], [tap[1] for tap in piece]
    y, x = min(rows), min(columns)
    return y, x, max(rows) - y + 1, max(columns) - x + 1


def _kernel(piece: list[Tap]) -> tuple[int, int, Floats]:
    y, x, rows, columns = _box(piece)
    kernel = np.zeros((rows, columns), np.float32)
    for down, right, weight in piece:
        kernel[down - y, right - x] += weight
    return y, x, kernel
