"""What a step of every online method costs, as a ratio to a source forward, in one process.

    OMP_NUM_THREADS=1 python benchmarks/online.py [--size 64] [--batch 64] [--repeats 15]

Methods, the source forward and the bare loops take turns, one thread; a figure is the median of CPU
time (``process_time``). The last two rows say what the suite's own loop adds: ``bn-adapt`` and
``tent`` driven by ``run_stream``, beside the same maths written out below.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from dabench import registry
from dabench.contract.access import Online, Recorder
from dabench.contract.network import Network
from dabench.contract.types import Task
from dabench.engine.environment import keep_freed_memory
from dabench.engine.stream import StreamLog, run_stream
from dabench.networks.network import build_classifier

METHODS: dict[str, dict[str, object]] = {
    "source": {},
    "bn-adapt": {},
    "tent": {},
    "eata": {},
    "sar": {},
    "cotta": {"views": 4},
    "shot-online": {},
    "conda": {},
    "ucl-gv": {},
    "aerial": {},
}
CLASSES = tuple(str(i) for i in range(10))


def bare_batchnorm(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a forward pass in batch statistics, in plain torch."""
    layers = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.train()
        layer.track_running_stats = False

    @torch.no_grad()
    def step(images: Tensor) -> Tensor:
        out: Tensor = net(images)
        return out

    return step


def bare_tent(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return Tent's step in plain torch."""
    bare_batchnorm(net)
    net.requires_grad_(False)
    layers = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    own = [p.requires_grad_(True) for layer in layers for p in layer.parameters()]
    optimiser = torch.optim.Adam(own, lr=1e-3)

    def step(images: Tensor) -> Tensor:
        logits: Tensor = net(images)
        loss = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return logits.detach()

    return step


def driven(name: str, net: Network, size: int, batch: int) -> Callable[[Tensor], Tensor]:
    """Return one step of a method under ``run_stream``."""
    method = registry.method(name)(**METHODS[name])
    extras = {x: torch.rand(64, 3, size, size) for x in method.extras}
    task = Task("classification", CLASSES, size)
    method.begin(Online(task, net, batch, 0, Recorder(), extras))
    waiting: list[Tensor] = []

    def feed() -> Iterator[Tensor]:
        while True:
            yield waiting.pop()

    stream_log = StreamLog()
    steps = run_stream(method, feed(), stream_log, 0)

    def step(images: Tensor) -> Tensor:
        waiting.append(images)
        _, logits = next(steps)
        stream_log.add(logits)
        return logits

    return step


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--backbone", default="small-cnn")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    source = build_classifier(given.backbone, "none", len(CLASSES)).eval()
    images = torch.rand(given.batch, 3, given.size, given.size)

    @torch.no_grad()
    def forward(x: Tensor) -> Tensor:
        out: Tensor = source(x)
        return out

    rows = {"source forward": forward}
    for name in METHODS:
        rows[name] = driven(name, copy.deepcopy(source), given.size, given.batch)
    rows["bare bn-adapt"] = bare_batchnorm(copy.deepcopy(source))
    rows["bare tent"] = bare_tent(copy.deepcopy(source))
    spent: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(given.repeats + 3):
        for name, step in rows.items():
            start = time.process_time()
            step(images)
            if turn >= 3:  # the first turns warm up, and fill the buffers
                spent[name].append(time.process_time() - start)
    median = {name: statistics.median(values) for name, values in spent.items()}
    base = median["source forward"]
    print(f"{given.backbone}, {given.batch} images of {given.size} px, one thread\n")
    print("| | ms a batch | ÷ source forward |\n| --- | --- | --- |")
    for name, value in median.items():
        print(f"| {name} | {value * 1e3:.1f} | {value / base:.2f} |")
    for name in ("bn-adapt", "tent"):
        ratios = [a / b for a, b in zip(spent[name], spent[f"bare {name}"], strict=True)]
        ratio = statistics.median(ratios)
        print(f"\n`{name}` under `run_stream` ÷ bare loop, median of pairs: {ratio:.3f}")


if __name__ == "__main__":
    main()
