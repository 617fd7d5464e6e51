"""Images a second of CPU time for every kind of weather on one thread, or how much each changes.

    python benchmarks/weather.py [--changes] [KIND ...]

``--changes`` prints the mean |x' - x| in grey levels of each severity over 200 crops (64 px) of
scikit-learn's two photographs.
"""

from __future__ import annotations

import sys
import time

import cv2
import numpy as np
from sklearn.datasets import load_sample_images

from dabench.datasets import weather

SIDES = (32, 64, 128, 224)
BATCH, ROUNDS = 16, 5
CROPS, CROP_SIDE = 200, 64


def rate(images: weather.Pictures, kind: str) -> float:
    """Return images a second: the best of a few rounds over all severities in turn."""
    levels = range(1, weather.KINDS[kind].levels + 1)
    ids = np.arange(len(images))
    best = float("inf")
    for _ in range(ROUNDS + 1):
        start = time.process_time()
        for level in levels:
            weather.apply(images, kind, level, ids)
        best = min(best, time.process_time() - start)
    return len(images) * len(levels) / best


def crops() -> weather.Pictures:
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


def changes(images: weather.Pictures, kind: str) -> list[float]:
    """Return the mean |x' - x| of each severity."""
    ids, clear = np.arange(len(images)), images.astype(np.int16)
    levels = range(1, weather.KINDS[kind].levels + 1)
    return [float(np.abs(weather.apply(images, kind, n, ids) - clear).mean()) for n in levels]


def main() -> None:
    """Print a table."""
    cv2.setNumThreads(1)
    kinds = [word for word in sys.argv[1:] if word != "--changes"] or list(weather.KINDS)
    if "--changes" in sys.argv:
        photographs = crops()
        for kind in kinds:
            print(kind.ljust(18), *(f"{x:6.1f}" for x in changes(photographs, kind)), flush=True)
        return
    rng = np.random.default_rng(0)
    print("images/s".ljust(18), *(f"{side:>8}" for side in SIDES))
    for kind in kinds:
        sets = (rng.integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8) for side in SIDES)
        print(kind.ljust(18), *(f"{rate(images, kind):8.0f}" for images in sets), flush=True)


if __name__ == "__main__":
    main()
