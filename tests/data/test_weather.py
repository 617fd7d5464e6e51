"""Weather is a pure function of picture, kind, severity, id and seed; errors say what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dabench.datasets.weather.apply import KINDS, apply_weather
from dabench.datasets.weather.kind import Pictures
from dabench.errors import ConfigError, DabenchError, DataError

ROOT = Path(__file__).parents[2]
FAST = [name for name in KINDS if name != "albu-fog"]
SUMS = """
import sys, zlib
import numpy as np
from dabench.datasets.weather.apply import KINDS, apply_weather
images = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)
for kind in KINDS:
    shown = apply_weather(images[::-1], kind, 2, np.array([7, 5, 3]), seed=1)[::-1]
    print(kind, zlib.crc32(np.ascontiguousarray(shown).tobytes()))
"""


def pictures(number: int, height: int = 32, width: int = 32) -> Pictures:
    """Return smooth procedural pictures with dark, bright, flat and busy parts."""
    y, x = np.mgrid[0:height, 0:width] / min(height, width)
    rng = np.random.default_rng(0)
    out = np.empty((number, height, width, 3))
    for picture in out:
        turn, busy, level = rng.uniform(0, 6), rng.uniform(2, 20), rng.uniform(40, 160, 3)
        waves = np.sin(busy * (x * np.cos(turn) + y * np.sin(turn)))
        picture[:] = level + 60 * waves[..., None] + 50 * (x > rng.uniform(0.2, 0.8))[..., None]
    return out.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_batch_and_order_do_not_matter(kind: str) -> None:
    images, ids = pictures(5), np.array([11, 3, 8, 10**12, 0])
    whole = apply_weather(images, kind, 3, ids)
    order = np.array([4, 2, 0, 3, 1])
    np.testing.assert_array_equal(apply_weather(images[order], kind, 3, ids[order]), whole[order])
    for row in range(5):
        alone = apply_weather(images[row : row + 1], kind, 3, ids[row : row + 1])
        np.testing.assert_array_equal(alone[0], whole[row])


@pytest.mark.slow
def test_another_process_draws_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SUMS],
        env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    import zlib

    images = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)
    for line in done.stdout.splitlines():
        kind, theirs = line.split()
        shown = apply_weather(images, kind, 2, np.array([3, 5, 7]), seed=1)
        assert zlib.crc32(shown.tobytes()) == int(theirs), kind
    assert len(done.stdout.splitlines()) == len(KINDS)


#: kinds that draw nothing: the same picture for every id and seed
FIXED = {"albu-snow", "c-jpeg-compression", "c-defocus-blur", "c-zoom-blur", "c-brightness"}
FIXED |= {"c-contrast", "c-pixelate", "c-gaussian-blur", "c-saturate"}


@pytest.mark.parametrize("kind", FAST)
def test_id_and_seed_matter(kind: str) -> None:
    images = np.repeat(pictures(1, 64, 64), 2, axis=0)
    shown = apply_weather(images, kind, 4, np.array([1, 2]))
    other = apply_weather(images, kind, 4, np.array([1, 2]), seed=1)
    assert (shown[0] != shown[1]).any() == (kind not in FIXED)
    assert (shown != other).any() == (kind not in FIXED)


@pytest.mark.parametrize("kind", KINDS)
def test_severity_0_is_a_copy_and_input_stays(kind: str) -> None:
    images, ids = pictures(2), np.arange(2)
    before = images.copy()
    clear = apply_weather(images, kind, 0, ids)
    np.testing.assert_array_equal(clear, images)
    assert not np.shares_memory(clear, images)
    images.flags.writeable = False
    assert (apply_weather(images, kind, KINDS[kind].levels, ids) != before).any()
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(16, 16), (17, 40), (40, 17)])
def test_every_size_and_severity(kind: str, size: tuple[int, int]) -> None:
    images = pictures(1, *size)
    for severity in range(1, KINDS[kind].levels + 1):
        shown = apply_weather(images, kind, severity, np.zeros(1, np.int64))
        assert shown.shape == images.shape
        assert shown.dtype == np.uint8
        assert shown.flags.c_contiguous


@pytest.mark.parametrize("kind", FAST)
def test_street_scenes(kind: str) -> None:
    images = pictures(1, 512, 1024)
    shown = apply_weather(images, kind, KINDS[kind].levels, np.zeros(1, np.int64))
    assert (shown != images).any()


def test_views_are_welcome() -> None:
    images = pictures(4, 32, 48)
    turned = images.transpose(0, 2, 1, 3)[::-1, :, ::-1]
    plain = np.ascontiguousarray(turned)
    for kind in FAST:
        np.testing.assert_array_equal(
            apply_weather(turned, kind, 1, np.arange(4)),
            apply_weather(plain, kind, 1, np.arange(4)),
            err_msg=kind,
        )


def test_an_empty_batch() -> None:
    shown = apply_weather(pictures(0), "fog", 1, np.zeros(0, np.int64))
    assert shown.shape == (0, 32, 32, 3)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"kind": "fogg"}, ConfigError, "unknown kind 'fogg'; did you mean 'fog'"),
        ({"severity": 6}, ConfigError, r"'fog': severity 6 is not one of 0 \(clear\) to 5"),
        ({"severity": -1}, ConfigError, "severity -1"),
        ({"severity": 1.5}, ConfigError, "severity 1.5"),
        ({"severity": True}, ConfigError, "severity True"),
        ({"kind": "aid-cc", "severity": 8}, ConfigError, r"'aid-cc': severity 8 .* to 7"),
        ({"images": pictures(2, 15, 40)}, DataError, "15 x 40.*at least 16"),
        ({"images": pictures(2)[..., :1]}, DataError, "3 channels.*got 1.*repeat"),
        ({"images": pictures(2)[..., [0, 1, 2, 2]]}, DataError, "got 4"),
        ({"images": pictures(1)[0]}, DataError, "batch axis"),
        ({"images": [[1]]}, DataError, "got list"),
        ({"images": pictures(2) / 255}, DataError, "uint8.*float64"),
        ({"ids": np.arange(3)}, DataError, "2 images but 3 ids"),
        ({"ids": np.arange(2.0)}, DataError, "integers"),
        ({"ids": [0, 1]}, DataError, "integers"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[DabenchError], text: str) -> None:
    good: dict[str, Any] = {
        "images": pictures(2),
        "kind": "fog",
        "severity": 1,
        "ids": np.arange(2),
    }
    with pytest.raises(error, match=text):
        apply_weather(**(good | change))
