"""Shifts of a stream: from the user's text to segments, and pictures in their weather."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dabench.contract.data import ImageArray
from dabench.contract.seeding import seed
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.datasets.weather.apply import KINDS, apply_weather, find_kind
from dabench.datasets.weather.groups import GROUPS, LEVELS, PREFIX, PUBLISHED_SHIFTS
from dabench.errors import ConfigError, did_you_mean, shown
from dabench.protocols.streams.named.walk import BOTH

CLEAR = "clear"
#: pictures that were published corrupted, by kind and severity
Published = Mapping[tuple[str, int], ImageArray]


def parse_shifts(text: str, option: str = "shifts") -> list[Segment]:
    """Read ``fog:5,rain:3,clear`` or ``fog+rain:5`` (every image one of them) as segments.

    Args:
        text: what the user gave.
        option: name of the protocol's option, for messages.

    Raises:
        ConfigError: no shift, an unknown kind, a severity out of range, a shift named twice.
    """
    try:
        found = [
            shift_segment(kinds, severity or ("0" if kinds == CLEAR else ""))
            for kinds, severity in _words(text)
        ]
    except ConfigError as error:
        raise ConfigError(f"--protocol.{option}: {error}") from None
    names = [s.name for s in found]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"--protocol.{option} '{text}': expected different shifts such as fog:5,rain:5"
        )
    return found


def _words(text: str) -> list[tuple[str, str]]:
    """Return kinds and severity ("" = not given) of every shift, groups written out."""
    found = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        kinds, _, severity = (part.strip() for part in word.partition(":"))
        if severity.isascii() and severity.isdecimal():
            severity = str(int(severity))
        if kinds in GROUPS:
            found += [(kind, severity or str(LEVELS)) for kind in GROUPS[kinds]]
        else:
            found.append((kinds, severity))
    return found


def written_shifts(given: Mapping[str, Any], usual: str) -> Mapping[str, Any]:
    """Return a protocol's options with ``severity`` and groups written out in ``shifts``.

    One list of shifts has one spelling (``fog:5, rain:05`` is ``fog:5,rain:5``), since runs are
    compared by their options.

    Args:
        given: options as the user wrote them; ``severity`` holds for shifts that name none.
        usual: the shifts where none are given, all with severities, which it replaces.

    Raises:
        ConfigError: a severity that is no number, or that every shift has of its own.
    """
    words = [word.strip() for word in str(given.get("shifts", usual)).split(",") if word.strip()]
    if "severity" in given:
        severity = str(given["severity"])
        if not (severity.isascii() and severity.isdecimal()):
            raise ConfigError(
                f"--protocol.severity {shown(severity)}: expected a whole number from 1"
            )
        if "shifts" not in given:
            words = [word.partition(":")[0] for word in words]
        named = [
            f"{word}:{severity}" if word != CLEAR and ":" not in word else word for word in words
        ]
        if named == words:
            raise ConfigError(
                f"--protocol.severity {severity}: every shift of --protocol.shifts names its own; "
                "drop one of the two"
            )
        words = named
    elif "shifts" not in given and not any(word.partition(":")[0] in GROUPS for word in words):
        return given
    rest = {name: value for name, value in given.items() if name != "severity"}
    return {**rest, "shifts": ",".join(_joined(*word) for word in _words(",".join(words)))}


def _joined(kinds: str, severity: str) -> str:
    return f"{kinds}:{severity}" if severity else kinds


def levels_of(kind: str) -> int:
    """Return how many severities a kind has.

    Raises:
        ConfigError: there is none of that name.
    """
    if not kind.startswith(PREFIX):
        if kind not in KINDS and f"{PREFIX}{kind}" in PUBLISHED_SHIFTS:
            raise ConfigError(
                f"shift '{kind}': write {PREFIX}{kind} for the published files of a data set, or "
                f"c-{kind} for our rendering"
            )
        return find_kind(kind).levels
    if kind not in PUBLISHED_SHIFTS:
        near = did_you_mean(kind, PUBLISHED_SHIFTS)
        raise ConfigError(f"shift '{kind}': no such published corruption{near}")
    return LEVELS


def shift_segment(kinds: str, severity: str) -> Segment:
    """Return the segment of one shift, checked against the known kinds."""
    if kinds == CLEAR and severity in ("", "0"):
        return Segment(CLEAR, CLEAR)
    for kind in kinds.split("+"):
        levels = levels_of(kind)
        if not severity:
            raise ConfigError(
                f"shift '{kinds}' has no severity: write {kinds}:{levels}, or give one to all by "
                "--protocol.severity"
            )
        number = severity.isascii() and severity.isdecimal()  # other digits would be other names
        if not number or not 1 <= int(severity) <= levels:
            raise ConfigError(
                f"shift '{kinds}:{severity}': {kind} has severities 1 to {levels} ({kind}:{levels})"
            )
    return Segment(f"{kinds}-{severity}", kinds, int(severity))


def condition_of(segment: Segment) -> str:
    """Return a segment's name without the number of its round."""
    return segment.name.partition("@")[0]


def render(
    images: ImageArray,
    rows: IntArray,
    segment: Segment,
    weather_seed: int = 0,
    published: Published | None = None,
) -> np.ndarray:
    """Return (B, H, W, 3) uint8 pictures of some positions under a segment's shift.

    A picture depends on (position, kind, severity, weather_seed) alone. With several kinds a
    position's own generator chooses one of them. Published corruptions are read, not drawn. Two
    kinds at once (``fog:2&rain:3``) are laid one over the other in that order.
    """
    if segment.severity == 0:
        return images[rows]
    if BOTH in segment.domain:
        pictures = images[rows]
        for part in segment.domain.split(BOTH):
            kind, _, severity = part.partition(":")
            pictures = apply_weather(pictures, kind, int(severity), rows, weather_seed)
        return pictures
    files = published or {}

    def under(kind: str, own: IntArray) -> np.ndarray:
        if (found := files.get((kind, segment.severity))) is not None:
            return found[own]
        return apply_weather(images[own], kind, segment.severity, own, weather_seed)

    kinds = segment.domain.split("+")
    if len(kinds) == 1:
        return under(kinds[0], rows)
    chosen = np.array(
        [seed(weather_seed, "mixed", segment.domain, str(row)) % len(kinds) for row in rows]
    )
    found: np.ndarray = scattered(chosen, lambda number, own: under(kinds[number], rows[own]))
    return found


def scattered(chosen: IntArray, draw: Callable[[int, npt.NDArray[np.bool_]], np.ndarray]) -> Any:
    """Return (B, ...) pictures of which each is drawn with those of the same choice.

    Args:
        chosen: (B,) number of each picture's choice.
        draw: (choice, (B,) bool: whose it is) -> their pictures.
    """
    masks = {number: chosen == number for number in np.unique(chosen).tolist()}
    found = {number: draw(number, own) for number, own in masks.items()}
    first = next(iter(found.values()))
    out = np.empty((len(chosen), *first.shape[1:]), first.dtype)
    for number, own in masks.items():
        out[own] = found[number]
    return out
