"""Target streams: the ordered steps that every method of a column sees identically."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from dabench.contract.types import IntArray


@dataclass(frozen=True)
class Segment:
    """A part of a stream under one condition.

    Attributes:
        name: unique within its stream; the segment of its scores.
        domain: an offline part's domain; in online streams a kind of weather, ``clear``,
            several kinds joined by ``+``, of which every image shows one, two with severities
            joined by ``&``, which every image shows both, or ``mixed`` (see ``Stream.shown``).
        severity: 0 = clear.
    """

    name: str
    domain: str
    severity: int = 0


@dataclass(frozen=True)
class Stream:
    """Segments with the target positions that each shows, in order.

    An offline protocol's stream is the adapt set and the held-out set; an online one has a
    segment per condition. It is made from (data, seed) only.

    In a named stream (``domains`` is not empty) every arrival has a domain of its own: ``shown``
    holds, by segment, (N,) places in ``domains``. Else a segment's condition is that of all its
    images.
    """

    segments: tuple[tuple[Segment, IntArray], ...]
    batch_size: int
    seed: int
    #: what else decides the pictures (version and seed of the weather); empty offline
    rendering: str = ""
    domains: tuple[Segment, ...] = ()
    shown: tuple[IntArray, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over names, positions, domains, batch size, seed and rendering."""
        sha = hashlib.sha256(f"{self.batch_size}|{self.seed}{self.rendering}".encode())
        for segment, rows in self.segments:
            sha.update(f"|{segment.name}|{segment.domain}|{segment.severity}|".encode())
            sha.update(np.ascontiguousarray(rows, dtype="<i8").tobytes())
        for domain in self.domains:
            sha.update(f"|{domain.name}|{domain.domain}|{domain.severity}|".encode())
        for places in self.shown:
            sha.update(np.ascontiguousarray(places, dtype="<i8").tobytes())
        return sha.hexdigest()
