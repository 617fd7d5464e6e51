"""What the online protocols share: one stream, one walk along it, one way to score."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from dabench.contract.access import Online
from dabench.contract.data import DomainData
from dabench.contract.network import Network
from dabench.contract.protocol import BuildOnline, Outcome, Run, StreamPlan
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import IntArray, Kind, Task
from dabench.datasets.weather import apply as weather
from dabench.engine.stream import Journal
from dabench.errors import ConfigError
from dabench.metrics.scoring import check_order
from dabench.protocols.offline.protocol import select_rows
from dabench.protocols.streams import pictures as streams
from dabench.protocols.streams.class_runner import ClassWalker
from dabench.protocols.streams.runner import check_init

#: images of a class from which every role has one
FEWEST = 5


class OnlineProtocol(ABC):
    """Push a target stream batch by batch; predictions meet the truth in the protocol's frame.

    Every image counts once in the accuracy, answered before or after the method's own update as
    the method declares. A seed varies the source model and the order; roles and weather stay.

    Args:
        order: ``random``, or ``class-correlated``: classes come in bursts.
        concentration: Dirichlet parameter of the bursts; smaller = more correlated.
        also_after: answer every batch once more after the update (scores ``.../after``); the
            extra forward pass is charged.
    """

    version: ClassVar[str] = "1"
    kind: ClassVar[Kind] = "classification"
    grant: ClassVar[type] = Online
    #: extras by name; a ``buffer`` of target images is kept by the method, nothing is handed out
    grants: ClassVar[frozenset[str]] = frozenset({"fisher-images", "buffer"})
    black_box: ClassVar[bool] = False
    online: ClassVar[bool] = True
    #: whether every segment begins with a fresh method
    fresh: ClassVar[bool] = False
    #: whether held-out images are scored after every segment
    probes: ClassVar[bool] = False

    def __init__(
        self,
        *,
        order: streams.Order = "random",
        concentration: Annotated[float, Field(gt=0)] = 0.1,
        also_after: bool = False,
    ) -> None:
        self.order, self.concentration = order, concentration
        self.also_after = also_after

    @abstractmethod
    def segments(
        self, rows: IntArray, labels: IntArray, seed: int
    ) -> list[tuple[Segment, IntArray]]:
        """Return the segments in order, with the positions that each shows."""

    def is_valid(self, data: DomainData) -> str | None:
        """Return why these data cannot be used, or None."""
        if data.image_size < weather.MIN_SIDE:
            return f"images of {data.image_size} px; weather needs {weather.MIN_SIDE}"
        counts = np.bincount(data.target_all.labels, minlength=len(data.classes))
        few = [name for name, n in zip(data.classes, counts, strict=True) if 0 < n < FEWEST]
        if few:
            return f"fewer than {FEWEST} images of {', '.join(few[:5])}: no part for every role"
        return None

    def plan(self, data: DomainData, batch_size: int, seed: int) -> StreamPlan:
        """Fix the roles, order the stream and freeze it; depends on nothing else."""
        found = streams.roles(data)
        labels = data.target_all.labels
        check_order(labels, f"{data.dataset}/{data.target}")
        source, val = data.source_train, data.source_val
        source_rows = np.array([], dtype=np.int64)
        if found.source is not None:
            source_rows, val = found.source, None
            source = select_rows(data.target_all, source_rows)
        sha = hashlib.sha256(b"".join(r.tobytes() for r in (source_rows, found.held_out)))
        rendering = f"{weather.RENDERING}, roles {sha.hexdigest()}"
        segments = tuple(self.segments(found.stream, labels, seed))
        for under, rows in segments:
            if not len(rows):
                raise ConfigError(
                    f"segment '{under.name}' has no image: {len(found.stream)} stream images over "
                    f"{len(segments)} segments; use --protocol.parts replay or more images"
                )
        return StreamPlan(
            task=Task("classification", data.classes, data.image_size, False, data.flip),
            source=source,
            source_val=val,
            images=data.target_all.images,
            truth=labels,
            stream=Stream(segments, batch_size, seed, rendering),
            held_out=found.held_out,
        )

    def arrange(self, rows: IntArray, labels: IntArray, value: int) -> IntArray:
        """Put positions in the order that the options ask for."""
        return streams.arrange(rows, labels, self.order, self.concentration, value)

    # -- the walk -------------------------------------------------------------------------------

    def run(self, build: BuildOnline, plan: StreamPlan, source: Network, run: Run) -> Outcome:
        """Walk along the stream, and score.

        Raises:
            AccessError: the method needs something that this protocol does not grant.
            ConfigError: ``--init bn-target``, which would look at the stream in advance.
            CacheError: a checkpoint of another run.
        """
        check_init(run)
        walker = ClassWalker(self, build, plan, source, run, Journal())
        walker.go()
        return walker.outcome()
