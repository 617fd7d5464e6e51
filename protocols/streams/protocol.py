"""What the online protocols share: one stream, one run along it, one way to score."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from dabench.contract.access import Online
from dabench.contract.data import DomainData
from dabench.contract.network import Network
from dabench.contract.protocol import BuildOnline, Outcome, Run, StreamPlan
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import IntArray, Kind, Task
from dabench.datasets.weather.apply import MIN_SIDE, RENDERING
from dabench.datasets.weather.groups import PUBLISHED_SHIFTS
from dabench.engine.stream import StreamLog
from dabench.errors import ConfigError
from dabench.metrics.scoring import check_order
from dabench.protocols.common.rows import select_rows
from dabench.protocols.streams.class_runner import ClassStreamRunner
from dabench.protocols.streams.published import open_published
from dabench.protocols.streams.roles import Order, order_rows, split_roles
from dabench.protocols.streams.runner import check_init
from dabench.protocols.streams.shifts import CLEAR

#: images of a class from which every role has one
FEWEST_PER_CLASS = 5


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
    grants: ClassVar[frozenset[str]] = frozenset({"fisher-images", "source-statistics", "buffer"})
    black_box: ClassVar[bool] = False
    online: ClassVar[bool] = True
    #: whether every segment begins with a fresh method
    fresh_per_segment: ClassVar[bool] = False
    #: whether held-out images are scored after every segment
    scores_held_out: ClassVar[bool] = False
    #: as in ``ClassStreamProtocol``
    window: int = 1
    stream_speed: float | None = None

    def __init__(
        self,
        *,
        order: Order = "random",
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

    def check_setting(self, *, init: str, batch_size: int, source: str, target: str) -> None:
        """Refuse what no data are needed to refuse.

        Raises:
            ConfigError: ``--init bn-target``, which would look at the stream in advance.
        """
        check_init(init)

    def is_valid(self, data: DomainData) -> str | None:
        """Return why these data cannot be used, or None."""
        if data.image_size < MIN_SIDE:
            return f"images of {data.image_size} px; weather needs {MIN_SIDE}"
        if data.source != data.target:
            present = np.unique(data.target_all.labels)
            lacking = [data.classes[i] for i in present if data.classes[i] in data.unseen]
            if lacking:
                named = ", ".join(lacking[:5])
                return (
                    f"the source '{data.source}' has no image of {named}: its model cannot name "
                    "them; take them out of the target, or use --protocol sf-osda"
                )
        counts = np.bincount(data.target_all.labels, minlength=len(data.classes))
        few = [
            name for name, n in zip(data.classes, counts, strict=True) if 0 < n < FEWEST_PER_CLASS
        ]
        # nothing has to be left for a source model that is there already: any class will do
        refused = bool(few) and (data.has_source or len(few) == np.count_nonzero(counts))
        if refused and data.roles is None:
            listed = ", ".join(few[:5])
            return f"fewer than {FEWEST_PER_CLASS} images of {listed}: no part for every role"
        return None

    def plan(self, data: DomainData, batch_size: int, seed: int) -> StreamPlan:
        """Fix the roles, order the stream and freeze it; depends on nothing else."""
        found = split_roles(data)
        labels = data.target_all.labels
        check_order(labels, f"{data.dataset}/{data.target}")
        source, val = data.source_train, data.source_val
        source_rows = np.array([], dtype=np.int64)
        if found.source is not None:
            source_rows, val = found.source, None
            source = select_rows(data.target_all, source_rows)
        sha = hashlib.sha256(b"".join(r.tobytes() for r in (source_rows, found.held_out)))
        stream = self.stream_of(found.stream, labels, batch_size, seed)
        segments = stream.segments
        conditions = [*stream.domains] or [segment for segment, _ in segments]
        published, files = open_published(data, conditions)
        kinds = {kind for condition in conditions for kind in condition.domain.split("+")}
        if not kinds <= {*PUBLISHED_SHIFTS}:  # a set may have none: say so before a model is loaded
            _ = data.target_all.images[found.stream[:1]]
        drawn = "" if files and kinds <= {CLEAR, *PUBLISHED_SHIFTS} else f"{RENDERING}, "
        rendering = f"{drawn}roles {sha.hexdigest()}{files}"
        for segment, rows in segments:
            if not len(rows):
                raise ConfigError(
                    f"segment '{segment.name}' has no image: {len(found.stream)} stream images "
                    f"over {len(segments)} segments; use --protocol.parts replay or more images"
                )
        return StreamPlan(
            task=Task(
                *("classification", data.classes, data.image_size, False, data.flip),
                model_classes=data.model_classes,
            ),
            source=source,
            source_val=val,
            images=data.target_all.images,
            truth=labels,
            stream=replace(stream, rendering=rendering),
            held_out=found.held_out,
            published=published,
            clear=data.clear,
        )

    def stream_of(self, rows: IntArray, labels: IntArray, batch_size: int, seed: int) -> Stream:
        """Return the stream over some positions, before it is known how its pictures are made."""
        return Stream(tuple(self.segments(rows, labels, seed)), batch_size, seed)

    def arrange(self, rows: IntArray, labels: IntArray, value: int) -> IntArray:
        """Put positions in the order that the options ask for."""
        return order_rows(rows, labels, self.order, self.concentration, value)

    # -- the run --------------------------------------------------------------------------------

    def run(self, build: BuildOnline, plan: StreamPlan, source: Network, run: Run) -> Outcome:
        """Push the whole stream, and score.

        Raises:
            AccessError: the method needs something that this protocol does not grant.
            ConfigError: ``--init bn-target``, which would look at the stream in advance.
            CacheError: a checkpoint of another run.
        """
        check_init(run.init)
        runner = ClassStreamRunner(self, build, plan, source, run, StreamLog())
        runner.run()
        return runner.outcome()
