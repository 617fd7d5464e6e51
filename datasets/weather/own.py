"""The kinds of weather that dabench defines: sizes are relative to the shorter side."""

from __future__ import annotations

from dabench.datasets.weather.camera import lens_drops, low_light
from dabench.datasets.weather.fog_rain import fog, rain
from dabench.datasets.weather.ground_snow import ground_snow
from dabench.datasets.weather.kind import Kind

OWN: tuple[Kind, ...] = (
    Kind("fog", 5, "dabench", fog),
    Kind("rain", 5, "dabench", rain),
    Kind("ground-snow", 5, "dabench", ground_snow),
    Kind("low-light", 5, "dabench", low_light),
    Kind("lens-drops", 5, "dabench", lens_drops),
)
