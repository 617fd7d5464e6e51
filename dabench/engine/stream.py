"""The loop that drives an online method along a stream; what it knows so far, and holds at most."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dabench.contract.access import TargetBatch
from dabench.contract.answers import check_logits
from dabench.contract.method import OnlineMethod

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
#: bytes by which the kernel's own counts may differ right after a reset
_SLACK = 16 * 2**20
#: highest peaks that resets have wiped out; a run's whole peak counts them
_wiped: dict[str, float] = {}


@dataclass
class Progress:
    """How far a stream has gone; a checkpoint holds all of it.

    Attributes:
        steps: batches that are done.
        seconds: time inside the method.
        skipped: updates that methods before the present one left out.
    """

    steps: int = 0
    seconds: float = 0.0
    skipped: int = 0


@dataclass
class StreamLog(Progress):
    """What is known of a stream of classification so far.

    Attributes:
        prediction: per step, (B,) argmax of the method's logits.
        confidence: per step, (B,) max softmax.
        mean: per step, (K,) mean softmax.
        sizes: per step, B.
        later: per step, (B,) argmax after the update, where the protocol asks for it too.
        source: per step, (B,) argmax of the source model on the same batch.
        probes: held-out accuracy by (number of the segment after which, name of the condition).
        busy_until: step before which the method is still at work, where the stream does not wait.
        adapted: per step, whether the method adapted on it, and not only answered.
    """

    prediction: list[Tensor] = field(default_factory=list)
    confidence: list[Tensor] = field(default_factory=list)
    mean: list[Tensor] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    later: list[Tensor] = field(default_factory=list)
    source: list[Tensor] = field(default_factory=list)
    probes: list[tuple[int, str, float]] = field(default_factory=list)
    busy_until: int = 0
    adapted: list[bool] = field(default_factory=list)

    def add(self, logits: Tensor) -> None:
        """Keep what a batch's (B, K) logits say."""
        p = logits.detach().float().softmax(1)
        top = p.max(1)
        self.prediction.append(top.indices.cpu())
        self.confidence.append(top.values.cpu())
        self.mean.append(p.mean(0).cpu())
        self.sizes.append(len(p))
        self.steps += 1


def step(method: OnlineMethod, batch: TargetBatch) -> Tensor:
    """Let a method adapt on a batch, and return its logits."""
    return method.step(batch)


def run_stream(
    method: OnlineMethod,
    batches: Iterator[Tensor],
    progress: Progress,
    images_before: int,
    *,
    num_classes: int | None = None,
    dense: bool = False,
    before_step: Callable[[TargetBatch], None] | None = None,
    answer: Callable[[OnlineMethod, TargetBatch], Tensor] = step,
) -> Iterator[tuple[TargetBatch, Tensor]]:
    """Push (B, 3, H, W) batches one by one; yield each with the logits that the method answered.

    Args:
        method: after ``begin``, on its device.
        batches: float images in [0, 1].
        progress: counts the time that the method takes.
        images_before: images that were pushed before (a resumed run).
        num_classes: K, which logits must have; None = any.
        dense: whether logits are (B, K, H, W), one vector a pixel.
        before_step: called with every batch, on the device, before the method steps.
        answer: asks a method for a batch's logits; usually it steps.

    Raises:
        TrainingError: logits of another shape, or not finite; names the step.
    """
    device = next((p.device for p in method.parameters()), torch.device("cpu"))
    for images in batches:
        index = torch.arange(images_before, images_before + len(images), device=device)
        batch = TargetBatch(images.to(device), index)
        images_before += len(images)
        if before_step is not None:
            before_step(batch)
        # a copy: the source model is asked about the same images after the method was
        own = TargetBatch(batch.images.clone(), batch.index.clone())
        with timed(progress, device):
            logits = answer(method, own)
        check_logits(
            *(method, "step", logits, batch.images),
            num_classes=num_classes,
            dense=dense,
            step=progress.steps,
        )
        yield batch, logits


@contextlib.contextmanager
def timed(progress: Progress, device: torch.device | str) -> Iterator[None]:
    """Add to ``progress.seconds`` what passes inside, until the device has done it."""
    start = synchronised_clock(device := torch.device(device))
    yield
    progress.seconds += synchronised_clock(device) - start


def synchronised_clock(device: torch.device) -> float:
    """Read the clock when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def process_peak() -> float:
    """Return the most bytes of main memory that this process ever held, resets or not."""
    if sys.platform == "win32":
        return _wiped.get("process", 0.0)
    import resource

    unit = 1.0 if sys.platform == "darwin" else 1024.0
    now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return max(now, _wiped.get("process", 0.0))


def card_peak(device: str) -> float:
    """Return the most bytes that torch ever had allocated on a CUDA device, resets or not."""
    return max(float(torch.cuda.max_memory_allocated(device)), _wiped.get(device, 0.0))


class StepMemory:
    """The peak of memory from :meth:`start` on, where the system can tell it.

    On a CPU: main memory of the process (Linux: what ``/proc/self/clear_refs`` resets), with its
    libraries, the networks and the batches that are made ahead. On CUDA: what torch had allocated
    on the card. Elsewhere nothing is known, and nothing is said.

    Args:
        device: of the run.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.known = False

    def start(self) -> None:
        """Forget the peak so far; what a whole run reports still counts it."""
        if self.device.startswith("cuda"):
            _wiped[self.device] = card_peak(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.known = True
        elif self.device == "cpu":
            _wiped["process"] = process_peak()
            self.known = _reset_process()

    def cost(self) -> dict[str, float]:
        """Return ``step_memory_bytes``, or nothing where it is not known."""
        if not self.known:
            return {}
        if self.device.startswith("cuda"):
            return {"step_memory_bytes": float(torch.cuda.max_memory_allocated(self.device))}
        peak = _status("VmHWM")
        return {} if peak is None else {"step_memory_bytes": peak}


def _reset_process() -> bool:
    """Bring the process's peak down to what it holds; return whether that worked."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # what is free but kept belongs to nobody's step
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    held, peak = _status("VmRSS"), _status("VmHWM")
    return held is not None and peak is not None and peak <= held + _SLACK


def _status(name: str) -> float | None:
    """Return bytes from the kernel's account of this process, or None where it has none."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return float(found[0]) * 1024 if found else None
