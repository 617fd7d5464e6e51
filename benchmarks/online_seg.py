"""Frames a second of every method of segmentation, and its cost as a ratio to a source forward.

    OMP_NUM_THREADS=1 python benchmarks/online_seg.py [--size 480x360] [--repeats 9]

Methods, the source forward and the bare loop take turns, one thread, one process; a figure is the
median of CPU time (``process_time``). A step is what a stream's frame costs the method: its update
and its answer. The last line says what the suite adds: ``transadapt`` driven by ``run_stream``,
beside the same maths in a bare loop below. Peak memory is of a fresh process that runs one method
alone, counted from after the imports (Linux only).
"""

from __future__ import annotations

import argparse
import copy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from dabench import registry
from dabench.contract.access import Online, Recorder
from dabench.contract.types import Task
from dabench.engine.setup.environment import keep_freed_memory
from dabench.engine.stream import Progress, run_stream
from dabench.methods.functional.consistency import consistency
from dabench.methods.functional.losses import entropy
from dabench.methods.functional.normalisation import (
    adapt_normalisation,
    train_only_norms,
)
from dabench.methods.functional.shift_norm import ImageShift
from dabench.methods.functional.transfer import transfer_logits
from dabench.networks.dense import DenseNetwork, build_segmenter, upsample
from dabench.views.photometric import Photometric
from dabench.views.warps import Warp

METHODS = ("source", "bn-adapt", "tent", "max-squares", "tta-aug", "cotta", "transadapt")
OPTIONS: dict[str, dict[str, object]] = {"cotta": {"views": 4}}
CLASSES = tuple(str(i) for i in range(11))
WARM = 2
Step = Callable[[Tensor], Tensor]


def task_of(shape: tuple[int, int]) -> Task:
    """Return a task of frames of (height, width) pixels, as of a camera in a car."""
    return Task("segmentation", CLASSES, shape[0], False, True, width=shape[1])


def driven(name: str, net: DenseNetwork, shape: tuple[int, int]) -> Step:
    """Return one step of a method under ``run_stream``."""
    method, task = registry.method(name)(**OPTIONS.get(name, {})), task_of(shape)
    parts = {x: method.source_parts(net, task).eval() for x in method.extras}
    method.begin(Online(task, net, 1, 0, Recorder(), parts))
    waiting: list[Tensor] = []

    def feed() -> Iterator[Tensor]:
        while True:
            yield waiting.pop()

    steps = run_stream(method, feed(), Progress(), 0, dense=True)

    def step(images: Tensor) -> Tensor:
        waiting.append(images)
        return next(steps)[1]

    return step


def bare_transadapt(net: DenseNetwork, shape: tuple[int, int]) -> Step:
    """Return TransAdapt's step with its default options, without the suite around it."""
    method = registry.method("transadapt")()
    parts = method.source_parts(net, task_of(shape)).eval().requires_grad_(False)
    net.classifier = parts.head.requires_grad_(True)
    shift = ImageShift(net, method.margin * parts.usual, method.rho)
    adapt_normalisation(net)
    own = [*train_only_norms(net), *(p.requires_grad_(True) for p in net.classifier.parameters())]
    optimiser = torch.optim.SGD(own, lr=method.lr, momentum=method.momentum)
    anchor = copy.deepcopy(net).requires_grad_(False)

    def scores(images: Tensor, net: DenseNetwork = net) -> Tensor:
        out: Tensor = net.classifier(net.features(images))
        return out

    def step(images: Tensor) -> Tensor:
        shift.weigh(images, net, anchor)
        with torch.no_grad():
            target = scores(images, anchor).softmax(1)
        loss = method.unsup_weight * entropy(scores(images).softmax(1)).mean()
        loss = loss + consistency(target, scores(Photometric.draw(1).apply(images)))
        warp = Warp.draw(1, flip=True)
        seen = scores(warp.apply(images))
        valid = warp.valid((seen.shape[-2], seen.shape[-1]))
        loss = loss + consistency(warp.apply(target), seen, valid)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            features = net.features(images)
            logits = transfer_logits(parts.module(features), net.classifier(features))
            return upsample(logits, shape)

    return step


def rows_of(
    names: tuple[str, ...], source: DenseNetwork, shape: tuple[int, int]
) -> dict[str, Step]:
    """Return the steps to measure by name."""

    @torch.no_grad()
    def forward(x: Tensor) -> Tensor:
        out: Tensor = source(x)
        return out

    rows: dict[str, Step] = {"source forward": forward}
    rows |= {name: driven(name, copy.deepcopy(source), shape) for name in names}
    if names == METHODS:
        rows["bare transadapt"] = bare_transadapt(copy.deepcopy(source), shape)
    return rows


def measure(rows: dict[str, Step], images: Tensor, repeats: int) -> dict[str, list[float]]:
    """Return CPU seconds by row; the rows take turns."""
    spent: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(repeats + WARM):
        for name, step in rows.items():
            start = time.process_time()
            step(images)
            if turn >= WARM:
                spent[name].append(time.process_time() - start)
    return spent


def peak(name: str, size: str, backbone: str) -> float:
    """Return the peak memory in MiB of a process that runs one method."""
    words = [sys.executable, __file__, "--size", size, "--backbone", backbone, "--memory-of", name]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return float(out)


def peak_of(name: str, source: DenseNetwork, images: Tensor) -> float:
    """Run one method and return the process's peak memory meanwhile in MiB."""
    rows = rows_of((name,), source, (images.shape[2], images.shape[3]))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    measure(rows, images, 1)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="480x360", help="WIDTHxHEIGHT")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--backbone", default="small-seg")
    parser.add_argument("--memory-of", help="run this method alone, and print its peak in MiB")
    given = parser.parse_args()
    width, height = (int(word) for word in given.size.split("x"))
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    source = build_segmenter(given.backbone, "none", len(CLASSES)).eval()
    images = torch.rand(1, 3, height, width)
    if given.memory_of:
        print(peak_of(given.memory_of, source, images))
        return
    spent = measure(rows_of(METHODS, source, (height, width)), images, given.repeats)
    median = {name: statistics.median(values) for name, values in spent.items()}
    print(f"{given.backbone}, one frame of {given.size} px a step, one thread\n")
    print("| | frames a CPU-second | ÷ source forward | peak MiB |\n| --- | --- | --- | --- |")
    for name, value in median.items():
        memory = f"{peak(name, given.size, given.backbone):.0f}" if name in METHODS else "–"
        print(f"| {name} | {1 / value:.1f} | {value / median['source forward']:.2f} | {memory} |")
    pairs = zip(spent["transadapt"], spent["bare transadapt"], strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"\n`transadapt` under `run_stream` ÷ bare loop, median of pairs: {ratio:.3f}")


if __name__ == "__main__":
    main()
