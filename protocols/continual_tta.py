"""Protocol ``continual-tta``: a sequence of shifts, and nobody says when one begins."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from dabench.contract import seeding
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.protocols.online_tta import SHIFTS, OnlineTTA
from dabench.protocols.streams.roles import Order


class ContinualTTA(OnlineTTA):
    """The shifts of ``online-tta`` one after the other without a reset.

    Held-out images are scored clear and under the current shift after each shift, and under all of
    them at the end.

    Args:
        shifts: ``kind:severity`` with commas between; ``fog+rain:5`` mixes kinds image by image,
            ``clear`` is the target domain as it is. Groups: ``published-15`` and
            ``published-extra`` (files of the data set), ``c-15`` and ``c-extra`` (our renderings of
            the same corruptions), at severity 5 unless named. --protocol.severity gives one to
            every shift that names none.
        sequence: ``seeded``: the order of the shifts is drawn from the seed; ``given``: as named.
        rounds: how often the sequence is met.
        order: ``random``, or ``class-correlated``: classes come in bursts.
        concentration: Dirichlet parameter of the bursts; smaller = more correlated.
        also_after: answer every batch once more after the update (scores ``.../after``); the
            extra forward pass is charged.
        images: so many stream images a shift, the same for every shift and seed; 0 = all.
    """

    fresh_per_segment: ClassVar[bool] = False
    scores_held_out: ClassVar[bool] = True

    def __init__(
        self,
        *,
        shifts: str = SHIFTS,
        sequence: Literal["seeded", "given"] = "seeded",
        rounds: Annotated[int, Field(ge=1)] = 1,
        order: Order = "random",
        concentration: Annotated[float, Field(gt=0)] = 0.1,
        also_after: bool = False,
        images: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(
            shifts=shifts,
            order=order,
            concentration=concentration,
            also_after=also_after,
            images=images,
        )
        self.sequence, self.rounds = sequence, rounds

    def segments(
        self, rows: IntArray, labels: IntArray, seed: int
    ) -> list[tuple[Segment, IntArray]]:
        """The shifts in their order, every round shuffled anew."""
        found = super().segments(rows, labels, seed)
        if self.sequence == "seeded":
            rng = np.random.default_rng(seeding.seed(seed, "stream", "sequence"))
            found = [found[i] for i in rng.permutation(len(found))]
        if self.rounds == 1:
            return found
        return [
            (
                Segment(f"{segment.name}@{turn}", segment.domain, segment.severity),
                self.arrange(part, labels, seeding.seed(seed, "stream", segment.name, str(turn))),
            )
            for turn in range(1, self.rounds + 1)
            for segment, part in found
        ]
