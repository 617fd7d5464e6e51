"""What ``keep_freed_memory`` is worth: one training step with and without it, alternating.

    python benchmarks/allocation.py [--backbone resnet18] [--side 128] [--repeats 5] [--threads 1]

Prints the median ratio of the two step times within this process (below 1: quicker with it).
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from dabench.contract.network import Network
from dabench.engine.setup.environment import set_thresholds
from dabench.networks.network import build_classifier

USUAL, KEEPING = (2**17, 2**17, 2**17), (2**30, 2**31 - 1, 2**26)


def step_seconds(network: Network, images: torch.Tensor, steps: int = 5) -> float:
    """Return seconds of a forward and backward pass."""
    network(images).sum().backward()
    start = time.perf_counter()
    for _ in range(steps):
        network(images).sum().backward()
    return (time.perf_counter() - start) / steps


def main() -> None:
    """Alternate the two settings and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    network = build_classifier(given.backbone, "none", 10).train()
    images = torch.rand(given.batch_size, 3, given.side, given.side)
    ratios = []
    for _ in range(given.repeats):
        set_thresholds(*USUAL)
        usual = step_seconds(network, images)
        set_thresholds(*KEEPING)
        kept = step_seconds(network, images)
        ratios.append(kept / usual)
        print(f"usual {1e3 * usual:.0f} ms, keeping {1e3 * kept:.0f} ms, ratio {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
