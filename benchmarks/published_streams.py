"""What a stream over published files costs: its start, and its steps beside a tensor in memory.

    OMP_NUM_THREADS=1 python benchmarks/published_streams.py [--images 9990] [--backbone resnet18]

Files in the layout of CIFAR-10 and CIFAR-10-C are made in a temporary folder (noise; severity 5
alone is written, 15 x 31 MB, the rest of each file is a hole). Start: from the call that loads the
data set to the frozen plan of all 15 corruptions; the first one reads and hashes the pictures,
later ones find the digests in the cache. Steps: every batch of some corruptions goes through the
source model by turns from the files, as the runner reads them, and from a uint8 tensor in memory;
the ratio is that of the sums of CPU seconds. (10 pictures fewer than published: noise of the full
size would be refused as a look-alike.) Bounds: 2 s for a start, 1.03 for the steps.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap

from dabench.contract.data import DataRequest
from dabench.contract.floats import to_float
from dabench.contract.protocol import StreamPlan
from dabench.datasets.arrays.cifar_c import PER_SEVERITY, Cifar10C
from dabench.datasets.weather.groups import STANDARD
from dabench.networks.network import build_classifier
from dabench.protocols.continual_tta import ContinualTTA
from dabench.protocols.streams.shifts import render

START, RATIO = 2.0, 1.03
BATCH = 200


def write_files(root: Path, count: int) -> None:
    """Write noise in the published layout."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(count) % 10)
    clear = root / "cifar-10-batches-py"
    clear.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        found = {"data": data, "labels": [int(n) for n in labels]}
        (clear / name).write_bytes(pickle.dumps(found, protocol=2))
    home = root / "CIFAR-10-C"
    home.mkdir()
    np.save(home / "labels.npy", np.tile(labels, 5))
    for name in STANDARD:
        file = open_memmap(home / f"{name}.npy", "w+", np.uint8, (5 * count, 32, 32, 3))
        file[4 * count :] = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        file.flush()


def start_stream(root: Path) -> tuple[StreamPlan, float]:
    """Return the plan of all 15 corruptions and the seconds that it took."""
    begin = time.perf_counter()
    data = Cifar10C().load(DataRequest("train", "test", 32, root, root / "cache"))
    plan = ContinualTTA(shifts="published-15:5", sequence="given").plan(data, BATCH, 0)
    return plan, time.perf_counter() - begin


def step_ratio(plan: StreamPlan, backbone: str, segments: int) -> tuple[float, float]:
    """Return CPU seconds of a step from memory, and how many times as many from the files."""
    model = build_classifier(backbone, "none", 10).eval()
    seconds = [0.0, 0.0]
    steps = 0
    for segment, rows in plan.stream.segments[:segments]:
        pictures = plan.published[segment.domain, segment.severity]
        memory = torch.from_numpy(pictures[np.arange(len(rows))])
        for part in np.array_split(rows, len(rows) // BATCH):
            for turn in (0, 1) if steps % 2 else (1, 0):
                begin = time.process_time()
                if turn:
                    images = to_float(render(plan.images, part, segment, 0, plan.published))
                else:
                    images = memory[torch.from_numpy(part)].permute(0, 3, 1, 2).float().div_(255)
                with torch.no_grad():
                    model(images)
                seconds[turn] += time.process_time() - begin
            steps += 1
    return seconds[0] / steps, seconds[1] / seconds[0]


def main() -> None:
    """Measure and print three lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=9_990, help="pictures of a severity")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--segments", type=int, default=3, help="corruptions whose steps count")
    args = parser.parse_args()
    if args.images == PER_SEVERITY:
        parser.error("noise of the full size is refused, because it is not the published set")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_files(root, args.images)
        begin = time.perf_counter()
        Cifar10C().load(DataRequest("train", "test", 32, root, root / "cache"))
        converted = time.perf_counter() - begin
        first = start_stream(root)[1]
        plan, again = start_stream(root)
        step, ratio = step_ratio(plan, args.backbone, args.segments)
    print(f"clear pickles turned once {converted:.2f} s; {args.images} x 15: first {first:.2f} s")
    print(f"start {again:.3f} s (bound {START:g})")
    print(f"{args.backbone}: {step:.4f} s a step from memory, {ratio:.4f} of it from files")
    raise SystemExit(again > START or ratio > RATIO)


if __name__ == "__main__":
    main()
