"""Protocol ``online-tta``: one shift at a time, a fresh model for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from dabench.contract import seeding
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import IntArray
from dabench.errors import ConfigError
from dabench.protocols.streams.named.arrivals import Pool
from dabench.protocols.streams.named.catalogue import parse_stream
from dabench.protocols.streams.protocol import OnlineProtocol
from dabench.protocols.streams.roles import Order
from dabench.protocols.streams.shifts import parse_shifts, written_shifts

Speed = Annotated[float, Field(gt=0)]
#: of the protocol's own bursts
CONCENTRATION = 0.1
SHIFTS = "fog:5,rain:5,ground-snow:5,low-light:5,lens-drops:5"


class OnlineTTA(OnlineProtocol):
    """Every stream image once per shift; the method starts from the source model at each shift.

    Args:
        shifts: ``kind:severity`` with commas between; ``fog+rain:5`` mixes kinds image by image,
            ``clear`` is the target domain as it is. Groups: ``published-15`` and
            ``published-extra`` (files of the data set), ``c-15`` and ``c-extra`` (our renderings of
            the same corruptions), at severity 5 unless named. --protocol.severity gives one to
            every shift that names none.
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

    #: of the protocol, and of the order that its own segments make
    name: ClassVar[str] = "online-tta"
    version: ClassVar[str] = "2"
    usual_stream: ClassVar[str] = "reset-per-shift"
    #: they came later: at their defaults they are no part of a run's id
    later_options: ClassVar[frozenset[str]] = frozenset({"images", "stream", "stream_speed"})
    shorthands: ClassVar[Mapping[str, str]] = {
        "severity": "of every shift that names none, from 1; without shifts: of the usual ones."
    }
    primary: ClassVar[str] = "accuracy"
    fresh_per_segment: ClassVar[bool] = True

    def __init__(
        self,
        *,
        shifts: str = SHIFTS,
        order: Order = "random",
        concentration: Annotated[float, Field(gt=0)] = CONCENTRATION,
        also_after: bool = False,
        images: Annotated[int, Field(ge=0)] = 0,
        stream: str = "reset-per-shift",
        stream_speed: Speed | None = None,
    ) -> None:
        super().__init__(order=order, concentration=concentration, also_after=also_after)
        self.shifts, self.images = parse_shifts(shifts), images
        self.named = parse_stream(stream, self.name)
        self.window, self.stream_speed = self.named.window, stream_speed
        self._check_stream()

    @classmethod
    def written_options(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read ``severity``, and groups of shifts, as the list of shifts that they stand for.

        A stream's options are written in one order, and those at their defaults not at all.
        """
        given = written_shifts(given, SHIFTS)
        if "stream" not in given:
            return given
        return {**given, "stream": parse_stream(str(given["stream"]), cls.name).text}

    def _check_stream(self) -> None:
        """Refuse options that a named stream, or a pace, would leave without effect."""
        if self.named.name != self.usual_stream and (
            self.order != "random" or self.concentration != CONCENTRATION
        ):
            raise ConfigError(
                f"--protocol.stream {self.named.name} has an order of its own; drop "
                "--protocol.order and --protocol.concentration (correlated:concentration=0.1 is a "
                "stream)"
            )
        paced = "--protocol.stream_speed" if self.stream_speed is not None else ""
        windowed = f"--protocol.stream {self.named.name}" if self.window > 1 else ""
        if (paced or windowed) and self.also_after:
            raise ConfigError(
                f"--protocol.also_after: with {paced or windowed} most batches have no update; "
                "drop one of the two"
            )
        if paced and windowed:
            raise ConfigError(f"{paced} and {windowed} both say when a method adapts; drop one")

    def check_setting(self, *, init: str, batch_size: int, source: str, target: str) -> None:
        """Refuse batches of a stream that shows one image at a time, too."""
        super().check_setting(init=init, batch_size=batch_size, source=source, target=target)
        self._check_batch(batch_size)

    def _check_batch(self, batch_size: int) -> None:
        if self.named.entry.batch not in (None, batch_size):
            raise ConfigError(
                f"--protocol.stream {self.named.name} shows one image at a time; give "
                "--batch-size 1"
            )

    def segments(
        self, rows: IntArray, labels: IntArray, seed: int
    ) -> list[tuple[Segment, IntArray]]:
        """One segment a shift, in the shifts' order."""
        return [
            (segment, self.arrange(rows, labels, seeding.seed(seed, "stream", segment.name)))
            for segment in self.ordered_shifts(seed)
        ]

    def ordered_shifts(self, seed: int) -> list[Segment]:
        """Return the shifts in the order in which the stream meets them."""
        return self.shifts

    def stream_of(self, rows: IntArray, labels: IntArray, batch_size: int, seed: int) -> Stream:
        """Return the protocol's own segments, or the named stream.

        Raises:
            ConfigError: another batch size than the stream has, more images than there are, or a
                window that never fills.
        """
        self._check_batch(batch_size)
        if self.images > len(rows):
            raise ConfigError(
                f"--protocol.images {self.images}: the stream has {len(rows)} images a shift; give "
                f"{len(rows)} or fewer, or leave it out"
            )
        if self.images:
            drawn = np.random.default_rng(seeding.seed(0, "target", "images")).permutation(rows)
            rows = np.sort(drawn[: self.images])
        named = self.named
        if named.entry.build is None:
            return super().stream_of(rows, labels, batch_size, seed)
        domains = tuple(self.ordered_shifts(seed))
        found = named.arrange(Pool(named.name, labels[rows], domains, seed))
        segments = tuple((part.segment, rows[part.images]) for part in found.segments)
        counts = [len(part) for _, part in segments]
        arrive = min(counts) if self.fresh_per_segment else sum(counts)
        if self.window > arrive:
            raise ConfigError(
                f"--protocol.stream {named.text}: {arrive} images arrive before a method ends or "
                f"begins anew, and none would adapt; give a window of {arrive} or less"
            )
        shown = tuple(part.shown for part in found.segments)
        return Stream(segments, batch_size, seed, domains=found.domains, shown=shown)
