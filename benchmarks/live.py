"""What ``dabench.online`` costs beside the method that it wraps.

    OMP_NUM_THREADS=1 python benchmarks/live.py [--backbone resnet18] [--side 64] [--batch 64]

The same batches go through ``LiveModel`` and through the method's own ``step``, by turns, in one
process; the ratio is that of the medians. They are the same sequence of updates, so that the
answers must be equal, which is checked. Bound: 1.03.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torchvision.models

import dabench
from dabench.api import TargetBatch

BOUND = 1.03


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torchvision.models.get_model(args.backbone, weights=None)
    images = torch.rand(args.steps, args.batch, 3, args.side, args.side)
    live, bare = (dabench.online(model, "tent", image_size=args.side) for _ in range(2))
    wrapped, own = [], []
    for step, batch in enumerate(images):
        start = time.perf_counter()
        answer = live(batch)
        middle = time.perf_counter()
        index = torch.arange(len(batch))
        with torch.enable_grad():
            expected = bare.method.step(TargetBatch(batch, index))
        end = time.perf_counter()
        assert torch.equal(answer, expected), step
        wrapped.append(middle - start)
        own.append(end - middle)
    ratio = statistics.median(wrapped) / statistics.median(own)
    print(
        f"{args.backbone}, {args.side} px, batch {args.batch}: {statistics.median(own):.4f} s a "
        f"step, wrapped {statistics.median(wrapped):.4f} s: {ratio:.4f} (bound {BOUND})"
    )
    raise SystemExit(ratio > BOUND)


if __name__ == "__main__":
    main()
