"""From a stream's log and its truth to scores and curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dabench.contract.types import IntArray, Score
from dabench.protocols.streams.layout import SegmentSteps, StreamLayout

#: how far below the source model's windowed accuracy a method has collapsed
COLLAPSE = 0.10
#: updates under which a segment's accuracy says little
SHORT_SEGMENT = 15
Bools = np.ndarray


def correct_answers(answers: Sequence[Tensor], truth: Sequence[IntArray]) -> list[Bools]:
    """Return per step (B,) bool: whether an answer is right."""
    return [a.numpy() == t for a, t in zip(answers, truth, strict=True)]


def windowed_accuracy(right: Sequence[Bools], window: int) -> list[float]:
    """Return per step the accuracy over the last ``window`` batches (fewer at the start)."""
    good = np.cumsum([0, *(h.sum() for h in right)])
    seen = np.cumsum([0, *(len(h) for h in right)])
    ends = range(1, len(right) + 1)
    starts = [max(0, end - window) for end in ends]
    return [
        float((good[e] - good[s]) / (seen[e] - seen[s])) for s, e in zip(starts, ends, strict=True)
    ]


def lasting_from(low: Sequence[bool], least: int) -> int | None:
    """Return the first step from which ``low`` holds to the end, for ``least`` steps or more."""
    tail = len(list(itertools.takewhile(bool, reversed(low))))
    return len(low) - tail if tail >= min(least, len(low)) and tail else None


def collapse_step(own: Sequence[float], source: Sequence[float], least: int = 1) -> int | None:
    """Return the first step from which the windowed accuracy stays .10 below the source's."""
    low = [s - o > COLLAPSE - 1e-9 for o, s in zip(own, source, strict=True)]
    return lasting_from(low, least)


def effective_classes(mean: Tensor) -> float:
    """Return exp(entropy) of a (K,) mean prediction: 1 = one class, K = all alike."""
    return math.exp(float(torch.special.entr(mean.double()).sum()))


def stream_scores(
    right: list[Bools], source: list[Bools], layout: StreamLayout, suffix: str = ""
) -> list[Score]:
    """Return online accuracy overall and by segment, the worst window, and what collapsed.

    Args:
        right: per step, whether the method's answers are right.
        source: the same of the source model.
        layout: the stream's steps.
        suffix: appended to the segments' names ("" for the declared timing).
    """
    done = len(right)

    def accuracy(name: str, first: int, last: int) -> Score:
        part = np.concatenate(right[first:last])
        segment = f"{name}{suffix}".lstrip("/") or "all"
        return Score("accuracy", float(part.mean()), len(part), segment, done)

    rows = [accuracy("", 0, done)]
    rows += [accuracy(s.name, s.first, s.last) for s in layout.segments]
    final = layout.segments[-1]
    rows.append(accuracy("final", final.first, final.last))
    worst: list[float] = []
    collapsed: list[int] = []
    for episode in layout.episodes:
        own, base = (windowed_accuracy(found[episode], layout.window) for found in (right, source))
        worst += own[min(layout.window, len(own)) - 1 :]
        since = collapse_step(own, base, layout.window)
        collapsed += [] if since is None else list(range(episode.start + since, episode.stop))
    n = layout.window * layout.batch_size
    rows.append(Score("accuracy", min(worst), n, f"worst-window{suffix}", done))
    segment = suffix.lstrip("/") or "all"
    mean, its = float(np.concatenate(right).mean()), float(np.concatenate(source).mean())
    rows.append(Score("below_source", float(mean < its), done, segment, done))
    at = collapsed[0] if collapsed else done
    rows.append(Score("collapsed", len(collapsed) / done, done, segment, at))
    return rows


def label_free_scores(
    mean: Sequence[Tensor], sizes: Sequence[int], adapted: Sequence[bool], layout: StreamLayout
) -> list[Score]:
    """Return the collapse that needs no label, and the share of segments that are too short.

    ``collapsed/label-free``: share of the steps from which exp(entropy of the mean prediction)
    stays below K/4; a hole for four classes or fewer, where nothing is below.
    """
    shares, done, collapsed = _effective_shares(mean, sizes, layout), len(mean), 0
    for episode in layout.episodes:
        since = lasting_from([share < 0.25 for share in shares[episode]], layout.window)
        collapsed += 0 if since is None else episode.stop - episode.start - since
    share = collapsed / done if len(mean[0]) > 4 else None
    short = [sum(adapted[s.first : s.last]) < SHORT_SEGMENT for s in layout.segments]
    return [
        Score("collapsed", share, done, "label-free", done),
        Score("short", sum(short) / len(short), len(short), at=done),
    ]


def _effective_shares(
    mean: Sequence[Tensor], sizes: Sequence[int], layout: StreamLayout
) -> list[float]:
    """Return per step the effective classes of a window, as a share of K."""
    found: list[float] = []
    for episode in layout.episodes:
        for end in range(episode.start + 1, episode.stop + 1):
            begin = max(episode.start, end - layout.window)
            weights = torch.tensor(sizes[begin:end], dtype=torch.float64)
            window = torch.stack(list(mean[begin:end])).double()
            average = (weights[:, None] * window).sum(0) / weights.sum()
            found.append(min(1.0, effective_classes(average) / len(average)))
    return found


def stream_curves(
    right: list[Bools],
    source: list[Bools],
    mean: Sequence[Tensor],
    sizes: Sequence[int],
    layout: StreamLayout,
) -> list[Score]:
    """Return windowed accuracy of method and source, and the label-free sign of a collapse."""
    n = layout.window * layout.batch_size
    rows: list[Score] = []
    for segment, found in (("all", right), ("source", source)):
        values = [
            v
            for episode in layout.episodes
            for v in windowed_accuracy(found[episode], layout.window)
        ]
        rows += [Score("running_accuracy", v, n, segment, i) for i, v in enumerate(values)]
    shares = _effective_shares(mean, sizes, layout)
    return rows + [Score("effective_classes", v, n, at=i) for i, v in enumerate(shares)]


def held_out_scores(
    probes: Sequence[tuple[int, str, float]], last: Sequence[str], n: int, done: int
) -> list[Score]:
    """Return held-out accuracy after the stream by condition, and forgetting on clear images.

    ``forgetting`` is the best accuracy on clear held-out images at any probe (the source model's
    own included) minus that after the stream, hence at least 0 (after Chaudhry et al. 2018).

    Args:
        probes: (number of the segment after which, condition, accuracy).
        last: the conditions over which ``accuracy/held-out`` is the mean.
        n: held-out images.
        done: steps of the stream.
    """
    final = max(number for number, _, _ in probes)
    end = {name: value for number, name, value in probes if number == final}
    rows = [Score("accuracy", v, n, f"held-out-{name}", done) for name, v in end.items()]
    shown = float(np.mean([end[name] for name in last]))
    rows.append(Score("accuracy", shown, n, "held-out", done))
    clear = [value for _, name, value in probes if name == "clear"]
    rows.append(Score("forgetting", max(clear) - clear[-1], n, at=done))
    return rows


def held_out_curves(
    probes: Sequence[tuple[int, str, float]], segments: Sequence[SegmentSteps], n: int
) -> list[Score]:
    """Return every probe, at the step after which it was made (0 = the source model)."""
    ends = [0, *(s.last for s in segments)]
    return [
        Score("accuracy", value, n, f"held-out-{name}", ends[number])
        for number, name, value in probes
    ]
