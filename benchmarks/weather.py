"""Images a second of CPU time for every kind of weather, on one thread.

python benchmarks/weather.py [KIND ...]
"""

from __future__ import annotations

import sys
import time

import cv2
import numpy as np

from dabench.datasets import weather

SIDES = (32, 64, 128, 224)
BATCH, ROUNDS = 16, 5


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


def main() -> None:
    """Print a table."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    print("images/s".ljust(18), *(f"{side:>8}" for side in SIDES))
    for kind in sys.argv[1:] or weather.KINDS:
        sets = (rng.integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8) for side in SIDES)
        print(kind.ljust(18), *(f"{rate(images, kind):8.0f}" for images in sets), flush=True)


if __name__ == "__main__":
    main()
