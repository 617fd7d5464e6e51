"""How much each kind of weather changes: mean |x' - x| in grey levels, severity by severity.

    python benchmarks/weather_changes.py [KIND ...]

Over 200 crops (64 px) of scikit-learn's two photographs.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
from sklearn.datasets import load_sample_images

from dabench.datasets.weather.apply import KINDS, apply_weather
from dabench.datasets.weather.kind import Pictures

CROPS, CROP_SIDE = 200, 64


def crops() -> Pictures:
    """Return square crops of random place and size, reduced to one size."""
    rng, photographs = np.random.default_rng(0), load_sample_images().images
    found = []
    for number in range(CROPS):
        whole = photographs[number % 2]
        side = int(rng.integers(120, 400))
        top, left = (int(rng.integers(length - side + 1)) for length in whole.shape[:2])
        crop = whole[top : top + side, left : left + side]
        found.append(cv2.resize(crop, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA))
    return np.stack(found)


def changes(images: Pictures, kind: str) -> list[float]:
    """Return the mean |x' - x| of each severity."""
    ids, clear = np.arange(len(images)), images.astype(np.int16)
    levels = range(1, KINDS[kind].levels + 1)
    return [float(np.abs(apply_weather(images, kind, n, ids) - clear).mean()) for n in levels]


def main() -> None:
    """Print a table."""
    cv2.setNumThreads(1)
    photographs = crops()
    for kind in sys.argv[1:] or KINDS:
        print(kind.ljust(18), *(f"{x:6.1f}" for x in changes(photographs, kind)), flush=True)


if __name__ == "__main__":
    main()
