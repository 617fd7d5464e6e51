"""Adapters for albumentations' weather transforms, at five severities that dabench defines.

albumentations 2.0.8 is the last release under a permissive licence. It is imported at the first
use: that takes seconds. Some of its sizes are in pixels; where it lets one, they are given relative
to the shorter side.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from dabench.datasets.weather.kind import Kind, Pictures

#: opacity of each of the discs that make the fog; its coefficient hardly matters on small pictures
FOG = (0.03, 0.06, 0.10, 0.15, 0.22)
#: (kind of rain, brightness left, blur in pixels at 224)
RAIN = (
    ("drizzle", 0.95, 1),
    ("drizzle", 0.88, 3),
    ("heavy", 0.80, 3),
    ("heavy", 0.72, 5),
    ("torrential", 0.64, 7),
)
SNOW = (0.15, 0.30, 0.45, 0.65, 0.85)
#: (radius of the sun in shorter sides, number of flares)
FLARE = ((0.25, 3), (0.4, 5), (0.55, 7), (0.75, 9), (1.0, 11))

_LOCK = threading.Lock()


def _transform(
    picture: Pictures, severity: int, rng: np.random.Generator, *, build: Callable[..., Any]
) -> Pictures:
    """Build (once a severity and size), seed and apply a transform to one picture."""
    transform = build(severity, min(picture.shape[:2]))
    with _LOCK:  # a transform keeps its generator: seed and use must not be parted by a thread
        transform.set_random_seed(int(rng.integers(2**31)))
        result: Pictures = transform(image=picture)["image"]
    return result


def _library() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the network at import
    import albumentations

    return albumentations


@lru_cache(maxsize=64)
def _fog(severity: int, side: int) -> Any:
    return _library().RandomFog(fog_coef_range=(0.5, 0.5), alpha_coef=FOG[severity - 1], p=1.0)


@lru_cache(maxsize=64)
def _rain(severity: int, side: int) -> Any:
    kind, brightness, blur = RAIN[severity - 1]
    return _library().RandomRain(
        slant_range=(-15, 15),
        drop_length=max(2, side // 8),
        rain_type=kind,
        brightness_coefficient=brightness,
        blur_value=max(1, round(blur * side / 224) | 1),
        p=1.0,
    )


@lru_cache(maxsize=64)
def _snow(severity: int, side: int) -> Any:
    point = SNOW[severity - 1]
    return _library().RandomSnow(snow_point_range=(point, point), method="bleach", p=1.0)


@lru_cache(maxsize=64)
def _flare(severity: int, side: int) -> Any:
    radius, flares = FLARE[severity - 1]
    return _library().RandomSunFlare(
        src_radius=max(2, round(radius * side)),
        num_flare_circles_range=(flares, flares + 1),
        method="overlay",
        p=1.0,
    )


ALBUMENTATIONS: tuple[Kind, ...] = tuple(
    Kind(name, 5, "dabench", partial(_transform, build=build))
    for name, build in (
        ("albu-fog", _fog),
        ("albu-rain", _rain),
        ("albu-snow", _snow),
        ("albu-sunflare", _flare),
    )
)
