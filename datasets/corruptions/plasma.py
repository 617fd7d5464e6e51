"""Clouds by midpoint displacement on a square that continues at its edges (diamond-square)."""

from __future__ import annotations

import cv2
import numpy as np

from dabench.datasets.corruptions.levels import Floats

FIRST = 100.0


def plasma(side: int, decay: float, rng: np.random.Generator) -> Floats:
    """Return (side, side) clouds whose smallest value is 0 and whose largest is 1.

    Each level halves the spacing: middles of squares are means of their corners, middles of edges
    means of their four neighbours, each displaced by ``amplitude * U(-amplitude, amplitude)``. The
    amplitude starts at 100 and is divided by ``decay`` a level (the square of the amplitude is
    the original's).

    Args:
        side: a power of two.
        decay: the larger, the smoother.
        rng: drawn from once a level: (3, n, n) for squares, edges right of and below the corners.
    """
    grid = np.zeros((1, 1), np.float32)
    amplitude = FIRST
    while len(grid) < side:
        grid = _refine(grid, amplitude**2, rng)
        amplitude /= decay
    grid -= grid.min()
    grid /= grid.max()
    return grid


def _refine(grid: Floats, spread: float, rng: np.random.Generator) -> Floats:
    """Halve the spacing; displacements are uniform in ``-spread`` to ``spread``."""
    count = len(grid)
    shift = rng.random((3, count, count), dtype=np.float32)
    shift *= np.float32(2 * spread)
    shift -= np.float32(spread)
    # in quarters, for all that is made of them is a mean of four
    corner = cv2.copyMakeBorder(grid * np.float32(0.25), 0, 1, 0, 1, cv2.BORDER_WRAP)
    right_pair = corner[:-1, :-1] + corner[:-1, 1:]
    middle = shift[0]
    middle += right_pair
    middle += corner[1:, :-1]
    middle += corner[1:, 1:]
    around = cv2.copyMakeBorder(middle * np.float32(0.25), 1, 0, 1, 0, cv2.BORDER_WRAP)
    fine = np.empty((2 * count, 2 * count), np.float32)
    fine[::2, ::2] = grid
    fine[1::2, 1::2] = middle
    right, below = shift[1], shift[2]
    right += right_pair
    right += around[:-1, 1:]
    right += around[1:, 1:]
    fine[::2, 1::2] = right
    below += corner[:-1, :-1]
    below += corner[1:, :-1]
    below += around[1:, :-1]
    below += around[1:, 1:]
    fine[1::2, ::2] = below
    return fine
