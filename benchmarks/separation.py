"""What share of an epoch goes to the clusters, neighbours and mixture that label a target set.

    OMP_NUM_THREADS=1 python benchmarks/separation.py [--epochs 4] [--images 1280]

Trains each method on made pictures (small-cnn, 32 px, batch 64, one thread) and measures CPU time,
all in one process: of the whole, and of the calls that need features and answers alone (no
network). The passes over the target that give these are not part of the share: every method that
labels a set makes them. Real photographs and deeper networks make the share smaller.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from overhead import begin, pictures

from dabench.contract.access import Recorder, Unlabelled
from dabench.contract.protocol import Run
from dabench.engine.fit import fit

#: module of the method -> names of the functions in it that are counted
COUNTED = {"usd": ("cluster_posterior", "nearest_neighbours", "fit_two_component")}
MODULES = {"usd": "dabench.methods.source_free.known_unknown"}


def main() -> None:
    """Measure and print one line a method."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=1280)
    args = parser.parse_args()
    torch.set_num_threads(1)
    target = Unlabelled(pictures(args.images), np.arange(args.images))
    for name, functions in COUNTED.items():
        method = begin(target, args.epochs, Recorder())
        spent = dict.fromkeys(functions, 0.0)
        module: Any = sys.modules[MODULES[name]]
        for function in functions:
            setattr(module, function, timed(getattr(module, function), function, spent))
        start = time.process_time()
        run = Run("source", method.access.budget, 0, "cpu", Recorder(), False)
        fit(method, method.access.target, method.access.cost, run)
        whole = time.process_time() - start
        parts = ", ".join(f"{f} {s / whole:.1%}" for f, s in spent.items())
        print(f"{name}: {sum(spent.values()) / whole:.1%} of {whole:.1f} s ({parts})")


def timed(call: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    """Return ``call`` with its CPU seconds added to ``spent``."""

    def counted(*args: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return call(*args, **options)
        finally:
            spent[name] += time.process_time() - start

    return counted


if __name__ == "__main__":
    main()
