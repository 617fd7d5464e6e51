"""Snow on the ground: flat and bright places whiten, in patches that grow with severity."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from dabench.datasets.weather.fields import Field, blend_colour, enlarge, smooth_noise, smoothstep
from dabench.datasets.weather.kind import Pictures

#: score above which snow lies, for severities 1 to 5
THRESHOLD = (0.26, 0.14, 0.03, -0.08, -0.19)
#: opacity of the thickest snow: some of the ground's shading is left
OPACITY = (0.70, 0.74, 0.78, 0.81, 0.84)
COLOUR = (238, 242, 248)
_SOFT = 0.14
_OCTAVES, _WEIGHTS = (4, 9, 20), np.array([0.4, 0.35, 0.25], np.float32)


def ground_snow(picture: Pictures, severity: int, rng: np.random.Generator) -> Pictures:
    """Return the picture with snow lying in it.

    A score says where snow lies: in bright places (lit from above) and places brighter than what
    is around them (upper sides), low in the picture (ground), where there is little edge (no
    walls, no branches); noise decides between equals.

    Args:
        picture: (H, W, 3) uint8.
        severity: 1 to 5.
        rng: the item's generator.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = picture.shape[:2]
    side = min(height, width)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    reach = max(3, round(0.02 * side) | 1)
    edges = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, _square(reach))
    edges = cv2.blur(edges, (reach, reach))
    around = cv2.blur(grey, (max(3, side // 6 | 1),) * 2)
    score = cv2.addWeighted(grey, 1.3 / 255, around, -0.5 / 255, 0, dtype=cv2.CV_32F)
    score -= cv2.mean(grey)[0] * 0.8 / 255
    score -= cv2.multiply(edges, 0.7 / 255, dtype=cv2.CV_32F)
    noise = smooth_noise(rng, _OCTAVES, _WEIGHTS)
    noise -= 0.5
    score += enlarge(0.9 * noise + _ground(_OCTAVES[-1]), height, width)
    level = THRESHOLD[severity - 1]
    opacity = smoothstep(score, level - _SOFT, level + _SOFT)
    opacity *= OPACITY[severity - 1]
    return blend_colour(picture, opacity, COLOUR)


@lru_cache(maxsize=4)
def _ground(side: int) -> Field:
    """Return a square that rises from -0.15 at the top to 0.15 at the bottom."""
    down = np.linspace(-0.15, 0.15, side, dtype=np.float32)
    return np.ascontiguousarray(np.broadcast_to(down[:, None], (side, side)))


@lru_cache(maxsize=16)
def _square(side: int) -> Pictures:
    return np.ones((side, side), np.uint8)
