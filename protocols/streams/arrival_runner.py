"""What a stream of classified images pushes: which pictures, and when the method adapts."""

from __future__ import annotations

import functools
from abc import ABC
from typing import ClassVar, Protocol

import numpy as np
from torch import Tensor

from dabench.contract.access import TargetBatch
from dabench.contract.floats import to_float
from dabench.contract.method import OnlineMethod
from dabench.contract.protocol import StreamPlan
from dabench.contract.types import IntArray
from dabench.engine.stream import StreamLog
from dabench.protocols.offline.upper_bound import sees_labels
from dabench.protocols.streams.pace import Pace
from dabench.protocols.streams.pictures import StreamPictures
from dabench.protocols.streams.runner import StreamProtocol, StreamRunner


class ClassStreamProtocol(StreamProtocol, Protocol):
    """What decides a run of classification, as in ``OnlineProtocol``."""

    fresh_per_segment: ClassVar[bool]
    scores_held_out: ClassVar[bool]
    also_after: bool
    #: images that a method adapts on where they come one at a time; 1 = batches as they are
    window: int
    #: batches that arrive while the source model would forward one; None = the stream waits
    stream_speed: float | None


class ArrivalRunner(StreamRunner[ClassStreamProtocol, StreamPlan, StreamLog], ABC):
    """Shows every image in its own domain, and asks the method at the protocol's pace."""

    def labels(self, rows: IntArray) -> np.ndarray:
        """Return one class an image."""
        return self.plan.truth[rows]

    def make_pictures(self) -> StreamPictures:
        """Make them in weather that is the same for all seeds, or read published files."""
        plan = self.plan
        return StreamPictures(plan.images, plan.stream, published=plan.published)

    @functools.cached_property
    def pace(self) -> Pace:
        """When the method adapts."""
        return Pace(
            window=self.protocol.window,
            speed=self.protocol.stream_speed,
            starts=tuple(episode.start for episode in self.layout.episodes),
            log=self.stream_log,
            cost=self.cost,
            render=lambda step: to_float(self.pictures.of_step(step), self.context.device),
            reveal=self.reveal,
        )

    @property
    def most_images(self) -> int:
        """A batch, or a window."""
        return max(super().most_images, self.protocol.window)

    def answer(self, method: OnlineMethod, batch: TargetBatch) -> Tensor:
        """Ask for the logits, and let the method adapt where its turn is."""
        return self.pace.answer(method, batch)

    def reveal(self, steps: range) -> None:
        """Show the labels of some steps to the row that is allowed to see them."""
        if self.labelled and sees_labels(self.method):
            rows = [self.batches[step][1] for step in steps]
            self.method.reveal(self.labels(np.concatenate(rows)))
