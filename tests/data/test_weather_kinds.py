"""What each kind does: ours grow with severity, sizes follow the picture, docs name them all."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits

from dabench.datasets.weather.apply import KINDS, apply_weather
from dabench.datasets.weather.clouds import frequency_noise
from dabench.datasets.weather.kind import Pictures

ROOT = Path(__file__).parents[2]
OURS = [name for name, kind in KINDS.items() if kind.standard == "dabench"]


def digits(side: int = 32) -> Pictures:
    """Return 200 digits in shades of grey on grey."""
    drawn = (load_digits().images[:200] * 13 + 30).astype(np.uint8)
    large = [cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC) for picture in drawn]
    return np.repeat(np.stack(large)[..., None], 3, axis=-1)


def changes(images: Pictures, kind: str) -> list[float]:
    """Return the mean |x' - x| of each severity."""
    ids, clear = np.arange(len(images)), images.astype(np.int16)
    levels = range(1, KINDS[kind].levels + 1)
    return [float(np.abs(apply_weather(images, kind, n, ids) - clear).mean()) for n in levels]


@pytest.mark.parametrize("kind", OURS)
def test_our_kinds_grow_with_severity(kind: str) -> None:
    # 200 pictures; albumentations' fog draws disc by disc
    found = changes(digits()[:25] if kind == "albu-fog" else digits(), kind)
    assert found[0] > 0.5, "the weakest severity is hardly seen"
    assert (np.diff(found) > 0.05 * np.array(found[:-1])).all(), found


def test_the_published_oddity_is_kept_and_selectable() -> None:
    odd, corrected = changes(digits(), "ucm-sf"), changes(digits(), "ucm-sf-corrected")
    assert odd[1] > odd[2]
    assert (np.diff(corrected) > 0).all()


@pytest.mark.parametrize("kind", ["fog", "rain", "ground-snow", "lens-drops", "aid-cc", "ucm-cc"])
def test_sizes_are_relative(kind: str) -> None:
    """The same scene at three times the size looks the same from three times as far."""
    small, large = digits(48)[:60], digits(144)[:60]
    level = KINDS[kind].levels
    ids = np.arange(60)
    near = apply_weather(large, kind, level, ids)
    far = np.stack([cv2.resize(p, (48, 48), interpolation=cv2.INTER_AREA) for p in near])
    here = apply_weather(small, kind, level, ids)
    spread = [
        np.std(shown.astype(np.float64) - small, axis=(1, 2, 3)).mean() for shown in (here, far)
    ]
    assert spread[1] == pytest.approx(spread[0], rel=0.2)


def test_low_light_is_dark_and_bluish() -> None:
    grey = np.full((8, 64, 64, 3), 128, np.uint8)
    shown = apply_weather(grey, "low-light", 5, np.arange(8)).mean(axis=(0, 1, 2))
    assert shown[0] < shown[1] < shown[2] < 20


def test_fog_is_denser_far_away() -> None:
    black = np.zeros((40, 64, 64, 3), np.uint8)
    rows = apply_weather(black, "fog", 2, np.arange(40)).mean(axis=(0, 2, 3))
    assert rows[:16].mean() > 1.3 * rows[-16:].mean()


def test_rain_falls_down() -> None:
    """Streaks are long from top to bottom: neighbours below are more alike than at the side."""
    black = np.zeros((10, 96, 96, 3), np.uint8)
    shown = apply_weather(black, "rain", 4, np.arange(10))[..., 0].astype(np.int16)
    down, across = (np.abs(np.diff(shown, axis=axis)).mean() for axis in (1, 2))
    assert across > 1.5 * down


def test_snow_lies_on_flat_bright_ground() -> None:
    half = np.full((20, 64, 64, 3), 60, np.uint8)
    half[:, :, 32:] = 150
    lift = apply_weather(half, "ground-snow", 2, np.arange(20)).astype(np.int16) - half
    assert lift[:, :, 36:].mean() > 2 * max(lift[:, :, :28].mean(), 1)
    edges = np.where(np.indices((64, 64)).sum(axis=0) % 2, 150, 50).astype(np.uint8)
    busy = np.repeat(np.broadcast_to(edges[None, ..., None], (20, 64, 64, 1)), 3, axis=3)
    flat = np.full_like(busy, 100)
    snowy = [apply_weather(images, "ground-snow", 2, np.arange(20)) for images in (busy, flat)]
    assert (snowy[0] == busy).mean() > 1.2 * (snowy[1] == flat).mean()


def test_drops_leave_the_rest_alone() -> None:
    images = digits(64)[:20]
    same = (apply_weather(images, "lens-drops", 1, np.arange(20)) == images).all(axis=-1).mean()
    assert 0.5 < same < 0.95


@pytest.mark.parametrize("shape", [(16, 16), (30, 50), (64, 64)])
def test_spectrum_of_the_cloud_noise_falls_with_the_square(shape: tuple[int, int]) -> None:
    fields = [frequency_noise(np.random.default_rng(i), *shape, max(shape)) for i in range(60)]
    assert all(field.min() >= 0 and field.max() <= 1 for field in fields)
    power = np.mean([np.abs(np.fft.fft2(field - field.mean())) for field in fields], axis=0)
    ratio = power[0, 1] / power[0, 4]
    assert ratio == pytest.approx(4**2, rel=0.35)


def test_docs_name_every_kind() -> None:
    pages = (ROOT / "docs" / name for name in ("weather.md", "corruptions.md"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    rows = set(re.findall(r"^\| `([a-z0-9_-]+)` \|", text, re.MULTILINE))
    assert set(KINDS) <= rows
