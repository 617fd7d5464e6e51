"""Protocol ``gradual-weather``: a deployed model meets weather that worsens level by level."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from dabench.contract import seeding
from dabench.contract.data import DomainData
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.errors import ConfigError
from dabench.protocols.streams.protocol import OnlineProtocol
from dabench.protocols.streams.roles import Order
from dabench.protocols.streams.shifts import CLEAR, levels_of


class GradualWeather(OnlineProtocol):
    """From clear images to the worst level of one kind of weather, ranked by the last level.

    Images of one domain are split by id into source training, stream and held-out part (40/40/20
    %). Held-out images are scored clear and at the current level after each level, and at all
    levels at the end. ``accuracy/final`` is the online accuracy over the last level.

    Args:
        weather: kind of weather (``dabench weather list``), or a published corruption of the data
            set (``published-fog``); ``fog+rain`` mixes kinds image by image, with as many levels
            as the kind with the fewest.
        parts: every stream image at every level (replay), or each at one level (disjoint).
        order: ``random``, or ``class-correlated``: classes come in bursts.
        concentration: Dirichlet parameter of the bursts; smaller = more correlated.
        also_after: answer every batch once more after the update (scores ``.../after``); the
            extra forward pass is charged.
    """

    primary: ClassVar[str] = "accuracy/final"
    scores_held_out: ClassVar[bool] = True

    def __init__(
        self,
        *,
        weather: str = "aid-cc",
        parts: Literal["replay", "disjoint"] = "replay",
        order: Order = "random",
        concentration: Annotated[float, Field(gt=0)] = 0.1,
        also_after: bool = False,
    ) -> None:
        super().__init__(order=order, concentration=concentration, also_after=also_after)
        self.weather, self.parts = weather, parts
        #: severities of the kind that has the fewest
        try:
            self.worst = min(levels_of(kind) for kind in weather.split("+"))
        except ConfigError as error:
            raise ConfigError(f"--protocol.weather: {error}") from None

    def is_valid(self, data: DomainData) -> str | None:
        """Refuse two domains: the shift is the weather alone."""
        if data.source != data.target and data.roles is None:
            return (
                f"source '{data.source}' and target '{data.target}' differ, and here weather is "
                "the only shift; give the same domain twice"
            )
        return super().is_valid(data)

    def segments(
        self, rows: IntArray, labels: IntArray, seed: int
    ) -> list[tuple[Segment, IntArray]]:
        """Clear, then every level in ascending order."""
        mixed = self.weather
        levels = [Segment(f"{mixed}-{level}", mixed, level) for level in range(1, self.worst + 1)]
        conditions = [Segment(CLEAR, CLEAR), *levels]
        shown = [rows] * len(conditions)
        if self.parts == "disjoint":
            rng = np.random.default_rng(seeding.seed(0, "target", "parts"))
            shown = np.array_split(rng.permutation(rows), len(conditions))
        return [
            (segment, self.arrange(part, labels, seeding.seed(seed, "stream", segment.name)))
            for segment, part in zip(conditions, shown, strict=True)
        ]
