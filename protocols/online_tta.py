"""Protocol ``online-tta``: one shift at a time, a fresh model for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from dabench.contract import seeding
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.protocols.streams.protocol import OnlineProtocol
from dabench.protocols.streams.roles import Order
from dabench.protocols.streams.shifts import parse_shifts, written_shifts

SHIFTS = "fog:5,rain:5,ground-snow:5,low-light:5,lens-drops:5"


class OnlineTTA(OnlineProtocol):
    """Every stream image once per shift; the method starts from the source model at each shift.

    Args:
        shifts: ``kind:severity`` with commas between; ``fog+rain:5`` mixes kinds image by image,
            ``clear`` is the target domain as it is. Groups: ``published-15`` and
            ``published-extra`` (files of the data set), ``c-15`` and ``c-extra`` (our renderings of
            the same corruptions), at severity 5 unless named. --protocol.severity gives one to
            every shift that names none.
        order: ``random``, or ``class-correlated``: classes come in bursts.
        concentration: Dirichlet parameter of the bursts; smaller = more correlated.
        also_after: answer every batch once more after the update (scores ``.../after``); the
            extra forward pass is charged.
        images: so many stream images a shift, the same for every shift and seed; 0 = all.
    """

    primary: ClassVar[str] = "accuracy"
    fresh_per_segment: ClassVar[bool] = True
    #: runs on record were made before there was this one
    later_options: ClassVar[frozenset[str]] = frozenset({"images"})

    def __init__(
        self,
        *,
        shifts: str = SHIFTS,
        order: Order = "random",
        concentration: Annotated[float, Field(gt=0)] = 0.1,
        also_after: bool = False,
        images: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(order=order, concentration=concentration, also_after=also_after)
        self.shifts, self.images = parse_shifts(shifts), images

    @staticmethod
    def written_options(given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read ``severity``, and groups of shifts, as the list of shifts that they stand for."""
        return written_shifts(given, SHIFTS)

    def segments(
        self, rows: IntArray, labels: IntArray, seed: int
    ) -> list[tuple[Segment, IntArray]]:
        """One segment a shift, in the order given."""
        if self.images:
            drawn = np.random.default_rng(seeding.seed(0, "target", "images")).permutation(rows)
            rows = np.sort(drawn[: self.images])
        return [
            (segment, self.arrange(rows, labels, seeding.seed(seed, "stream", segment.name)))
            for segment in self.shifts
        ]
