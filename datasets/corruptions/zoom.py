"""Zooming into the middle of a picture, as zoom blur and snow do."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from dabench.datasets.corruptions.levels import Floats


@lru_cache(maxsize=4096)
def source_window(side: int, factor: float) -> tuple[int, int, float, float]:
    """Where an enlarged axis comes from.

    The middle ``ceil(side / factor)`` pixels are enlarged linearly to ``round(length * factor)``
    so that the first and last pixels' centres meet (``scipy.ndimage.zoom``), and the middle of
    that is shown.

    Returns:
        First pixel and length of the middle part; position within it of the first pixel shown;
        step from pixel to pixel.
    """
    length = math.ceil(side / factor)
    enlarged = round(length * factor)
    step = (length - 1) / (enlarged - 1)
    return (side - length) // 2, length, (enlarged - side) // 2 * step, step


def enlarge(image: Floats, height: int, width: int, factor: float, whole: bool = True) -> Floats:
    """Return the enlarged middle.

    Args:
        image: the whole picture, (height, width) or (height, width, C), or its middle part.
        height: of the result.
        width: of the result.
        factor: at least 1.
        whole: False where ``image`` is the middle part of ``source_window`` only.
    """
    top, _, first_y, step_y = source_window(height, factor)
    left, _, first_x, step_x = source_window(width, factor)
    if whole:
        first_y, first_x = first_y + top, first_x + left
    matrix = np.array([[step_x, 0, first_x], [0, step_y, first_y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_REPLICATE
    warped = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=border)
    return np.asarray(warped, np.float32)
