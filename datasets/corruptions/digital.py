"""Contrast, pixelation and JPEG (Hendrycks & Dietterich, ICLR 2019)."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from dabench.datasets.corruptions.levels import SLACK, Levels
from dabench.datasets.weather.kind import Pictures

#: distances from the mean are multiplied by this
CONTRAST = Levels((0.4, 0.3, 0.2, 0.1, 0.05), (0.75, 0.5, 0.4, 0.3, 0.15))
#: share of the sides that is kept
PIXELATE = Levels((0.6, 0.5, 0.4, 0.3, 0.25), (0.95, 0.9, 0.85, 0.75, 0.65))
#: libjpeg's quality
JPEG = Levels((25, 18, 15, 10, 7), (80, 65, 58, 50, 40))


def contrast(picture: Pictures, severity: int, _: np.random.Generator) -> Pictures:
    """Draw every channel together around its mean."""
    kept = CONTRAST.at(picture, severity)
    means = np.array(cv2.mean(picture)[:3])
    values = np.arange(256)[:, None]
    # a mean of means: never outside 0–255
    table = ((values - means) * kept + means + SLACK).astype(np.uint8)
    return np.asarray(cv2.LUT(picture, table[:, None]), np.uint8)


def pixelate(picture: Pictures, severity: int, _: np.random.Generator) -> Pictures:
    """Shrink by Pillow's box filter and enlarge by the nearest pixel.

    The original enlarges by the box filter too, which is the same except where the middle of a
    pixel falls on the border between two (never for its own 224 and 32 pixels).
    """
    kept = PIXELATE.at(picture, severity)
    height, width = picture.shape[:2]
    size = int(width * kept), int(height * kept)
    small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    enlarged = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(enlarged, np.uint8)


def jpeg_compression(picture: Pictures, severity: int, _: np.random.Generator) -> Pictures:
    """Compress as a JPEG with halved colour resolution (libjpeg's default), and decode."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG.at(picture, severity)]
    packed = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1]
    decoded = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
