"""What checkpoints add to a long stream, as a ratio to the same stream without them.

    OMP_NUM_THREADS=1 python benchmarks/stream_checkpoints.py [--steps 20160] [--every 50]

A method that learns nothing answers tiny pictures, so that next to nothing hides the checkpoints.
Runs with and without take turns in one process, one thread; figures are medians of wall and CPU
time. ``kB a batch`` is what the process's resident memory grew by over the last three quarters
of the first run with checkpoints.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dabench.contract.access import Budget, Online, Recorder, TargetBatch
from dabench.contract.cost import Cost
from dabench.contract.data import Labelled
from dabench.contract.method import OnlineMethod
from dabench.contract.protocol import Resume, Run, StreamPlan
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import Prediction, Task
from dabench.protocols.online_tta import OnlineTTA

CLASSES, SIDE, BATCH = 10, 8, 4


class TinyNetwork(nn.Module):
    """A linear layer over the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.cost = nn.Linear(3 * SIDE**2, CLASSES), Cost()

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, K) logits."""
        self.cost.count(len(images), backward=False)
        found: Tensor = self.layer(images.flatten(1))
        return found


class Still(OnlineMethod):
    """Answers as the source model does."""

    #: resident bytes by step, where they are watched
    memory: dict[int, int] | None = None
    steps = 0

    def begin(self, access: Online) -> None:
        """Take the source model."""
        super().begin(access)
        self.net = access.source_model

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        """Answer."""
        self.steps += 1
        if self.memory is not None and self.steps % 100 == 0:
            self.memory[self.steps] = resident_bytes()
        found: Tensor = self.net(batch.images)
        return found

    def predict(self, images: Tensor) -> Prediction:
        """Answer."""
        return Prediction(self.net(images))


def resident_bytes() -> int:
    """Return the process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def stream(steps: int) -> StreamPlan:
    """Return a clear stream of so many batches."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, SIDE, SIDE, 3), dtype=np.uint8)
    truth = rng.integers(0, CLASSES, 64)
    rows = rng.integers(0, 64, steps * BATCH)
    return StreamPlan(
        task=Task("classification", tuple("0123456789"), SIDE),
        source=Labelled(images, truth, "-"),
        source_val=None,
        images=images,
        truth=truth,
        stream=Stream(((Segment("clear", "clear"), rows),), BATCH, 0),
        held_out=np.arange(8),
    )


def measure(plan: StreamPlan, every: int, memory: dict[int, int] | None = None) -> list[float]:
    """Return wall and CPU seconds of a run."""

    def build() -> Still:
        method = Still()
        method.memory = memory
        return method

    network: Any = TinyNetwork()
    with tempfile.TemporaryDirectory() as folder:
        resume = Resume(Path(folder) / "checkpoint.pt", "a", every, False)
        run = Run("source", Budget(1, BATCH), 0, "cpu", Recorder(), False, resume)
        start = time.perf_counter(), time.process_time()
        OnlineTTA(shifts="clear").run(build, plan, network, run)
        return [time.perf_counter() - start[0], time.process_time() - start[1]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20160)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    measure(stream(200), 50)  # warms up
    plan, memory = stream(given.steps), {}  # type: tuple[StreamPlan, dict[int, int]]
    found: dict[int, list[list[float]]] = {0: [], given.every: []}
    for turn in range(given.repeats):
        for every in (0, given.every) if turn % 2 else (given.every, 0):
            found[every].append(measure(plan, every, memory if every and not turn else None))
    (wall, cpu), (kept_wall, kept_cpu) = (
        [statistics.median(column) for column in zip(*rows, strict=True)] for rows in found.values()
    )
    first, last = given.steps // 400 * 100, given.steps // 100 * 100
    grown = (memory[last] - memory[first]) / (last - first) / 1000
    print("| steps | s without | s with | ratio | CPU ratio | kB a batch |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(
        f"| {given.steps:,} | {wall:.1f} | {kept_wall:.1f} | {kept_wall / wall:.2f} "
        f"| {kept_cpu / cpu:.2f} | {grown:.1f} |"
    )


if __name__ == "__main__":
    main()
