"""A walk of segmentation: a confusion matrix a frame, and never a logit that is kept."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dabench.contract.access import TargetBatch
from dabench.contract.data import ImageArray
from dabench.contract.protocol import DensePlan, Outcome
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.engine import stream as walk
from dabench.engine.stream import Progress
from dabench.errors import DataError
from dabench.metrics.segmentation import mean_iou, pixel_confusion
from dabench.protocols.dense import outcome as dense_outcome
from dabench.protocols.dense import strips
from dabench.protocols.dense.outcome import KEPT, Timing
from dabench.protocols.dense.scores import DenseCourse, Layout
from dabench.protocols.offline.upper_bound import UpperBound
from dabench.protocols.streams.runner import Granting, Walker
from dabench.protocols.streams.scores import Stretch


@dataclass
class DenseJournal(Progress):
    """What is known of a stream of segmentation so far.

    Attributes:
        confusion: per step, (3, K, K) int64 counts of pixels: the method before and after its
            update, and the source model.
    """

    confusion: list[Tensor] = field(default_factory=list)


class DenseOptions(Granting, Protocol):
    """What decides a walk of segmentation, as in ``OnlineSegmentation``."""

    timing: Timing

    def condition(self, under: Segment) -> str:
        """Return the name of a segment's condition."""
        ...

    def turn(self, under: Segment) -> int:
        """Return the number of a segment's round, from 1."""
        ...

    def fresh(self, before: Segment, under: Segment) -> bool:
        """Return whether a fresh method begins between two segments."""
        ...


class DenseWalker(Walker[DenseOptions, DensePlan, DenseJournal]):
    """Counts pixels of every answer, before and after the update, and of the source model."""

    #: the method's classes before its update, where it answers after it
    earlier: Tensor | None = None
    #: the present segment's first step, and its counts of the ranked timing so far
    tally: tuple[int, Tensor] | None = None

    @property
    def images(self) -> ImageArray:
        """The target domain's clear frames by position."""
        return self.plan.frames.images

    @property
    def draw(self) -> int:
        """A seed draws its own weather."""
        return self.plan.stream.seed

    def make_course(self, stretches: tuple[Stretch, ...]) -> DenseCourse:
        """A fresh method begins where the protocol says so."""
        under = [segment for segment, _ in self.plan.stream.segments]
        begins = [
            stretch.first
            for old, new, stretch in zip(under, under[1:], stretches[1:], strict=False)
            if self.protocol.fresh(old, new)
        ]
        names = [self.protocol.condition(under) for under, _ in self.chunks]
        self.shown = strips.chosen(names, [int(rows[0]) for _, rows in self.chunks])
        return DenseCourse(stretches, 1, begins=(0, *begins))

    # -- a step ---------------------------------------------------------------------------------

    def approach(self, rows: IntArray) -> None:
        """Hand labels to the row that is allowed to see them."""
        if isinstance(self.method, UpperBound):
            self.method.reveal(np.ascontiguousarray(self.plan.frames.masks[rows]))

    def prepare(self, batch: TargetBatch) -> None:
        """Answer before the step, for a method that answers after its update."""
        if self.method.trains and self.method.answers == "after":
            self.earlier = self.again(batch, "before")

    def again(self, batch: TargetBatch, timing: Timing) -> Tensor:
        """Return the method's classes without an update, charged where this timing is ranked.

        Its random numbers are put back: what is recorded beside must not move what is ranked.
        """
        charged = timing == self.protocol.timing
        free = contextlib.nullcontext() if charged else self.cost.pause()
        begin = walk.seconds(batch.images.device)
        with free, torch.no_grad(), torch.random.fork_rng():
            logits = self.method.predict(batch.images).logits
        if charged:
            self.journal.seconds += walk.seconds(batch.images.device) - begin
        walk.check_answer(
            self.method, "predict", logits, batch.images, dense=True, step=self.journal.steps
        )
        return logits.argmax(1)

    def note(self, batch: TargetBatch, logits: Tensor) -> None:
        """Count the frame's pixels: before and after the update, and of the source model."""
        own = logits.detach().argmax(1)
        before = after = own
        if self.method.trains and self.method.answers == "after":
            before = own if self.earlier is None else self.earlier
        elif self.method.trains:
            after = self.again(batch, "after")
        with torch.no_grad():
            source = self.source(batch.images).argmax(1)
        answers = [answer.to(torch.uint8).cpu() for answer in (before, after, source)]
        truth = self.truth(batch)
        size = self.plan.task.num_classes
        self.journal.confusion.append(
            torch.stack([pixel_confusion(answer, truth, size) for answer in answers])
        )
        if self.journal.steps in self.shown:
            self.draw_strip(batch, truth, answers)
        self.journal.steps += 1

    def truth(self, batch: TargetBatch) -> Tensor:
        """Return the (1, H, W) labels of the present frame.

        Raises:
            DataError: they have another size than the picture.
        """
        _, rows = self.chunks[self.journal.steps]
        masks = np.ascontiguousarray(self.plan.frames.masks[rows])
        if masks.shape[1:] != tuple(batch.images.shape[2:]):
            raise DataError(
                f"frame {rows[0]}: labels of {masks.shape[1:]} pixels for a picture of "
                f"{tuple(batch.images.shape[2:])}; a data set must load both at one size"
            )
        return torch.from_numpy(masks)

    def draw_strip(self, batch: TargetBatch, truth: Tensor, answers: list[Tensor]) -> None:
        """Write picture, truth, and both models' answers beside each other."""
        step, timing = self.journal.steps, self.protocol.timing
        under, rows = self.chunks[step]
        seen = (batch.images[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
        labels = {
            "truth": truth,
            "source model": answers[KEPT.index("source")],
            f"adapted, {timing} the update": answers[KEPT.index(timing)],
        }
        panels = [(f"{under.name}, frame {rows[0]}", seen)]
        panels += [(title, strips.paint(found[0].numpy())) for title, found in labels.items()]
        picture = strips.strip(panels, self.plan.task.classes)
        self.run.recorder.put(f"strips/{under.name}", step, torch.from_numpy(picture)[None])
        if self.run.report is not None:
            strips.save(self.run.report / f"{under.name}-{int(rows[0]):06d}.png", picture)

    # -- while it is walked ---------------------------------------------------------------------

    def counts(self, first: int, last: int) -> Tensor:
        """Return the (3, K, K) counts over some steps."""
        return torch.stack(self.journal.confusion[first:last]).sum(0)

    def status(self, stretch: Stretch) -> str:
        """Return the segment's mean IoU so far."""
        done = self.journal.steps
        if self.tally is None or self.tally[0] != stretch.first:
            self.tally = (stretch.first, self.counts(stretch.first, done))
        else:
            self.tally = (stretch.first, self.tally[1] + self.journal.confusion[-1])
        return f"mIoU {float(mean_iou(self.tally[1][KEPT.index(self.protocol.timing)])):.3f}"

    def live(self, stretch: Stretch, step: int) -> None:
        """Write the last point of the curve ``running_mIoU``."""
        life = max(life.start for life in self.course.lives if life.start <= step)
        counts = self.counts(max(life, step + 1 - self.course.window), step + 1)
        value = float(mean_iou(counts[KEPT.index(self.protocol.timing)]))
        if value == value:  # not nan: a window without a labelled pixel has no point
            self.run.recorder.put("live/running_mIoU", step, value)

    # -- what comes out -------------------------------------------------------------------------

    def layout(self) -> Layout:
        """Return what the segments are."""
        segments = [under for under, _ in self.plan.stream.segments]
        return Layout(
            classes=self.plan.task.classes,
            names=tuple(under.name for under in segments),
            conditions=tuple(self.protocol.condition(under) for under in segments),
            rounds=tuple(self.protocol.turn(under) for under in segments),
            steps=self.journal.steps,
            subsets=self.plan.subsets,
        )

    def outcome(self) -> Outcome:
        """Turn counts into scores: the ranked timing, and the other one under a suffix."""
        per_step = torch.stack(self.journal.confusion)
        steps = {name: per_step[:, i] for i, name in enumerate(KEPT)}
        found = dense_outcome.outcome(steps, self.course, self.layout(), self.protocol.timing)
        found.arrays["stream.row"] = np.concatenate([rows for _, rows in self.chunks])
        found.cost = self.spent()
        if self.journal.seconds > 0:
            found.cost["frames_per_second"] = self.journal.steps / self.journal.seconds
        found.extras = tuple(sorted(self.method.extras))
        return found
