"""What a stream gains when its weather is made ahead of the step, as a ratio of rates.

    OMP_NUM_THREADS=1 python benchmarks/prefetch.py [--wait 0.35] [--batches 12] [--repeats 3]

Pictures of 224 px under fog, 64 a batch. The method only sleeps, as a process does while an
accelerator computes a ResNet-50's step; so it is the loop that is measured, on any machine with two
cores. Runs with and without take turns in one process, and their pictures and scores are compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import statistics
import time
from typing import Any

import numpy as np
import torch
from stream_checkpoints import Still, TinyNetwork
from torch import Tensor, nn

from dabench.contract.access import Budget, Recorder, TargetBatch
from dabench.contract.data import Labelled
from dabench.contract.protocol import Outcome, Run, StreamPlan
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import Task
from dabench.protocols.online_tta import OnlineTTA

SIDE, BATCH, IMAGES = 224, 64, 128


class Shrinking(TinyNetwork):
    """A linear layer over pixels that were made few."""

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, K) logits."""
        return super().forward(nn.functional.adaptive_avg_pool2d(images, 8))


class Sleeping(Still):
    """Answers as the source model does, and waits."""

    wait = 0.0
    seen: Any

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer after a while; remember every seventh row and column of the pictures."""
        self.seen.update(batch.images[..., ::7, ::7].numpy().tobytes())
        time.sleep(self.wait)
        return super().step(batch)


def stream(batches: int) -> StreamPlan:
    """Return a foggy stream of so many batches."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    truth = rng.integers(0, 10, IMAGES)
    rows = np.concatenate([rng.permutation(IMAGES)[:BATCH] for _ in range(batches)])
    return StreamPlan(
        task=Task("classification", tuple("0123456789"), SIDE),
        source=Labelled(images, truth, "-"),
        source_val=None,
        images=images,
        truth=truth,
        stream=Stream(((Segment("fog", "fog", 3), rows),), BATCH, 0),
        held_out=np.arange(0),
    )


def measure(plan: StreamPlan, wait: float, prefetch: int) -> tuple[float, str, Outcome]:
    """Return the seconds of a run, a digest of what the method saw, and the outcome."""
    seen = hashlib.sha256()

    def build() -> Sleeping:
        method = Sleeping()
        method.wait, method.seen = wait, seen
        return method

    torch.manual_seed(0)
    network: Any = Shrinking()
    run = Run("source", Budget(1, BATCH), 0, "cpu", Recorder(), False)
    start = time.perf_counter()
    outcome = OnlineTTA(shifts="fog:3").run(
        build, plan, network, dataclasses.replace(run, prefetch=prefetch)
    )
    return time.perf_counter() - start, seen.hexdigest(), outcome


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wait", type=float, default=0.35, help="seconds a step sleeps")
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    plan = stream(given.batches)
    measure(stream(1), 0.0, 0)  # warms up
    found: dict[int, list[float]] = {0: [], 2: []}
    answers = set()
    for turn in range(given.repeats):
        for prefetch in (0, 2) if turn % 2 else (2, 0):
            seconds, digest, outcome = measure(plan, given.wait, prefetch)
            found[prefetch].append(seconds)
            answers.add((digest, tuple((score.key, score.value) for score in outcome.scores)))
    images = given.batches * BATCH
    plain, early = (images / statistics.median(found[count]) for count in (0, 2))
    print(f"{plain:.0f} images a second, {early:.0f} with two batches ahead: {early / plain:.2f}")
    print(f"pictures and scores are the same: {'yes' if len(answers) == 1 else 'NO'}")


if __name__ == "__main__":
    main()
