"""The published levels against figures of the original tool, frozen in ``weather_quantiles.json``.

How they were made is in ``docs/weather.md``.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dabench.datasets.weather.apply import apply_weather
from dabench.datasets.weather.kind import Pictures
from dabench.datasets.weather.published import AID_SNOW, UCM_SNOW, UCM_SNOW_CORRECTED
from dabench.datasets.weather.snowfall import darken

FROZEN = json.loads(Path(__file__).with_name("weather_quantiles.json").read_text("utf-8"))
SNOW = {"aid-sf": AID_SNOW, "ucm-sf": UCM_SNOW, "ucm-sf-corrected": UCM_SNOW_CORRECTED}
CASES = [(kind, int(level)) for kind, entry in FROZEN["kinds"].items() for level in entry["levels"]]
SMALL = [case for case in CASES if FROZEN["kinds"][case[0]]["side"] == 256]
LARGE = [case for case in CASES if FROZEN["kinds"][case[0]]["side"] == 600]


def measure(kind: str, level: int, side: int, draws: int) -> dict[str, float]:
    """Return the medians over draws on flat pictures; black and white ones recover the opacity."""
    flat = np.stack([np.full((side, side, 3), grey, np.uint8) for grey in (0, 255, 128)])
    rows: list[dict[str, float]] = []
    for number in range(draws):
        same = np.full(3, number)
        shown = apply_weather(flat, kind, level, same)[..., 0].astype(np.float64)
        black, white, grey = shown
        row = {"brightness": grey.mean(), "roughness": np.abs(np.diff(grey, axis=1)).mean()}
        if kind in SNOW:
            lift = grey - np.floor(128 * SNOW[kind][level - 1].brightness + 0.5)
            row |= {"coverage": (lift > 25.5).mean(), "white": (grey >= 250).mean()}
        else:
            opacity = 1 - (white - black) / 255
            row |= {"coverage": (opacity > 0.5).mean(), "opacity": opacity.mean()}
        rows.append(row)
    return {name: float(np.median([row[name] for row in rows])) for name in rows[0]}


def compare(kind: str, level: int, draws: int) -> None:
    """Compare medians with the frozen ones.

    A median of n normal values has the standard error 1.253 sd / sqrt(n), and the 5 to 95 % range
    is 3.29 sd: so .38 range * sqrt(1/n + 1/N) for the difference of two. Four of these are
    allowed, and a tenth of the range for other interpolation and rounding (8-bit noise there,
    float here).
    """
    entry = FROZEN["kinds"][kind]
    drawn = FROZEN["draws"][str(entry["side"])]
    error = 0.38 * np.sqrt(1 / draws + 1 / drawn)
    for name, ours in measure(kind, level, entry["side"], draws).items():
        low, median, high = entry["levels"][str(level)][name]
        allowed = (4 * error + 0.1) * (high - low) + 1e-4
        assert abs(ours - median) <= allowed, f"{name}: {ours:.4f}, not {median} ± {allowed:.4f}"


@pytest.mark.parametrize(("kind", "level"), SMALL)
def test_medians_at_256(kind: str, level: int) -> None:
    compare(kind, level, 30)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "level"), LARGE)
def test_medians_at_600(kind: str, level: int) -> None:
    compare(kind, level, 20)


def test_the_comparison_sees_another_level() -> None:
    """A wrong table fails: each level's measures are far from its neighbours'."""
    for kind, level, other in (("ucm-cc", 3, 4), ("ucm-cc", 5, 6), ("ucm-sf", 1, 2)):
        entry: dict[str, Any] = FROZEN["kinds"][kind]["levels"]
        ours = measure(kind, other, 256, 15)
        ranges = {name: high - low for name, (low, _, high) in entry[str(level)].items()}
        distances = [abs(ours[n] - entry[str(level)][n][1]) / (ranges[n] + 1e-4) for n in ours]
        assert max(distances) > 4 * 0.38 * np.sqrt(1 / 15 + 1 / 200) + 0.1


@lru_cache(maxsize=1)
def ramp() -> Pictures:
    """Return every grey level, 16 x 16."""
    return np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)


@pytest.mark.parametrize("kind", SNOW)
def test_darkening_is_exact(kind: str) -> None:
    for level in SNOW[kind]:
        exact = np.floor(ramp().astype(np.float64) * level.brightness + 0.5)
        np.testing.assert_array_equal(darken(ramp(), level.brightness), exact)


def test_published_factors() -> None:
    assert [level.brightness for level in AID_SNOW] == [0.85, 0.80, 0.75, 0.70, 0.65]
    assert [level.brightness for level in UCM_SNOW] == [0.85, 0.85, 0.80, 0.75, 0.75]
    assert [level.density for level in AID_SNOW] == [0.05, 0.10, 0.15, 0.25, 0.30]
    assert [level.density for level in UCM_SNOW] == [0.02, 0.15, 0.10, 0.15, 0.20]
    assert UCM_SNOW_CORRECTED[1].density == 0.05
    assert [a == b for a, b in zip(UCM_SNOW, UCM_SNOW_CORRECTED, strict=True)].count(False) == 1


@pytest.mark.parametrize("kind", SNOW)
def test_between_flakes_the_picture_is_only_darker(kind: str) -> None:
    """Flakes fall over the darkened picture: nothing is darker than that, much is just that."""
    images = np.repeat(np.repeat(ramp(), 4, axis=0), 4, axis=1)[None]
    shown = apply_weather(images, kind, 1, np.zeros(1, np.int64))
    base = darken(images[0], SNOW[kind][0].brightness)[None]
    assert (shown >= base).all()
    assert (shown == base).mean() > 0.5
    assert (shown[..., 0] > base[..., 0].astype(int) + 100).any()
