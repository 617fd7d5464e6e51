"""From images to a stream: who plays which role, in what order, under which weather."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dabench.contract.data import DomainData, ImageArray
from dabench.contract.seeding import seed
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.datasets.weather import apply as weather
from dabench.errors import ConfigError

Order = Literal["random", "class-correlated"]
Sequence = Literal["seeded", "given"]
CLEAR = "clear"
#: shares of source training, stream and held-out part where one domain plays all roles
SHARES = (0.4, 0.4, 0.2)


@dataclass(frozen=True)
class Roles:
    """Positions by role; no image plays two."""

    source: IntArray | None
    stream: IntArray
    held_out: IntArray


def roles(data: DomainData) -> Roles:
    """Split the target per class, by position and the same for every seed.

    One domain for source and target is split 40/40/20 into source training, stream and held-out
    part; a target of its own 80/20 into stream and held-out part.
    """
    same = data.source == data.target
    shares = SHARES if same else (0.0, 0.8, 0.2)
    labels = data.target_all.labels
    rng = np.random.default_rng(seed(0, "target", "roles"))
    parts: list[list[IntArray]] = [[], [], []]
    for c in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == c))
        cuts = np.round(np.cumsum(shares)[:2] * len(rows)).astype(int)
        for part, drawn in zip(parts, np.split(rows, cuts), strict=True):
            part.append(drawn)
    source, stream, held = (np.sort(np.concatenate(part)).astype(np.int64) for part in parts)
    return Roles(source if same else None, stream, held)


def arrange(rows: IntArray, labels: IntArray, order: Order, delta: float, value: int) -> IntArray:
    """Put positions in the order of their arrival.

    Args:
        rows: (N,) positions.
        labels: classes of the whole domain.
        order: ``random``, or ``class-correlated``: every class spreads over ten equal stretches of
            time in shares drawn from Dirichlet(``delta``), as in NOTE (Gong et al. 2022, §4).
        delta: concentration; smaller = more correlated.
        value: the seed.
    """
    rng = np.random.default_rng(value)
    if order == "random":
        return rng.permutation(rows)
    stretches: list[list[IntArray]] = [[] for _ in range(10)]
    for c in np.unique(labels[rows]):
        own = rng.permutation(rows[labels[rows] == c])
        cuts = np.round(np.cumsum(rng.dirichlet(np.full(10, delta)))[:-1] * len(own)).astype(int)
        for stretch, drawn in zip(stretches, np.split(own, cuts), strict=True):
            stretch.append(drawn)
    return np.concatenate([rng.permutation(np.concatenate(stretch)) for stretch in stretches])


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
        found.append(segment(kinds, severity or ("0" if kinds == CLEAR else "")))
    names = [s.name for s in found]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"--protocol.{option} '{text}': expected different shifts such as fog:5,rain:5"
        )
    return found


def segment(kinds: str, severity: str) -> Segment:
    """Return the segment of one shift, checked against the known kinds."""
    if kinds == CLEAR and severity in ("", "0"):
        return Segment(CLEAR, CLEAR)
    for kind in kinds.split("+"):
        levels = weather.kind_of(kind).levels
        if not severity.isdecimal() or not 1 <= int(severity) <= levels:
            raise ConfigError(
                f"shift '{kinds}:{severity}': {kind} has severities 1 to {levels} ({kind}:{levels})"
            )
    return Segment(f"{kinds}-{severity}", kinds, int(severity))


def condition(under: Segment) -> str:
    """Return a segment's name without the number of its round."""
    return under.name.partition("@")[0]


def render(images: ImageArray, rows: IntArray, under: Segment, draw: int = 0) -> np.ndarray:
    """Return (B, H, W, 3) uint8 pictures of some positions under a segment's weather.

    A picture depends on (position, kind, severity, draw) alone. With several kinds a position's
    own generator chooses one of them.
    """
    pictures = images[rows]
    if under.severity == 0:
        return pictures
    kinds = under.domain.split("+")
    if len(kinds) == 1:
        return weather.apply(pictures, kinds[0], under.severity, rows, draw)
    chosen = np.array([seed(draw, "mixed", under.domain, str(row)) % len(kinds) for row in rows])
    out = np.empty_like(pictures)
    for i, kind in enumerate(kinds):
        mine = chosen == i
        if mine.any():
            out[mine] = weather.apply(pictures[mine], kind, under.severity, rows[mine], draw)
    return out
