"""What a stream of segmentation leaves behind: scores, curves, and the counts themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import numpy as np
from torch import Tensor

from dabench.contract.protocol import Outcome
from dabench.contract.types import Score
from dabench.protocols.dense import scores as dense_scores
from dabench.protocols.dense.scores import Layout
from dabench.protocols.streams.scores import Course

Timing = Literal["after", "before"]
#: what a frame's counts are kept of, in this order
KEPT = ("before", "after", "source")
#: counts of single steps are stored up to so many bytes; sums over segments always
MOST_BYTES = 20_000_000
log = logging.getLogger("dabench")


def outcome(steps: Mapping[str, Tensor], course: Course, layout: Layout, ranked: Timing) -> Outcome:
    """Turn counts into scores and curves; the timing that does not rank stands under a suffix.

    Args:
        steps: (steps, K, K) counts of each of ``KEPT``.
        course: the stream's steps.
        layout: what its segments are.
        ranked: the timing without a suffix.
    """
    sums = {name: dense_scores.segment_sums(part, course) for name, part in steps.items()}
    found = Outcome(scores=[], arrays=arrays(steps, sums, course))
    for timing in KEPT[:2]:
        suffix = "" if timing == ranked else f"/{timing}"
        found.scores += dense_scores.dense_scores(sums[timing], layout, suffix)
        found.scores += dense_scores.below_source(sums[timing], sums["source"], layout, suffix)
    found.scores.append(unlabelled(steps["source"]))
    for name, segment in ((ranked, "all"), ("source", "source")):
        found.curves += dense_scores.running(steps[name], course, segment)
    for line in dense_scores.empty_classes(sums[ranked], layout):
        log.warning("no pixel in truth or answers, left out of the mean IoU: %s", line)
    return found


def unlabelled(counts: Tensor) -> Score:
    """Return the share of frames without a labelled pixel: adapted on, but scored nowhere."""
    empty, done = int((counts.sum((1, 2)) == 0).sum()), len(counts)
    if empty:
        log.warning("%d of %d frames have no labelled pixel and are not scored", empty, done)
    return Score("unlabelled", empty / done, done, at=done)


def arrays(
    steps: Mapping[str, Tensor], sums: Mapping[str, Tensor], course: Course
) -> dict[str, np.ndarray]:
    """Return the counts: by segment, and by step where they are not too many."""
    found: dict[str, np.ndarray] = {f"segment.{name}": part.numpy() for name, part in sums.items()}
    lengths = [stretch.last - stretch.first for stretch in course.stretches]
    found["stream.segment"] = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    if 4 * sum(part.numel() for part in steps.values()) < MOST_BYTES:
        for name, part in steps.items():
            found[f"stream.{name}"] = part.numpy().astype(np.uint32)
    return found
