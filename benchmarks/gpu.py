"""Whether an accelerator is kept busy: step ÷ source forward, whole loop ÷ bare loop, idle share.

    python benchmarks/gpu.py [--device cuda] [--networks resnet50,vit_b_16] [--methods source,tent]
        [--precision 32,bf16] [--prefetch 4] [--batches 30] [--size 224] [--batch 64]

*Step ÷ forward*: a method's step on tensors that lie on the device, over the source model's
forward pass. *Whole ÷ bare*: images a second of a stream under fog, from pictures on the host to
recorded answers, over those of step and forward pass on resident tensors (a protocol asks the
source model as well; aim: .95 or more); the first three steps are left out. *Idle*: the share of
the loop's time in which no kernel runs, by the profiler. On a CPU (``--device cpu --size 64
--batch 8``) it shows that the script runs; idle is not known there.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import prefetch
import torch
from torch import Tensor

from dabench import registry
from dabench.contract.access import Budget, Online, Recorder, TargetBatch
from dabench.contract.cost import Cost
from dabench.contract.network import Network
from dabench.contract.protocol import Run, StreamPlan
from dabench.contract.types import Task
from dabench.networks.network import build_classifier
from dabench.networks.precision import set_precision
from dabench.protocols.online_tta import OnlineTTA

FIRST = 3
CLASSES = tuple("0123456789")


def clock(device: torch.device) -> float:
    """Return seconds, when the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(call: Callable[[], object], device: torch.device, times: int) -> float:
    """Return the median seconds of a call; the first ones warm up."""
    found = []
    for _ in range(FIRST + times):
        start = clock(device)
        call()
        found.append(clock(device) - start)
    return statistics.median(found[FIRST:])


def begun(name: str, network: Network, task: Task, batch: int) -> Any:
    """Return a method that starts from a copy of a network."""
    method, net = registry.method(name)(), copy.deepcopy(network)
    net.cost = Cost()
    method.begin(Online(task, net, batch, 0, Recorder(), {}))
    return method.to(network.mean.device)


def whole_loop(name: str, network: Network, plan: StreamPlan, ahead: int, seen: Any) -> float:
    """Return images a second of a protocol's own loop; a profiler sees what is counted of it."""
    device, ends = network.mean.device, list[float]()

    def build() -> Any:
        method = registry.method(name)()
        adapt = method.step

        def step(batch: TargetBatch) -> Tensor:
            logits: Tensor = adapt(batch)
            ends.append(clock(device))
            if seen is not None and len(ends) == FIRST:
                seen.start()
            return logits

        object.__setattr__(method, "step", step)
        return method

    batch = plan.stream.batch_size
    run = Run("source", Budget(1, batch), 0, str(device), Recorder(), False)
    OnlineTTA(shifts="fog:3").run(build, plan, network, dataclasses.replace(run, prefetch=ahead))
    if seen is not None:
        seen.stop()
    return batch * (len(ends) - FIRST) / (ends[-1] - ends[FIRST - 1])


def idle_share(name: str, network: Network, plan: StreamPlan, ahead: int) -> str:
    """Return which share of a second loop's time no kernel runs; watching slows it down."""
    if network.mean.device.type != "cuda":
        return "-"
    from torch.profiler import ProfilerActivity, profile

    seen = profile(activities=[ProfilerActivity.CUDA])
    images = whole_loop(name, network, plan, ahead, seen)
    busy = sum(row.self_device_time_total for row in seen.key_averages()) / 1e6
    counted = sum(len(rows) for _, rows in plan.stream.segments) - FIRST * plan.stream.batch_size
    return f"{1 - busy / (counted / images):.2f}"


def main() -> None:
    """Print a row for each network, precision and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", default="resnet50,vit_b_16")
    parser.add_argument("--methods", default="source,tent")
    parser.add_argument("--precision", default="32,bf16")
    parser.add_argument("--prefetch", type=int, default=4)
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    prefetch.SIDE, prefetch.BATCH = given.size, given.batch
    plan = prefetch.stream(given.batches)
    task = plan.task
    about = f"{given.batch} images of {given.size} px, {given.prefetch} batches ahead"
    print(f"{name}, torch {torch.__version__}, {about}\n")
    print("| network | precision | method | step ÷ forward | whole ÷ bare | idle |")
    print("| --- | --- | --- | --- | --- | --- |")
    shape = (given.batch, given.size, given.size, 3)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(255).to(device)
    batch = TargetBatch(images, torch.arange(given.batch, device=device))
    for backbone in given.networks.split(","):
        torch.manual_seed(0)
        network = build_classifier(backbone, "none", len(CLASSES), side=given.size)
        network = network.to(device).eval()
        for precision in given.precision.split(","):
            set_precision(network, None if precision == "32" else precision)
            source = begun("source", network, task, given.batch)
            forward = seconds_of(partial(source.step, batch), device, given.batches)
            for method_name in given.methods.split(","):
                method = begun(method_name, network, task, given.batch)
                step = seconds_of(partial(method.step, batch), device, given.batches)
                loop = (method_name, network, plan, given.prefetch)
                share = whole_loop(*loop, None) / (given.batch / (step + forward))
                row = f"| {backbone} | {precision} | {method_name} | {step / forward:.2f} "
                print(f"{row}| {share:.2f} | {idle_share(*loop)} |", flush=True)


if __name__ == "__main__":
    main()
