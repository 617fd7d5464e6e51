"""A walk of classification: one class an image, and held-out images beside the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from dabench.contract.access import TargetBatch, to_float
from dabench.contract.data import ImageArray
from dabench.contract.method import OnlineMethod
from dabench.contract.protocol import Outcome, StreamPlan
from dabench.contract.seeding import seed
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray
from dabench.engine.stream import Journal
from dabench.errors import ConfigError
from dabench.protocols.offline.upper_bound import UpperBound
from dabench.protocols.streams import pictures as streams
from dabench.protocols.streams import scores as stream_scores
from dabench.protocols.streams.runner import Granting, Walker
from dabench.protocols.streams.scores import Course, Stretch


class Options(Granting, Protocol):
    """What decides a walk of classification, as in ``OnlineProtocol``."""

    fresh: ClassVar[bool]
    probes: ClassVar[bool]
    also_after: bool


class ClassWalker(Walker[Options, StreamPlan, Journal]):
    """Keeps the argmax of every answer, the source model's, and probes on held-out images."""

    #: the present segment's first step, right answers and images since the walk went on
    tally: tuple[int, int, int] = (0, 0, 0)

    @property
    def images(self) -> ImageArray:
        """The target domain's clear pictures by position."""
        return self.plan.images

    def make_course(self, stretches: tuple[Stretch, ...]) -> Course:
        """A fresh method begins at every segment or at none."""
        return Course(stretches, self.plan.stream.batch_size, self.protocol.fresh)

    def check(self, method: OnlineMethod) -> None:
        """Refuse to ask for an answer after the update that the method gives anyway."""
        if self.protocol.also_after and method.answers == "after":
            raise ConfigError(
                f"--protocol.also_after: {type(method).__name__} answers after its update anyway"
            )

    def approach(self, rows: IntArray) -> None:
        """Hand labels to the row that is allowed to see them."""
        if isinstance(self.method, UpperBound):
            self.method.reveal(self.plan.truth[rows])

    def note(self, batch: TargetBatch, logits: Tensor) -> None:
        """Keep the method's and the source model's classes."""
        with torch.no_grad():
            self.journal.source.append(self.source(batch.images).argmax(1).cpu())
            if self.protocol.also_after:
                self.journal.later.append(self.method.predict(batch.images).logits.argmax(1).cpu())
        self.journal.add(logits)

    def status(self, stretch: Stretch) -> str:
        """Return the segment's accuracy so far (of a resumed walk: since then)."""
        first, right, seen = self.tally if self.tally[0] == stretch.first else (stretch.first, 0, 0)
        truth = self.plan.truth[self.chunks[self.journal.steps - 1][1]]
        right += int((self.journal.prediction[-1].numpy() == truth).sum())
        self.tally = (first, right, seen + len(truth))
        return f"accuracy {right / self.tally[2]:.3f}"

    def show(self, stretch: Stretch) -> None:
        """Write a few held-out images as they look in a segment."""
        under, _ = self.chunks[stretch.first]
        sample = streams.render(self.plan.images, np.sort(self.plan.held_out)[:8], under)
        self.run.recorder.put(f"stream/{stretch.name}", stretch.first, torch.from_numpy(sample))

    def live(self, stretch: Stretch, step: int) -> None:
        """Write the last point of the curve ``running_accuracy``."""
        life = stretch.first if self.protocol.fresh else 0
        window = slice(max(life, step + 1 - self.course.window), step + 1)
        truth = [self.plan.truth[rows] for _, rows in self.chunks[window]]
        right = np.concatenate(stream_scores.hits(self.journal.prediction[window], truth))
        self.run.recorder.put("live/running_accuracy", step, float(right.mean()))

    # -- held-out images ------------------------------------------------------------------------

    def before(self) -> None:
        """Probe the source model."""
        if self.protocol.probes and not self.journal.probes:
            self.probe(0, self.source_answers)

    def after(self, number: int) -> None:
        """Probe the method; a run killed between last step and probe has this still to do."""
        if self.protocol.probes and all(at != number for at, _, _ in self.journal.probes):
            self.probe(number, self.method_answers)

    def method_answers(self, images: Tensor) -> Tensor:
        """Return the method's classes, in its own normalisation mode."""
        return self.method.predict(images).logits.argmax(1)

    def source_answers(self, images: Tensor) -> Tensor:
        """Return the source model's classes."""
        found: Tensor = self.source(images).argmax(1)
        return found

    def probe(self, number: int, answer: Callable[[Tensor], Tensor]) -> None:
        """Score held-out images: clear and as after this segment; after the last, all conditions.

        They come shuffled, in batches as large as the stream's: a method may normalise by batch.
        """
        conditions = [self._condition(under) for under, _ in self.plan.stream.segments]
        now = conditions if number == len(conditions) else conditions[max(0, number - 1) : number]
        at = [Segment(streams.CLEAR, streams.CLEAR), *now]
        rng = np.random.default_rng(seed(0, "target", "held-out"))
        rows = rng.permutation(self.plan.held_out)
        for under in {each.name: each for each in at}.values():
            value = self._accuracy(rows, under, answer)
            self.journal.probes.append((number, under.name, value))

    @staticmethod
    def _condition(under: Segment) -> Segment:
        """Return a segment without the number of its round."""
        return Segment(streams.condition(under), under.domain, under.severity)

    def _accuracy(
        self, rows: IntArray, under: Segment, answer: Callable[[Tensor], Tensor]
    ) -> float:
        size, right = self.plan.stream.batch_size, 0
        with torch.random.fork_rng(), torch.no_grad(), self.cost.pause():
            for chunk in np.array_split(rows, max(1, round(len(rows) / size))):
                images = to_float(streams.render(self.plan.images, chunk, under))
                found = answer(images.to(self.run.device)).cpu().numpy()
                right += int((found == self.plan.truth[chunk]).sum())
        return right / len(rows)

    # -- what comes out -------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """Let the answers meet the truth."""
        journal, plan = self.journal, self.plan
        truth = [plan.truth[rows] for _, rows in self.chunks]
        right = stream_scores.hits(journal.prediction, truth)
        source = stream_scores.hits(journal.source, truth)
        scores = stream_scores.stream_scores(right, source, self.course)
        if journal.later:
            later = stream_scores.hits(journal.later, truth)
            scores += stream_scores.stream_scores(later, source, self.course, "/after")
        scores += stream_scores.label_free_scores(journal.mean, journal.sizes, self.course)
        curves = stream_scores.stream_curves(
            right, source, journal.mean, journal.sizes, self.course
        )
        if self.protocol.probes:
            n, last = len(plan.held_out), self._condition(plan.stream.segments[-1][0])
            scores += stream_scores.held_out_scores(journal.probes, last.name, n, journal.steps)
            curves += stream_scores.held_out_curves(journal.probes, self.course.stretches, n)
        after = {"answers-after"} if self.method.answers == "after" else set()
        return Outcome(
            scores=scores,
            curves=curves,
            extras=tuple(sorted(self.method.extras | after)),
            arrays=self.arrays(),
            cost=self.spent(),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every image's position, step, truth and answer."""
        rows = np.concatenate([rows for _, rows in self.chunks])
        step = np.concatenate([np.full(len(r), i) for i, (_, r) in enumerate(self.chunks)])
        return {
            "stream.row": rows,
            "stream.step": step.astype(np.int32),
            "stream.truth": self.plan.truth[rows].astype(np.int16),
            "stream.prediction": torch.cat(self.journal.prediction).numpy().astype(np.int16),
            "stream.confidence": torch.cat(self.journal.confidence).numpy().astype(np.float32),
        }
