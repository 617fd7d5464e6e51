"""Which steps of a stream belong to which segment, and where a fresh method begins."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: the running accuracy's window: so many batches, and more where these hold fewer images
WINDOW, WINDOW_IMAGES = 5, 200


@dataclass(frozen=True)
class SegmentSteps:
    """The steps of a segment: ``first`` to ``last`` (exclusive)."""

    name: str
    first: int
    last: int


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
