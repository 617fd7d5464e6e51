"""Pictures a CPU-second of every corruption and kind of weather, beside other libraries'.

All run in one process on the same pictures, interleaved, one thread, severities in turn; a figure
is the median over repeats of CPU time (``process_time``), and a ratio above 1 says that dabench is
quicker than the quickest other one. Others are measured where they are installed
(``pip install 'dabench[bench]'``). Strength, file reading and random numbers are theirs.

    OMP_NUM_THREADS=1 python benchmarks/weather.py [--sizes 32x32,224x224,512x1024] [--repeats 3]
        [--kinds c-fog,c-snow] [--seconds 0.05]

``--seconds`` is about how long one measurement of the quickest lasts.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from types import ModuleType

import cv2
import numpy as np

from dabench.datasets.weather.apply import KINDS
from dabench.datasets.weather.kind import Kind, Pictures

OURS = "dabench"
#: package on the index -> module
PEERS = {"imagecorruptions-imaug": "imagecorruptions", "corrupt-tta": "corrupt_tta"}
#: CPU-seconds of one call from which on a side is measured once only
SLOW = 0.5

#: (picture, severity) -> picture
Side = Callable[[Pictures, int], Pictures]


def picture(height: int, width: int) -> Pictures:
    """Return soft coloured patches with a little noise, (H, W, 3) uint8."""
    rng = np.random.default_rng(0)
    patches = rng.uniform(0, 255, (height // 16 + 2, width // 16 + 2, 3)).astype(np.float32)
    smooth = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255)
    return np.asarray(noisy, np.float32).astype(np.uint8)


def installed() -> tuple[dict[str, ModuleType], list[str]]:
    """Return the other libraries' modules, and the names of those that are missing."""
    found: dict[str, ModuleType] = {}
    missing: list[str] = []
    for name, module in PEERS.items():
        try:
            found[name] = importlib.import_module(module)
        except ImportError:
            missing.append(name)
    return found, missing


def sides(kind: Kind, peers: dict[str, ModuleType]) -> dict[str, Side]:
    """Return who can make such pictures; the others name a corruption without our prefix."""
    rng = np.random.default_rng(0)
    found: dict[str, Side] = {OURS: lambda image, severity: kind.render(image, severity, rng)}
    theirs = kind.name.removeprefix("c-").replace("-", "_")
    for name, module in peers.items() if kind.name.startswith("c-") else ():

        def render(image: Pictures, severity: int, module: ModuleType = module) -> Pictures:
            made = module.corrupt(image, severity=severity, corruption_name=theirs)
            return np.asarray(made).astype(np.uint8)

        found[name] = render
    return found


def seconds(side: Side, image: Pictures, levels: int, rounds: int) -> float:
    """Return CPU-seconds a picture, over ``rounds`` rounds of all severities."""
    start = time.process_time()
    for _ in range(rounds):
        for severity in range(1, levels + 1):
            side(image, severity)
    return (time.process_time() - start) / (rounds * levels)


def measure(
    kind: Kind, image: Pictures, peers: dict[str, ModuleType], repeats: int, aim: float
) -> dict[str, float]:
    """Return the median CPU-seconds a picture of every side, interleaved."""
    found = sides(kind, peers)
    taken: dict[str, list[float]] = {name: [] for name in found}
    first: dict[str, float] = {}
    for name, side in found.items():
        seconds(side, image, kind.levels, 1)  # compilers and caches
        first[name] = seconds(side, image, kind.levels, 1)
    for _ in range(repeats):
        for name, side in found.items():
            if first[name] > SLOW:
                taken[name] = [first[name]]
                continue
            rounds = max(1, round(aim / (first[name] * kind.levels)))
            taken[name].append(seconds(side, image, kind.levels, rounds))
    return {name: statistics.median(values) for name, values in taken.items()}


def row(kind: Kind, found: dict[str, float], columns: list[str]) -> str:
    """Return one line of the table: pictures a second, and the ratio to the quickest other."""
    shown = [f"{1 / found[name]:.0f}" if name in found else "–" for name in [OURS, *columns]]
    others = [value for name, value in found.items() if name != OURS]
    ratio = f"{min(others) / found[OURS]:.1f}" if others else "–"
    return f"| `{kind.name}` | {' | '.join(shown)} | {ratio} |"


def main() -> None:
    """Print one table a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="32x32,224x224,512x1024", help="rows x columns")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", default="", help="names, comma-separated; default: all")
    parser.add_argument("--seconds", type=float, default=0.05)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    peers, missing = installed()
    chosen = [name for name in given.kinds.split(",") if name]
    kinds = [kind for kind in KINDS.values() if not chosen or kind.name in chosen]
    for name in missing:
        print(f"{name} is not installed: measured without it (pip install {name})")
    for size in given.sizes.split(","):
        height, width = map(int, size.split("x"))
        image = picture(height, width)
        print(f"\n{height} × {width}: pictures a CPU-second\n")
        print(f"| kind | {' | '.join([OURS, *peers])} | ratio to the quickest other |")
        print("|" + " --- |" * (len(peers) + 3))
        for kind in kinds:
            found = measure(kind, image, peers, given.repeats, given.seconds)
            print(row(kind, found, list(peers)), flush=True)


if __name__ == "__main__":
    main()
