"""Glass blur (Hendrycks & Dietterich, ICLR 2019): pixels that change places between two blurs."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from dabench.datasets.corruptions.levels import Floats, Levels, clip_to_bytes
from dabench.datasets.weather.kind import Pictures

#: standard deviation of the blurs (pixels), how far a pixel comes from (pixels), passes
GLASS = Levels(
    ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
)


def glass_blur(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Blur, scatter, blur.

    The published pictures were made by a swap that, written on NumPy views, only copies: each
    pixel takes the value of a random neighbour, from the last pixel to the first, neighbours that
    were visited before included. That is what is done here, exactly, though not pixel by pixel.
    """
    sigma, reach, passes = GLASS.at(picture, severity)
    height, width = picture.shape[:2]
    origin = scatter(height, width, reach, rng)
    for _ in range(passes - 1):
        origin = origin[scatter(height, width, reach, rng)]
    soft = clip_to_bytes(soften(picture.astype(np.float32), sigma))
    # four bytes a pixel can be gathered as one number
    packed = np.asarray(cv2.cvtColor(soft, cv2.COLOR_RGB2RGBA), np.uint8).view(np.uint32)
    scattered = packed.reshape(-1)[origin].view(np.uint8).reshape(height, width, 4)
    colours = np.asarray(cv2.cvtColor(scattered, cv2.COLOR_RGBA2RGB), np.uint8)
    return clip_to_bytes(soften(colours.astype(np.float32), sigma))


def scatter(height: int, width: int, reach: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return for each pixel (flat) the one whose value it has after one pass.

    A pixel whose neighbour was visited before takes over that neighbour's own origin. Such chains
    are followed for all pixels at once, twice as far each time.

    Args:
        height: of the picture.
        width: of the picture.
        reach: neighbours are ``-reach`` to ``reach - 1`` rows and columns away.
        rng: drawn from once: (rows, columns, 2) of the visited pixels, right and down.
    """
    rows, columns = slice(reach + 1, height - reach + 1), slice(reach + 1, width - reach + 1)
    shape = (height - 2 * reach, width - 2 * reach, 2)
    steps = rng.integers(-reach, reach, shape, dtype=np.int8).astype(np.intp)
    places = np.arange(height * width, dtype=np.intp)
    origin = places.copy()
    origin.reshape(height, width)[rows, columns] += steps[..., 1] * width + steps[..., 0]
    visited = np.zeros((height, width), np.bool_)
    visited[rows, columns] = True
    open_ = visited.reshape(-1)[origin]  # the neighbour's own origin is to be looked up
    open_ &= origin > places
    active = np.flatnonzero(open_)
    while active.size:
        neighbours = origin[active]
        origin[active] = origin[neighbours]
        still = open_[neighbours]
        open_[active] = still
        active = active[still]
    return origin


def soften(values: Floats, sigma: float) -> Floats:
    """Blur as scikit-image does: weights up to four standard deviations, edges continued."""
    size = 2 * int(4 * sigma + 0.5) + 1
    border = cv2.BORDER_REPLICATE
    return np.asarray(cv2.GaussianBlur(values, (size, size), sigma, borderType=border), np.float32)
