"""Which steps of a stream belong to which segment, and where a fresh method begins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dabench.contract.stream import Segment, Stream
from dabench.contract.types import IntArray

#: the running accuracy's window: so many batches, and more where these hold fewer images
WINDOW, WINDOW_IMAGES = 5, 200


@dataclass(frozen=True)
class SegmentSteps:
    """The steps of a segment: ``first`` to ``last`` (exclusive)."""

    name: str
    first: int
    last: int


def batches_of(stream: Stream) -> tuple[list[tuple[Segment, IntArray]], tuple[SegmentSteps, ...]]:
    """Return every step's segment and positions, and every segment's steps.

    Batches of a segment are of equal size, or differ by one image, the larger ones first: a small
    one at its end has poor statistics, and betrays it. Where they differ, the first of a segment
    can be one larger than the last before it.
    """
    batches: list[tuple[Segment, IntArray]] = []
    steps: list[SegmentSteps] = []
    for segment, rows in stream.segments:
        first = len(batches)
        batches += [(segment, part) for part in _split(rows, stream.batch_size)]
        steps.append(SegmentSteps(segment.name, first, len(batches)))
    return batches, tuple(steps)


def shown_of(stream: Stream) -> list[IntArray]:
    """Return every step's (B,) places in ``stream.domains``; none where segments have one shift."""
    return [part for places in stream.shown for part in _split(places, stream.batch_size)]


def _split(values: IntArray, size: int) -> list[IntArray]:
    return np.array_split(values, math.ceil(len(values) / size))


@dataclass(frozen=True)
class StreamLayout:
    """A stream's steps by segment.

    Attributes:
        segments: the steps of each.
        batch_size: images a batch at most.
        fresh_per_segment: whether a fresh method begins at every segment: windows then end with it.
    """

    segments: tuple[SegmentSteps, ...]
    batch_size: int
    fresh_per_segment: bool = False

    @property
    def window(self) -> int:
        """Batches in a window."""
        return max(WINDOW, math.ceil(WINDOW_IMAGES / self.batch_size))

    @property
    def episodes(self) -> list[slice]:
        """The steps from one fresh method to the next."""
        if self.fresh_per_segment:
            return [slice(s.first, s.last) for s in self.segments]
        return [slice(0, self.segments[-1].last)]
