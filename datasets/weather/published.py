"""Published level tables: clouds and snowfall over aerial images (AID-CC, UCM-CC, AID-SF, UCM-SF).

Source: the tables of github.com/sadman-jahan/AID-UCM-DegradingWeather, made with imgaug's
``CloudLayer`` and ``SnowflakesLayer``. AID images are 600 pixels wide, UC Merced images 256; at
other sizes every constant in pixels is scaled by longer side / 600 or / 256 (``docs/weather.md``).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from dabench.datasets.weather.clouds import CloudLevel, cloud_layer
from dabench.datasets.weather.kind import Kind, Pictures
from dabench.datasets.weather.snowfall import SnowLevel, snowfall

AID, UCM = 600, 256
CLOUDS = (
    CloudLevel(190, 0.1, (100,), 1.0),
    CloudLevel(210, 0.1, (100,), 1.0),
    CloudLevel(190, 0.1, (100,), 1.5),
    CloudLevel(210, 0.1, (100,), 1.5),
    CloudLevel(190, 0.2, (100,), 1.5),
    CloudLevel(190, 0.3, (100, 200), 1.5),
    CloudLevel(210, 0.3, (100, 200), 1.5),
)
AID_SNOW = (
    SnowLevel(0.05, 0.85),
    SnowLevel(0.10, 0.80),
    SnowLevel(0.15, 0.75),
    SnowLevel(0.25, 0.70),
    SnowLevel(0.30, 0.65),
)
#: level 2 breaks the ascending order; it is what was published
UCM_SNOW = (
    SnowLevel(0.02, 0.85),
    SnowLevel(0.15, 0.85),
    SnowLevel(0.10, 0.80),
    SnowLevel(0.15, 0.75),
    SnowLevel(0.20, 0.75),
)
UCM_SNOW_CORRECTED = (UCM_SNOW[0], SnowLevel(0.05, 0.85), *UCM_SNOW[2:])


def _clouds(picture: Pictures, severity: int, rng: np.random.Generator, *, native: int) -> Pictures:
    return cloud_layer(picture, CLOUDS[severity - 1], native, rng)


def _snow(
    picture: Pictures,
    severity: int,
    rng: np.random.Generator,
    *,
    levels: tuple[SnowLevel, ...],
    native: int,
) -> Pictures:
    return snowfall(picture, levels[severity - 1], native, rng)


PUBLISHED: tuple[Kind, ...] = (
    Kind("aid-cc", len(CLOUDS), "published", partial(_clouds, native=AID)),
    Kind("ucm-cc", len(CLOUDS), "published", partial(_clouds, native=UCM)),
    Kind("aid-sf", 5, "published", partial(_snow, levels=AID_SNOW, native=AID)),
    Kind("ucm-sf", 5, "published", partial(_snow, levels=UCM_SNOW, native=UCM)),
    Kind("ucm-sf-corrected", 5, "published", partial(_snow, levels=UCM_SNOW_CORRECTED, native=UCM)),
)
