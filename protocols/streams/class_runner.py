"""A stream of classification: one class an image, and held-out images beside the stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dabench.contract.access import TargetBatch
from dabench.contract.answers import check_logits, copy_to_ask, left_alone, predicted
from dabench.contract.floats import to_float
from dabench.contract.method import OnlineMethod
from dabench.contract.protocol import Outcome
from dabench.contract.seeding import generators_kept, seed
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray, Score
from dabench.engine.stream import timed
from dabench.errors import ConfigError
from dabench.protocols.streams.arrival_runner import ArrivalRunner
from dabench.protocols.streams.layout import SegmentSteps, StreamLayout
from dabench.protocols.streams.scores import (
    correct_answers,
    held_out_curves,
    held_out_scores,
    label_free_scores,
    stream_curves,
    stream_scores,
)
from dabench.protocols.streams.shifts import CLEAR, condition_of
from dabench.protocols.streams.visit_scores import calibration_curve, visit_scores
from dabench.registry.marks import ANSWERS_AFTER


class ClassStreamRunner(ArrivalRunner):
    """Keeps the argmax of every answer, the source model's, and probes on held-out images."""

    #: the present segment's first step, right answers and images since the run went on
    segment_tally: tuple[int, int, int] = (0, 0, 0)

    @property
    def scores_held_out(self) -> bool:
        """Whether the protocol scores held-out images, and there are any."""
        return self.protocol.scores_held_out and len(self.plan.held_out) > 0

    def make_layout(self, segments: tuple[SegmentSteps, ...]) -> StreamLayout:
        """A fresh method begins at every segment or at none."""
        return StreamLayout(segments, self.plan.stream.batch_size, self.protocol.fresh_per_segment)

    def check_method(self, method: OnlineMethod) -> None:
        """Refuse to ask for an answer after the update that the method gives anyway."""
        if self.protocol.also_after and method.answers == "after":
            raise ConfigError(
                f"--protocol.also_after: {type(method).__name__} answers after its update anyway"
            )

    def record_answer(self, batch: TargetBatch, logits: Tensor) -> None:
        """Keep the method's and the source model's classes."""
        with torch.no_grad():
            self.stream_log.source.append(self.source(batch.images).argmax(1).cpu())
            if self.protocol.also_after:
                logits = logits.clone()  # the further answer may be written where this one stands
                own = batch.images.clone()
                with timed(self.stream_log, own.device):  # charged in images, so in seconds too
                    later = predicted(self.method, own, len(self.stream_log.later))
                self.check_prediction(later, own)
                self.stream_log.later.append(later.argmax(1).cpu())
        self.stream_log.add(logits)

    def progress_text(self, segment: SegmentSteps) -> str:
        """Return the segment's accuracy so far (of a resumed run: since then)."""
        first, right, seen = self.segment_tally
        if first != segment.first:
            first, right, seen = segment.first, 0, 0
        truth = self.plan.truth[self.batches[self.stream_log.steps - 1][1]]
        right += int((self.stream_log.prediction[-1].numpy() == truth).sum())
        self.segment_tally = (first, right, seen + len(truth))
        return f"accuracy {right / self.segment_tally[2]:.3f}"

    def show_segment(self, segment: SegmentSteps) -> None:
        """Write a few images as they look in a segment: held-out ones where there are any."""
        condition, first = self.batches[segment.first]
        rows = np.sort(self.plan.held_out)[:8] if len(self.plan.held_out) else first[:8]
        if shown := self.pictures.shown:
            places = np.resize(shown[segment.first], len(rows))
            sample = self.pictures.in_domains(rows, places)
        else:
            sample = self.pictures.under(condition, rows)
        self.context.recorder.put(f"stream/{segment.name}", segment.first, torch.from_numpy(sample))

    def write_live_point(self, segment: SegmentSteps, step: int) -> None:
        """Write the last point of the curve ``running_accuracy``."""
        begin = segment.first if self.protocol.fresh_per_segment else 0
        window = slice(max(begin, step + 1 - self.layout.window), step + 1)
        truth = [self.plan.truth[rows] for _, rows in self.batches[window]]
        right = np.concatenate(correct_answers(self.stream_log.prediction[window], truth))
        self.context.recorder.put("live/running_accuracy", step, float(right.mean()))

    # -- held-out images ------------------------------------------------------------------------

    def before_stream(self) -> None:
        """Probe the source model."""
        if self.scores_held_out and not self.stream_log.probes:
            self.score_held_out(0, self.source_classes)

    def after_segment(self, number: int) -> None:
        """Probe the method; a run killed between last step and probe has this still to do.

        Streams of many short visits are probed at their end alone.
        """
        if self.plan.stream.domains and number < len(self.layout.segments):
            return
        if self.scores_held_out and all(at != number for at, _, _ in self.stream_log.probes):
            asked = copy_to_ask(self.method)
            with left_alone(asked):
                self.score_held_out(number, partial(self.method_classes, asked))

    def method_classes(self, method: OnlineMethod, images: Tensor) -> Tensor:
        """Return a method's classes, in its own normalisation mode."""
        logits = predicted(method, images)
        self.check_prediction(logits, images)
        return logits.argmax(1)

    def check_prediction(self, logits: Tensor, images: Tensor) -> None:
        """Refuse logits of ``predict`` that do not fit, as those of a step are refused."""
        check_logits(
            *(self.method, "predict", logits, images),
            num_classes=self.plan.task.num_classes,
            dense=False,
            step=self.stream_log.steps,
        )

    def source_classes(self, images: Tensor) -> Tensor:
        """Return the source model's classes."""
        found: Tensor = self.source(images).argmax(1)
        return found

    def score_held_out(self, number: int, answer: Callable[[Tensor], Tensor]) -> None:
        """Score held-out images: clear and as after this segment; after the last, all conditions.

        They come shuffled, in equal batches about as large as the stream's: a method may normalise
        by batch.
        """
        stream = self.plan.stream
        conditions = [self._without_round(condition) for condition, _ in stream.segments]
        named = conditions[max(0, number - 1) : number] if not stream.domains else []
        if number == len(conditions):
            named = [*stream.domains] or conditions
        probed = [Segment(CLEAR, CLEAR), *named]
        rng = np.random.default_rng(seed(0, "target", "held-out"))
        rows = rng.permutation(self.plan.held_out)
        known = {}
        if not self.method.trains:  # what no step moves is asked for once
            known = {name: found for at, name, found in self.stream_log.probes if at}
        for condition in probed:
            if condition.name not in known:
                known[condition.name] = self._accuracy(rows, condition, answer)
        # all at once: a checkpoint may come between, and half of them would count as done
        names = dict.fromkeys(condition.name for condition in probed)
        self.stream_log.probes += [(number, name, known[name]) for name in names]

    @staticmethod
    def _without_round(condition: Segment) -> Segment:
        """Return a segment without the number of its round."""
        return Segment(condition_of(condition), condition.domain, condition.severity)

    def _accuracy(
        self, rows: IntArray, condition: Segment, answer: Callable[[Tensor], Tensor]
    ) -> float:
        size, right = self.most_images, 0
        with generators_kept(), torch.no_grad(), self.cost.pause():
            for chunk in np.array_split(rows, max(1, round(len(rows) / size))):
                images = to_float(self.pictures.under(condition, chunk), self.context.device)
                found = answer(images).cpu().numpy()
                right += int((found == self.plan.truth[chunk]).sum())
        return right / len(rows)

    # -- what comes out -------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """Let the answers meet the truth."""
        stream_log, plan = self.stream_log, self.plan
        truth = [plan.truth[rows] for _, rows in self.batches]
        right = correct_answers(stream_log.prediction, truth)
        source = correct_answers(stream_log.source, truth)
        scores = stream_scores(right, source, self.layout)
        if stream_log.later:
            later = correct_answers(stream_log.later, truth)
            scores += stream_scores(later, source, self.layout, "/after")
        scores += label_free_scores(
            *(stream_log.mean, stream_log.sizes, stream_log.adapted, self.layout)
        )
        curves = stream_curves(right, source, stream_log.mean, stream_log.sizes, self.layout)
        if self.scores_held_out:
            n = len(plan.held_out)
            scores += held_out_scores(stream_log.probes, self.last_conditions, n, stream_log.steps)
            curves += held_out_curves(stream_log.probes, self.layout.segments, n)
        sure = [c.numpy() for c in stream_log.confidence]
        scores += visit_scores(plan.stream, right, np.concatenate(sure), self.layout)
        curves += calibration_curve(right, sure, self.layout)
        if self.protocol.stream_speed is not None:
            done = stream_log.steps
            scores.append(Score("missed", stream_log.adapted.count(False) / done, done, at=done))
        after = {ANSWERS_AFTER} if self.method.answers == "after" else set()
        return Outcome(
            scores=scores,
            curves=curves,
            extras=tuple(sorted(self.extras | after)),
            arrays=self.arrays(),
            cost=self.costs(),
        )

    @property
    def last_conditions(self) -> list[str]:
        """Names of the conditions of the last segment."""
        stream = self.plan.stream
        if stream.domains:
            return [stream.domains[place].name for place in np.unique(stream.shown[-1])]
        return [condition_of(stream.segments[-1][0])]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every image's position, step, truth and answer."""
        rows = np.concatenate([rows for _, rows in self.batches])
        step = np.concatenate([np.full(len(r), i) for i, (_, r) in enumerate(self.batches)])
        found: dict[str, np.ndarray] = {
            "stream.row": rows,
            "stream.step": step.astype(np.int32),
            "stream.truth": self.plan.truth[rows].astype(np.int16),
            "stream.prediction": torch.cat(self.stream_log.prediction).numpy().astype(np.int16),
            "stream.confidence": torch.cat(self.stream_log.confidence).numpy().astype(np.float32),
        }
        if self.pictures.shown:
            found["stream.domain"] = np.concatenate(self.pictures.shown).astype(np.int16)
        return found
