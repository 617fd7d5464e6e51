"""Shifts of a stream: from the user's text to segments, and pictures in their weather."""

from __future__ import annotations

import numpy as np

from dabench.contract.data import ImageArray
from dabench.contract.seeding import seed
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.datasets.weather.apply import apply_weather, find_kind
from dabench.errors import ConfigError

CLEAR = "clear"


def parse_shifts(text: str, option: str = "shifts") -> list[Segment]:
    """Read ``fog:5,rain:3,clear`` or ``fog+rain:5`` (every image one of them) as segments.

    Args:
        text: what the user gave.
        option: name of the protocol's option, for messages.

    Raises:
        ConfigError: no shift, an unknown kind, a severity out of range, a shift named twice.
    """
    found: list[Segment] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        kinds, _, severity = word.partition(":")
        found.append(shift_segment(kinds, severity or ("0" if kinds == CLEAR else "")))
    names = [s.name for s in found]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"--protocol.{option} '{text}': expected different shifts such as fog:5,rain:5"
        )
    return found


def shift_segment(kinds: str, severity: str) -> Segment:
    """Return the segment of one shift, checked against the known kinds."""
    if kinds == CLEAR and severity in ("", "0"):
        return Segment(CLEAR, CLEAR)
    for kind in kinds.split("+"):
        levels = find_kind(kind).levels
        if not severity.isdecimal() or not 1 <= int(severity) <= levels:
            raise ConfigError(
                f"shift '{kinds}:{severity}': {kind} has severities 1 to {levels} ({kind}:{levels})"
            )
    return Segment(f"{kinds}-{severity}", kinds, int(severity))


def condition_of(segment: Segment) -> str:
    """Return a segment's name without the number of its round."""
    return segment.name.partition("@")[0]


def render(
    images: ImageArray, rows: IntArray, segment: Segment, weather_seed: int = 0
) -> np.ndarray:
    """Return (B, H, W, 3) uint8 pictures of some positions under a segment's weather.

    A picture depends on (position, kind, severity, weather_seed) alone. With several kinds a
    position's own generator chooses one of them.
    """
    pictures = images[rows]
    if segment.severity == 0:
        return pictures
    kinds = segment.domain.split("+")
    if len(kinds) == 1:
        return apply_weather(pictures, kinds[0], segment.severity, rows, weather_seed)
    chosen = np.array(
        [seed(weather_seed, "mixed", segment.domain, str(row)) % len(kinds) for row in rows]
    )
    out = np.empty_like(pictures)
    for number, kind in enumerate(kinds):
        own = chosen == number
        if own.any():
            out[own] = apply_weather(pictures[own], kind, segment.severity, rows[own], weather_seed)
    return out
