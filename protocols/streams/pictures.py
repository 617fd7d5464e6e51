"""The pictures of a stream, each a pure function of plan and position; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dabench.contract.data import ImageArray
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import IntArray
from dabench.protocols.streams.layout import batches_of, shown_of
from dabench.protocols.streams.shifts import render, scattered


@dataclass(frozen=True)
class StreamPictures:
    """Makes the pictures of a stream; knows no label, and can be handed to another process.

    Attributes:
        images: pictures of the target domain by position, clear.
        stream: what is shown when.
        weather_seed: of the weather; the same for all seeds of a run where it is 0.
        published: pictures by the same positions that were published corrupted, by kind and
            severity.
    """

    images: ImageArray
    stream: Stream
    weather_seed: int = 0
    published: Mapping[tuple[str, int], ImageArray] = field(default_factory=dict)

    @cached_property
    def shown(self) -> list[IntArray]:
        """Per step, the place of each image's domain; empty where segments have one shift."""
        return shown_of(self.stream)

    @cached_property
    def _batches(self) -> list[tuple[Segment, IntArray]]:
        return batches_of(self.stream)[0]

    def of_step(self, step: int) -> np.ndarray:
        """Return a step's (B, H, W, 3) uint8 pictures, each in its own domain."""
        segment, rows = self._batches[step]
        if not self.shown:
            return self.under(segment, rows)
        return self.in_domains(rows, self.shown[step])

    def under(self, segment: Segment, rows: IntArray) -> np.ndarray:
        """Return (B, H, W, 3) uint8 pictures of some positions under a segment's shift."""
        return render(self.images, rows, segment, self.weather_seed, self.published)

    def in_domains(self, rows: IntArray, places: IntArray) -> np.ndarray:
        """Return pictures of some positions, each in the domain at its place of the stream's."""
        domains = self.stream.domains
        found: np.ndarray = scattered(
            places, lambda place, own: self.under(domains[place], rows[own])
        )
        return found
