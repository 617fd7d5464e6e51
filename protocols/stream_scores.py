"""From a stream's journal and its truth to scores and curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dabench.contract.types import IntArray, Score

#: batches in the window of the running accuracy
WINDOW = 5
#: how far below the source model's windowed accuracy a method has collapsed
COLLAPSE = 0.10
#: updates under which a segment's accuracy says little
SHORT = 15
Bools = np.ndarray


@dataclass(frozen=True)
class Stretch:
    """The steps of a segment: ``first`` to ``last`` (exclusive)."""

    name: str
    first: int
    last: int


def hits(answers: Sequence[Tensor], truth: Sequence[IntArray]) -> list[Bools]:
    """Return per step (B,) bool: whether an answer is right."""
    return [a.numpy() == t for a, t in zip(answers, truth, strict=True)]


def windowed(right: Sequence[Bools], window: int = WINDOW) -> list[float]:
    """Return per step the accuracy over the last ``window`` batches (fewer at the start)."""
    good = np.cumsum([0, *(h.sum() for h in right)])
    seen = np.cumsum([0, *(len(h) for h in right)])
    ends = range(1, len(right) + 1)
    starts = [max(0, end - window) for end in ends]
    return [
        float((good[e] - good[s]) / (seen[e] - seen[s])) for s, e in zip(starts, ends, strict=True)
    ]


def collapse_step(own: Sequence[float], source: Sequence[float]) -> int | None:
    """Return the first step from which the windowed accuracy stays .10 below the source's."""
    low = [o <= s - COLLAPSE for o, s in zip(own, source, strict=True)]
    tail = len(list(itertools.takewhile(bool, reversed(low))))
    return len(low) - tail if tail else None


def effective_classes(mean: Tensor) -> float:
    """Return exp(entropy) of a (K,) mean prediction: 1 = one class, K = all alike."""
    return math.exp(float(torch.special.entr(mean.double()).sum()))


def stream_scores(
    right: list[Bools], source: list[Bools], stretches: Sequence[Stretch], suffix: str = ""
) -> list[Score]:
    """Return online accuracy overall and by segment, the worst window, and what collapsed.

    Args:
        right: per step, whether the method's answers are right.
        source: the same of the source model.
        stretches: the segments' steps.
        suffix: appended to the segments' names ("" for the declared timing).
    """
    done = len(right)

    def accuracy(name: str, first: int, last: int) -> Score:
        part = np.concatenate(right[first:last])
        segment = f"{name}{suffix}".lstrip("/") or "all"
        return Score("accuracy", float(part.mean()), len(part), segment, done)

    rows = [accuracy("", 0, done)]
    rows += [accuracy(s.name, s.first, s.last) for s in stretches]
    final = stretches[-1]
    rows.append(accuracy("final", final.first, final.last))
    own, base = windowed(right), windowed(source)
    full = own[min(WINDOW, done) - 1 :]
    n = sum(len(h) for h in right)
    rows.append(Score("accuracy", min(full), n, f"worst-window{suffix}", done))
    segment = suffix.lstrip("/") or "all"
    mean, its = float(np.concatenate(right).mean()), float(np.concatenate(source).mean())
    rows.append(Score("below_source", float(mean < its), n, segment, done))
    since = collapse_step(own, base)
    share = 0.0 if since is None else (done - since) / done
    rows.append(Score("collapsed", share, n, segment, done if since is None else since))
    return rows


def stream_curves(
    right: list[Bools], source: list[Bools], mean: Sequence[Tensor], num_classes: int
) -> list[Score]:
    """Return windowed accuracy of method and source, and the label-free sign of a collapse."""
    size = len(right[0])
    rows = [
        Score("running_accuracy", v, size * WINDOW, at=i) for i, v in enumerate(windowed(right))
    ]
    rows += [
        Score("running_accuracy", v, size * WINDOW, "source", i)
        for i, v in enumerate(windowed(source))
    ]
    for i in range(len(mean)):
        window = torch.stack(list(mean[max(0, i + 1 - WINDOW) : i + 1])).mean(0)
        share = effective_classes(window) / num_classes
        rows.append(Score("effective_classes", min(1.0, share), size * WINDOW, at=i))
    return rows


def held_out_scores(probes: Sequence[tuple[int, str, float]], n: int, done: int) -> list[Score]:
    """Return held-out accuracy after the stream by condition, and forgetting on clear images.

    ``forgetting`` is the best accuracy on clear held-out images at any earlier probe (the source
    model's own included) minus that after the stream, at least 0 (Chaudhry et al. 2018, eq. 3).
    """
    last = max(number for number, _, _ in probes)
    end = [(name, value) for number, name, value in probes if number == last]
    rows = [Score("accuracy", value, n, f"held-out-{name}", done) for name, value in end]
    rows.append(Score("accuracy", end[-1][1], n, "held-out", done))
    clear = [value for _, name, value in probes if name == "clear"]
    rows.append(Score("forgetting", max(clear) - clear[-1], n, at=done))
    return rows
