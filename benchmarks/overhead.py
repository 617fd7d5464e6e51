"""What dabench costs per training step, over a bare PyTorch loop of the same USD step.

Both sides run in one process and alternate; the same method object type, data, batches and
BatchNorm modes. dabench's side is ``engine.fit.fit`` (a Lightning Trainer) as a real run calls
it; the bare side is a hand-written loop: loader, loss, zero_grad, backward, step, teacher. Set-up
and the per-epoch separation belong to both sides; curves are left out of both, as they are left
out of adaptation time.

    python benchmarks/overhead.py [--epochs 6] [--repeats 7] [--images 1280] [--board] [--json]

``--board`` gives dabench's side the real recorder (TensorBoard scalars, one figure an epoch).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from dabench import registry
from dabench.contract.access import Budget, Recorder, SourceFree, Unlabelled
from dabench.contract.protocol import Run
from dabench.contract.seeding import seed, seed_everything
from dabench.contract.types import Task
from dabench.engine.fit import fit
from dabench.engine.recording import BoardRecorder
from dabench.networks.network import build_classifier

BATCH = 64


def pictures(count: int, classes: int = 10, side: int = 32) -> np.ndarray:
    """Return (N, S, S, 3) uint8: a coarse pattern for each class, with noise."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (classes, side // 4, side // 4))
    which = rng.integers(0, classes, count)
    grey = patterns[which].repeat(4, axis=1).repeat(4, axis=2)
    noisy = np.clip(grey + rng.normal(0, 40, grey.shape), 0, 255).astype(np.uint8)
    return np.repeat(noisy[..., None], 3, axis=-1)


def begin(target: Unlabelled, epochs: int, recorder: Recorder) -> Any:
    """Return a USD object right after ``begin``, the same every time."""
    seed_everything(0)
    method = registry.method("usd")()
    task = Task("classification", tuple("012345"), 32, open_set=True, flip=False)
    network = build_classifier("small-cnn", "none", task.num_classes)
    method.begin(SourceFree(task, target, network, Budget(epochs, BATCH), 0, recorder))
    return method


def with_dabench(method: Any, epochs: int, recorder: Recorder) -> float:
    """Return seconds of ``fit`` without curves."""
    run = Run("source", Budget(epochs, BATCH), 0, "cpu", recorder, False)
    return fit(method, method.access.target, method.access.cost, run)[1]


def bare(method: Any, epochs: int) -> float:
    """Return seconds of the hand-written loop."""
    start = time.perf_counter()
    batches = method.access.target.loader(BATCH, shuffle=True, seed=seed(0, "batches"))
    trainer = SimpleNamespace(
        global_step=0, current_epoch=0, estimated_stepping_batches=epochs * len(batches)
    )
    method._trainer = trainer  # all that a step reads: counters
    optimiser = method.configure_optimizers()
    method.train()
    for epoch in range(epochs):
        trainer.current_epoch = epoch
        method.on_train_epoch_start()
        for index, batch in enumerate(batches):
            loss = method.training_step(batch, index)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            trainer.global_step += 1
            method.on_train_batch_end()
    seconds = time.perf_counter() - start
    method._trainer = None
    return seconds


@contextlib.contextmanager
def recording(board: bool) -> Iterator[Recorder]:
    """Give the real recorder or one that forgets."""
    if not board:
        yield Recorder()
        return
    with tempfile.TemporaryDirectory() as folder, BoardRecorder(Path(folder)) as recorder:
        yield recorder


def measure(epochs: int, repeats: int, images: int, board: bool) -> dict[str, Any]:
    """Alternate the two sides and return medians and ratios."""
    array = pictures(images)
    target = Unlabelled(array, np.arange(images))
    steps = epochs * len(target.loader(BATCH, shuffle=True))
    pairs: list[tuple[float, float]] = []
    same_work = True
    for repeat in range(repeats + 1):  # the first pair warms up
        with recording(board) as recorder:
            ours = begin(target, epochs, recorder)
            plain = begin(target, epochs, Recorder())
            seed_everything(1)
            if repeat % 2:
                b = bare(plain, epochs)
                seed_everything(1)
                a = with_dabench(ours, epochs, recorder)
            else:
                a = with_dabench(ours, epochs, recorder)
                seed_everything(1)
                b = bare(plain, epochs)
        same_work &= vars(ours.student.cost) == vars(plain.student.cost)
        if repeat:
            pairs.append((a, b))
    ratios = [a / b for a, b in pairs]
    return {
        "steps": steps,
        "batch_size": BATCH,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "board": board,
        "dabench_ms_per_step": 1e3 * statistics.median(a for a, _ in pairs) / steps,
        "bare_ms_per_step": 1e3 * statistics.median(b for _, b in pairs) / steps,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "same_work": same_work,
    }


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--board", action="store_true", help="with the TensorBoard recorder")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = measure(args.epochs, args.repeats, args.images, args.board)
    if args.json:
        print(json.dumps(found))
        return
    ours, bare_ms = found["dabench_ms_per_step"], found["bare_ms_per_step"]
    print(f"dabench {ours:.2f} ms a step, bare loop {bare_ms:.2f} ms, {found['steps']} steps")
    percent = 100 * (found["ratio"] - 1)
    print(f"median of {args.repeats} ratios: {found['ratio']:.4f} ({percent:+.1f} %)")
    print(f"both sides passed equally many images: {'yes' if found['same_work'] else 'no'}")


if __name__ == "__main__":
    main()
