"""A stream of segmentation: a confusion matrix a frame, and never a logit that is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dabench.contract.access import TargetBatch
from dabench.contract.answers import check_logits, left_alone, predicted
from dabench.contract.protocol import DensePlan, Outcome
from dabench.contract.seeding import generators_kept
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.engine.stream import Progress, timed
from dabench.errors import DataError
from dabench.metrics.segmentation import mean_iou, pixel_confusion
from dabench.protocols.dense import strips
from dabench.protocols.dense.outcome import COUNTED, Timing, dense_outcome
from dabench.protocols.dense.scores import DenseStreamLayout, ScoreGroups
from dabench.protocols.streams.layout import SegmentSteps
from dabench.protocols.streams.pictures import StreamPictures
from dabench.protocols.streams.runner import StreamProtocol, StreamRunner


@dataclass
class DenseStreamLog(Progress):
    """What is known of a stream of segmentation so far.

    Attributes:
        confusion: per step, (3, K, K) int64 counts of pixels: the method before and after its
            update, and the source model.
    """

    confusion: list[Tensor] = field(default_factory=list)


class DenseStreamProtocol(StreamProtocol, Protocol):
    """What decides a run of segmentation, as in ``OnlineSegmentation``."""

    timing: Timing

    def condition(self, segment: Segment) -> str:
        """Return the name of a segment's condition."""
        ...

    def round_number(self, segment: Segment) -> int:
        """Return the number of a segment's round, from 1."""
        ...

    def begins_fresh(self, before: Segment, segment: Segment) -> bool:
        """Return whether a fresh method begins between two segments."""
        ...


class DenseStreamRunner(StreamRunner[DenseStreamProtocol, DensePlan, DenseStreamLog]):
    """Counts pixels of every answer, before and after the update, and of the source model."""

    #: the method's classes before its update, where it answers after it
    classes_before_update: Tensor | None = None
    #: the present segment's first step, and its counts of the ranked timing so far
    segment_tally: tuple[int, Tensor] | None = None

    def make_pictures(self) -> StreamPictures:
        """Make frames in weather that the seed draws."""
        stream = self.plan.stream
        return StreamPictures(self.plan.frames.images, stream, stream.seed)

    def make_layout(self, segments: tuple[SegmentSteps, ...]) -> DenseStreamLayout:
        """A fresh method begins where the protocol says so."""
        planned = [segment for segment, _ in self.plan.stream.segments]
        episode_starts = [
            steps.first
            for old, new, steps in zip(planned, planned[1:], segments[1:], strict=False)
            if self.protocol.begins_fresh(old, new)
        ]
        names = [self.protocol.condition(segment) for segment, _ in self.batches]
        self.steps_to_draw = strips.steps_to_draw(names, [int(rows[0]) for _, rows in self.batches])
        return DenseStreamLayout(segments, 1, episode_starts=(0, *episode_starts))

    # -- a step ---------------------------------------------------------------------------------

    def labels(self, rows: IntArray) -> np.ndarray:
        """Return one class a pixel."""
        return np.ascontiguousarray(self.plan.frames.masks[rows])

    def before_step(self, batch: TargetBatch) -> None:
        """Answer before the step, for a method that answers after its update."""
        if self.method.trains and self.method.answers == "after":
            self.classes_before_update = self.classes_without_update(batch, "before")

    def classes_without_update(self, batch: TargetBatch, timing: Timing) -> Tensor:
        """Return the method's classes without an update, charged where this timing is ranked.

        Its random numbers are put back: what is recorded beside must not move what is ranked.
        """
        charged = timing == self.protocol.timing
        cost = timed(self.stream_log, batch.images.device) if charged else self._uncharged()
        own = batch.images.clone()  # the source model is asked about the same frame later
        with cost, torch.no_grad(), generators_kept():
            logits = predicted(self.method, own, self.stream_log.steps)
        check_logits(
            *(self.method, "predict", logits, batch.images),
            num_classes=self.plan.task.num_classes,
            dense=True,
            step=self.stream_log.steps,
        )
        return logits.argmax(1)

    @contextlib.contextmanager
    def _uncharged(self) -> Iterator[None]:
        with self.cost.pause(), left_alone(self.method):
            yield

    def record_answer(self, batch: TargetBatch, logits: Tensor) -> None:
        """Count the frame's pixels: before and after the update, and of the source model."""
        own = logits.detach().argmax(1)
        before = after = own
        if self.method.trains and self.method.answers == "after":
            before = own if self.classes_before_update is None else self.classes_before_update
        elif self.method.trains:
            after = self.classes_without_update(batch, "after")
        with torch.no_grad():
            source = self.source(batch.images).argmax(1)
        answers = [answer.to(torch.uint8).cpu() for answer in (before, after, source)]
        truth = self.frame_labels(batch)
        size = self.plan.task.num_classes
        self.stream_log.confusion.append(
            torch.stack([pixel_confusion(answer, truth, size) for answer in answers])
        )
        if self.stream_log.steps in self.steps_to_draw:
            self.draw_strip(batch, truth, answers)
        self.stream_log.steps += 1

    def frame_labels(self, batch: TargetBatch) -> Tensor:
        """Return the (1, H, W) labels of the present frame.

        Raises:
            DataError: they have another size than the picture.
        """
        _, rows = self.batches[self.stream_log.steps]
        masks = self.labels(rows)
        if masks.shape[1:] != tuple(batch.images.shape[2:]):
            raise DataError(
                f"frame {rows[0]}: labels of {masks.shape[1:]} pixels for a picture of "
                f"{tuple(batch.images.shape[2:])}; a data set must load both at one size"
            )
        return torch.from_numpy(masks)

    def draw_strip(self, batch: TargetBatch, truth: Tensor, answers: list[Tensor]) -> None:
        """Write picture, truth, and both models' answers beside each other."""
        step, timing = self.stream_log.steps, self.protocol.timing
        segment, rows = self.batches[step]
        seen = (batch.images[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
        labels = {
            "truth": truth,
            "source model": answers[COUNTED.index("source")],
            f"adapted, {timing} the update": answers[COUNTED.index(timing)],
        }
        panels = [(f"{segment.name}, frame {rows[0]}", seen)]
        panels += [
            (title, strips.paint_classes(found[0].numpy())) for title, found in labels.items()
        ]
        picture = strips.join_panels(panels, self.plan.task.classes)
        self.context.recorder.put(f"strips/{segment.name}", step, torch.from_numpy(picture)[None])
        if self.context.report is not None:
            strips.save_png(self.context.report / f"{segment.name}-{int(rows[0]):06d}.png", picture)

    # -- while it runs --------------------------------------------------------------------------

    def summed_counts(self, first: int, last: int) -> Tensor:
        """Return the (3, K, K) counts over some steps."""
        return torch.stack(self.stream_log.confusion[first:last]).sum(0)

    def progress_text(self, segment: SegmentSteps) -> str:
        """Return the segment's mean IoU so far."""
        done = self.stream_log.steps
        if self.segment_tally is None or self.segment_tally[0] != segment.first:
            counts = self.summed_counts(segment.first, done)
        else:
            counts = self.segment_tally[1] + self.stream_log.confusion[-1]
        self.segment_tally = (segment.first, counts)
        return f"mIoU {float(mean_iou(counts[COUNTED.index(self.protocol.timing)])):.3f}"

    def write_live_point(self, segment: SegmentSteps, step: int) -> None:
        """Write the last point of the curve ``running_mIoU``."""
        begin = max(episode.start for episode in self.layout.episodes if episode.start <= step)
        counts = self.summed_counts(max(begin, step + 1 - self.layout.window), step + 1)
        value = float(mean_iou(counts[COUNTED.index(self.protocol.timing)]))
        if value == value:  # not nan: a window without a labelled pixel has no point
            self.context.recorder.put("live/running_mIoU", step, value)

    # -- what comes out -------------------------------------------------------------------------

    def score_groups(self) -> ScoreGroups:
        """Return what is scored together."""
        segments = [segment for segment, _ in self.plan.stream.segments]
        return ScoreGroups(
            classes=self.plan.task.classes,
            names=tuple(segment.name for segment in segments),
            conditions=tuple(self.protocol.condition(segment) for segment in segments),
            rounds=tuple(self.protocol.round_number(segment) for segment in segments),
            steps=self.stream_log.steps,
            subsets=self.plan.subsets,
        )

    def outcome(self) -> Outcome:
        """Turn counts into scores: the ranked timing, and the other one under a suffix."""
        per_step = torch.stack(self.stream_log.confusion)
        steps = {name: per_step[:, i] for i, name in enumerate(COUNTED)}
        found = dense_outcome(steps, self.layout, self.score_groups(), self.protocol.timing)
        found.arrays["stream.row"] = np.concatenate([rows for _, rows in self.batches])
        found.cost = self.costs()
        if self.stream_log.seconds > 0:
            found.cost["frames_per_second"] = self.stream_log.steps / self.stream_log.seconds
        found.extras = tuple(sorted(self.extras))
        return found
