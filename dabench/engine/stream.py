"""The loop that drives an online method along a stream, and what is known of the stream so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dabench.contract.access import TargetBatch
from dabench.contract.method import OnlineMethod
from dabench.errors import TrainingError


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
        missed: batches that came while it was.
    """

    prediction: list[Tensor] = field(default_factory=list)
    confidence: list[Tensor] = field(default_factory=list)
    mean: list[Tensor] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    later: list[Tensor] = field(default_factory=list)
    source: list[Tensor] = field(default_factory=list)
    probes: list[tuple[int, str, float]] = field(default_factory=list)
    busy_until: int = 0
    missed: int = 0

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
        start = synchronised_clock(device)
        logits = answer(method, own)
        progress.seconds += synchronised_clock(device) - start
        check_logits(
            *(method, "step", logits, batch.images),
            num_classes=num_classes,
            dense=dense,
            step=progress.steps,
        )
        yield batch, logits


def check_logits(
    method: OnlineMethod,
    what: str,
    logits: Tensor,
    images: Tensor,
    *,
    num_classes: int | None = None,
    dense: bool,
    step: int,
) -> None:
    """Refuse logits that do not fit their images, or are no numbers.

    Raises:
        TrainingError: names the method, ``what`` it was asked for, and the step.
    """
    name, size = type(method).__name__, tuple(images.shape[2:]) if dense else ()
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise TrainingError(
            f"{name}: {what} returned {type(logits).__name__}; expected a tensor of real logits"
        )
    shape = tuple(logits.shape)
    fits = len(shape) >= 2 and (shape[0], *shape[2:]) == (len(images), *size)
    if not fits or num_classes not in (None, shape[1]):
        expected = "(B, K, H, W) logits at the images' size" if dense else "(B, K) logits"
        raise TrainingError(
            f"{name}: {what} returned {tuple(logits.shape)} for {len(images)} images; "
            f"expected {expected} of the batch alone, K = {num_classes or 'any'}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise TrainingError(
            f"{name}: logits are not finite at step {step}; lower "
            "--method.lr or normalise the gradients (--method.grad_norm unit-global)"
        )


def synchronised_clock(device: torch.device) -> float:
    """Read the clock when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
