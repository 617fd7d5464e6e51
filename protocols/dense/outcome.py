"""What a stream of segmentation leaves behind: scores, curves, and the counts themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import numpy as np
from torch import Tensor

from dabench.contract.protocol import Outcome
from dabench.contract.types import Score
from dabench.protocols.dense import scores
from dabench.protocols.dense.scores import ScoreGroups
from dabench.protocols.streams.layout import StreamLayout

Timing = Literal["after", "before"]
#: what a frame's counts are kept of, in this order
COUNTED = ("before", "after", "source")
#: counts of single steps are stored up to so many bytes; sums over segments always
MOST_BYTES = 20_000_000
log = logging.getLogger("dabench")


def dense_outcome(
    steps: Mapping[str, Tensor], layout: StreamLayout, groups: ScoreGroups, ranked: Timing
) -> Outcome:
    """Turn counts into scores and curves; the timing that does not rank stands under a suffix.

    Args:
        steps: (steps, K, K) counts of each of ``COUNTED``.
        layout: the stream's steps.
        groups: which segments and classes are scored together.
        ranked: the timing without a suffix.
    """
    sums = {name: scores.counts_by_segment(part, layout) for name, part in steps.items()}
    found = Outcome(scores=[], arrays=arrays(steps, sums, layout))
    for timing in COUNTED[:2]:
        suffix = "" if timing == ranked else f"/{timing}"
        found.scores += scores.dense_scores(sums[timing], groups, suffix)
        found.scores += scores.below_source_scores(sums[timing], sums["source"], groups, suffix)
    found.scores.append(unlabelled_score(steps["source"]))
    for name, segment in ((ranked, "all"), ("source", "source")):
        found.curves += scores.running_miou(steps[name], layout, segment)
    for line in scores.empty_classes(sums[ranked], groups):
        log.warning("no pixel in truth or answers, left out of the mean IoU: %s", line)
    return found


def unlabelled_score(counts: Tensor) -> Score:
    """Return the share of frames without a labelled pixel: adapted on, but scored nowhere."""
    empty, done = int((counts.sum((1, 2)) == 0).sum()), len(counts)
    if empty:
        log.warning("%d of %d frames have no labelled pixel and are not scored", empty, done)
    return Score("unlabelled", empty / done, done, at=done)


def arrays(
    steps: Mapping[str, Tensor], sums: Mapping[str, Tensor], layout: StreamLayout
) -> dict[str, np.ndarray]:
    """Return the counts: by segment, and by step where they are not too many."""
    found: dict[str, np.ndarray] = {f"segment.{name}": part.numpy() for name, part in sums.items()}
    lengths = [segment.last - segment.first for segment in layout.segments]
    found["stream.segment"] = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    if 4 * sum(part.numel() for part in steps.values()) < MOST_BYTES:
        for name, part in steps.items():
            found[f"stream.{name}"] = part.numpy().astype(np.uint32)
    return found
