"""One method on one bench, and what a broken promise is."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dabench.contract.protocol import Outcome
from dabench.testing.benches import Bench

#: the answers on a stream; offline every array but the truth is an answer
STREAM_ANSWERS = ("stream.prediction", "stream.confidence", "stream.before", "stream.after")
#: images of a stream that a check shows
_SHOWN = 8


class BrokenPromise(AssertionError):
    """A method does not keep a promise; the message says how."""


class Killed(Exception):
    """Stands for kill -9."""


class Case:
    """A method on a bench, with its first run, which several promises look at.

    Args:
        bench: protocol and data.
        build: makes the method with the options that are to be checked.
    """

    def __init__(self, bench: Bench, build: Callable[[], Any]) -> None:
        self.bench, self.build = bench, build
        self._told: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """The method's class."""
        return type(self.build()).__name__

    @functools.cached_property
    def first(self) -> tuple[Any, Outcome]:
        """The method (of a stream: the last that was built) after its run, and the outcome."""
        made: list[Any] = []

        def build() -> Any:
            made.append(self.build())
            return made[-1]

        outcome = self.bench.run(
            watched(build, lambda what: self._told.update([what])) if self.bench.online else build
        )
        return made[-1], outcome

    @property
    def told(self) -> Counter[str]:
        """How often methods told something in the first run on a stream (:func:`watched`)."""
        _ = self.first
        return self._told

    @property
    def images(self) -> torch.Tensor:
        """A few target images, (B, 3, H, W) in [0, 1]."""
        plan = self.bench.plan
        if not self.bench.online:
            found: torch.Tensor = plan.parts["adapt"].__getitems__(list(range(_SHOWN))).images
            return found
        dense = hasattr(plan, "frames")
        pictures = np.asarray((plan.frames.images if dense else plan.images)[np.arange(2)])
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def watched(build: Callable[[], Any], tell: Callable[[str], None]) -> Callable[[], Any]:
    """Return a maker of online methods that tell what becomes of them.

    Args:
        build: makes one.
        tell: called with "step" before every step, and with "switched" where ``predict`` left
            modules in another mode than before.
    """

    def made() -> Any:
        method = build()
        step, predict = method.step, method.predict

        def told_step(batch: Any) -> Any:
            tell("step")
            return step(batch)

        def told_predict(images: torch.Tensor) -> Any:
            before = modes_of(method)
            answer = predict(images)
            if modes_of(method) != before:
                tell("switched")
            return answer

        method.step, method.predict = told_step, told_predict
        return method

    return made


def modes_of(method: Any) -> dict[str, bool]:
    """Return by name which modules are in training mode."""
    return {name: module.training for name, module in method.named_modules()}


def answers_of(outcome: Outcome) -> dict[str, bytes]:
    """Return everything that a method answered, byte by byte (not the truth)."""
    stream = any(name.startswith("stream.") for name in outcome.arrays)
    return {
        name: np.ascontiguousarray(values).tobytes()
        for name, values in outcome.arrays.items()
        if (name in STREAM_ANSWERS if stream else not name.endswith(".truth"))
    }


def demand(kept: bool, why: str) -> None:
    """Raise ``BrokenPromise`` with the reason unless something holds."""
    if not kept:
        raise BrokenPromise(why)
