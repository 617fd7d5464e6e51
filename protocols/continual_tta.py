"""Protocol ``continual-tta``: a sequence of shifts, and nobody says when one begins."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from dabench.contract import seeding
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.errors import ConfigError
from dabench.protocols.online_tta import CONCENTRATION, SHIFTS, OnlineTTA, Speed
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
        stream: a named order of arrival, with its options (``dabench list streams``):
            ``correlated:concentration=0.1,slots=10``.
        stream_speed: batches that arrive while the source model would forward one; a method that is
            still at work misses them. ``none``: the stream waits.
        images: so many stream images a shift, the same for every shift and seed; 0 = all.
    """

    name: ClassVar[str] = "continual-tta"
    usual_stream: ClassVar[str] = "continual"
    fresh_per_segment: ClassVar[bool] = False
    scores_held_out: ClassVar[bool] = True

    def __init__(
        self,
        *,
        shifts: str = SHIFTS,
        sequence: Literal["seeded", "given"] = "seeded",
        rounds: Annotated[int, Field(ge=1)] = 1,
        order: Order = "random",
        concentration: Annotated[float, Field(gt=0)] = CONCENTRATION,
        also_after: bool = False,
        stream: str = "continual",
        stream_speed: Speed | None = None,
        images: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(
            shifts=shifts,
            order=order,
            concentration=concentration,
            also_after=also_after,
            stream=stream,
            stream_speed=stream_speed,
            images=images,
        )
        self.sequence, self.rounds = sequence, rounds
        if rounds > 1 and self.named.name != self.usual_stream:
            raise ConfigError(
                f"--protocol.rounds {rounds}: --protocol.stream {self.named.name} has visits of "
                f"its own; drop it (recurring:visits={rounds} is a stream)"
            )

    def segments(
        self, rows: IntArray, labels: IntArray, seed: int
    ) -> list[tuple[Segment, IntArray]]:
        """The shifts in their order, every round shuffled anew."""
        found = super().segments(rows, labels, seed)
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

    def ordered_shifts(self, seed: int) -> list[Segment]:
        """Return the shifts as named, or in an order that is drawn from the seed."""
        if self.sequence == "given":
            return self.shifts
        rng = np.random.default_rng(seeding.seed(seed, "stream", "sequence"))
        return [self.shifts[i] for i in rng.permutation(len(self.shifts))]
