"""Target streams: the ordered steps that every method of a column sees identically."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from dabench.contract.types import IntArray


@dataclass(frozen=True)
class Segment:
    """A stretch of a stream under one condition (``severity`` 0 = clear)."""

    name: str
    domain: str
    severity: int = 0


@dataclass(frozen=True)
class Stream:
    """Segments with the target positions that each shows, in order.

    An offline protocol's stream is the adapt set and the held-out set; an online one has a
    segment per condition. It is made from (data, seed) only.
    """

    segments: tuple[tuple[Segment, IntArray], ...]
    batch_size: int
    seed: int

    @property
    def digest(self) -> str:
        """SHA-256 over names, positions, batch size and seed."""
        sha = hashlib.sha256(f"{self.batch_size}|{self.seed}".encode())
        for segment, rows in self.segments:
            sha.update(f"|{segment.name}|{segment.domain}|{segment.severity}|".encode())
            sha.update(np.ascontiguousarray(rows, dtype="<i8").tobytes())
        return sha.hexdigest()
