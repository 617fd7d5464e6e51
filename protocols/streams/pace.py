"""When a method adapts: on each batch, on a window of single images, or as its speed allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dabench.contract.access import TargetBatch
from dabench.contract.answers import predicted
from dabench.contract.cost import Cost
from dabench.contract.method import OnlineMethod
from dabench.engine.stream import StreamLog

#: forward passes that a backward pass counts as
BACKWARD = 2
_ROUNDING = 1e-9


@dataclass
class Pace:
    """Asks a method for answers, and lets it adapt where its turn is.

    Attributes:
        window: W, where images come one at a time and a method sees the last W of them; 1 = as they
            come.
        speed: batches that arrive while the source model would forward one; None = the stream
            waits for the method.
        starts: steps at which a fresh method begins.
        log: what is known of the stream; it says which step is the present one.
        cost: of the run.
        render: a step -> its (B, 3, H, W) images in [0, 1], on the method's device.
        reveal: called with the steps of a window before the method adapts on it.
        asked: how often a method was asked without adapting.
    """

    window: int
    speed: float | None
    starts: tuple[int, ...]
    log: StreamLog
    cost: Cost
    render: Callable[[int], Tensor]
    reveal: Callable[[range], None]
    asked: int = field(default=0, init=False)
    _recent: dict[int, Tensor] = field(default_factory=dict)

    def answer(self, method: OnlineMethod, batch: TargetBatch) -> Tensor:
        """Return the logits of the present step's batch."""
        if self.window > 1:
            return self._by_window(method, batch)
        if self.speed is not None:
            return self._by_speed(method, batch, self.speed)
        return self._adapt(method, batch)

    def _by_window(self, method: OnlineMethod, batch: TargetBatch) -> Tensor:
        """Adapt once per W images, on them; answer others as the method stands.

        A network with BatchNorm answers with the last W images (fewer at the start) in one batch,
        any other one with the image alone. An image's answer is the last row.

        Source: ``forward`` of ``methods/base.py`` in Döbler et al.'s test-time-adaptation.
        """
        step = self.log.steps
        begin = max(start for start in self.starts if start <= step)
        first = max(begin, step + 1 - self.window)
        # a run that goes on has to draw the images before once more
        earlier = {at: self._recent.get(at) for at in range(first, step)}
        kept = {at: self.render(at) if x is None else x for at, x in earlier.items()}
        self._recent = {**kept, step: batch.images.clone()}
        if (step + 1 - begin) % self.window == 0:
            self.reveal(range(first, step + 1))
            index = torch.arange(first, step + 1, device=batch.index.device)
            return self._adapt(method, TargetBatch(torch.cat([*self._recent.values()]), index))[-1:]
        images = batch.images
        # by its statistics: methods put layers of their own in the place of BatchNorm's
        if any(getattr(m, "running_mean", None) is not None for m in method.modules()):
            images = torch.cat([*self._recent.values()])
        return self._predict(method, images)[-1:]

    def _by_speed(self, method: OnlineMethod, batch: TargetBatch, speed: float) -> Tensor:
        """Adapt unless the method is still at work on an earlier batch.

        A step that forwards F and backwards B images of a batch of n takes w = (F + 2 B) / n
        forward passes; while it works the next r - 1 batches arrive, r = max(1, ceil(speed · w)).
        Those it misses are answered by ``predict`` with its last finished update.
        """
        log = self.log
        if log.steps in self.starts:
            log.busy_until = log.steps
        if log.steps < log.busy_until:
            return self._predict(method, batch.images)
        before = self.cost.forward, self.cost.backward
        logits = self._adapt(method, batch)
        passed = self.cost.forward - before[0], self.cost.backward - before[1]
        work = (passed[0] + BACKWARD * passed[1]) / len(batch.images)
        log.busy_until = log.steps + max(1, math.ceil(speed * work - _ROUNDING))
        return logits

    def _adapt(self, method: OnlineMethod, batch: TargetBatch) -> Tensor:
        self.log.adapted.append(True)
        return method.step(batch)

    def _predict(self, method: OnlineMethod, images: Tensor) -> Tensor:
        self.log.adapted.append(False)
        number, self.asked = self.asked, self.asked + 1
        with torch.no_grad():
            return predicted(method, images, number)
