"""What a stream gains when its weather is made ahead of the step, as a ratio of rates.

    OMP_NUM_THREADS=1 python benchmarks/prefetch.py [--wait 0.17] [--batches 24] [--repeats 3]

Pictures of 224 px under fog, 64 a batch. The method only sleeps, as a process does while an
accelerator computes a ResNet-50's step (0.17 s: forward and backward at some 380 images a second,
what a V100 does in float32); so it is the loop that is measured, on any machine with two idle
cores. Rates are those from the second step on; the seconds before it, which loading and the start
of processes take once a run, are printed apart. Runs with and without take turns in one process,
and their pictures and scores are compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import statistics
import time
from typing import Any

import numpy as np
import torch
from stream_checkpoints import Still, TinyNetwork
from torch import Tensor

from dabench.contract.access import Budget, Recorder, TargetBatch
from dabench.contract.data import Labelled
from dabench.contract.protocol import Outcome, Run, StreamPlan
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import Task
from dabench.protocols.online_tta import OnlineTTA

SIDE, BATCH, IMAGES = 224, 64, 128


class Shrinking(TinyNetwork):
    """A linear layer over a few pixels, which costs nothing beside the loop."""

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, K) logits."""
        return super().forward(images[..., ::28, ::28])


class Sleeping(Still):
    """Answers as the source model does, and waits."""

    wait = 0.0
    seen: Any
    ends: list[float]

    def step(self, batch: TargetBatch) -> Tensor:
        """Answer after a while; remember every seventh row and column of the pictures."""
        self.seen.update(batch.images[..., ::7, ::7].numpy().tobytes())
        time.sleep(self.wait)
        self.ends.append(time.perf_counter())
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


def measure(plan: StreamPlan, wait: float, prefetch: int) -> tuple[float, float, str, Outcome]:
    """Return seconds a step and before it, a digest of what the method saw, and the outcome."""
    seen, ends = hashlib.sha256(), list[float]()

    def build() -> Sleeping:
        method = Sleeping()
        method.wait, method.seen, method.ends = wait, seen, ends
        return method

    torch.manual_seed(0)
    network: Any = Shrinking()
    run = Run("source", Budget(1, BATCH), 0, "cpu", Recorder(), False)
    start = time.perf_counter()
    outcome = OnlineTTA(shifts="fog:3").run(
        build, plan, network, dataclasses.replace(run, prefetch=prefetch)
    )
    step = (ends[-1] - ends[0]) / max(1, len(ends) - 1)
    return step, ends[0] - start - wait, seen.hexdigest(), outcome


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wait", type=float, default=0.17, help="seconds a step sleeps")
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    plan = stream(given.batches)
    measure(stream(1), 0.0, 0)  # warms up
    found: dict[int, list[tuple[float, float]]] = {0: [], 2: []}
    answers = set()
    for turn in range(given.repeats):
        for prefetch in (0, 2) if turn % 2 else (2, 0):
            *seconds, digest, outcome = measure(plan, given.wait, prefetch)
            found[prefetch].append((seconds[0], seconds[1]))
            answers.add((digest, tuple((score.key, score.value) for score in outcome.scores)))
    plain, early = (BATCH / statistics.median(step for step, _ in found[n]) for n in (0, 2))
    first = [statistics.median(begin for _, begin in found[n]) for n in (0, 2)]
    print(f"{plain:.0f} images a second, {early:.0f} with two batches ahead: {early / plain:.2f}")
    print(f"before the first step {first[0]:.1f} s, {first[1]:.1f} s with two batches ahead")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"pictures and scores are the same: {'yes' if len(answers) == 1 else 'NO'}")


if __name__ == "__main__":
    main()
