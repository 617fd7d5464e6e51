"""From conditions to the segments of a stream of frames: constant, ramp or cycle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.errors import ConfigError

Schedule = Literal["constant", "ramp", "cycle"]


def check_schedule(schedule: Schedule, conditions: Sequence[Segment], rounds: int) -> None:
    """Refuse options that do not go together.

    Raises:
        ConfigError: rounds without a cycle, or a ramp that climbs twice through one kind.
    """
    if rounds > 1 and schedule != "cycle":
        raise ConfigError(
            f"--protocol.rounds {rounds}: only a cycle comes round again; add "
            "--protocol.schedule cycle, or drop it"
        )
    kinds = [condition.domain for condition in conditions]
    if schedule == "ramp" and len(set(kinds)) < len(kinds):
        raise ConfigError(
            "--protocol.conditions: a ramp climbs through all severities of a kind up to the one "
            "given, so name every kind once"
        )


def segments(
    schedule: Schedule, conditions: Sequence[Segment], rounds: int, rows: IntArray
) -> list[tuple[Segment, IntArray]]:
    """Return the segments in order, with the frames that each shows.

    Args:
        schedule: ``constant`` and ``cycle``: all frames under every condition (in every round);
            ``ramp``: all frames under every condition once, while its severity climbs from 1 to
            its own in equal spans of time.
        conditions: one segment each.
        rounds: of a cycle.
        rows: frames in the order of their arrival.
    """
    if schedule == "ramp":
        return [piece for condition in conditions for piece in _climb(condition, rows)]
    if rounds == 1:
        return [(condition, rows) for condition in conditions]
    return [
        (Segment(f"{condition.name}@{turn}", condition.domain, condition.severity), rows)
        for turn in range(1, rounds + 1)
        for condition in conditions
    ]


def _climb(peak: Segment, rows: IntArray) -> list[tuple[Segment, IntArray]]:
    if peak.severity == 0:
        return [(peak, rows)]
    levels = range(1, peak.severity + 1)
    return [
        (Segment(f"{peak.domain}-{level}", peak.domain, level), part)
        for level, part in zip(levels, np.array_split(rows, peak.severity), strict=True)
    ]
