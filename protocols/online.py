"""What the online protocols share: one stream, one walk along it, one way to score."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from dabench.contract.access import Online, to_float
from dabench.contract.data import DomainData
from dabench.contract.method import OnlineMethod
from dabench.contract.protocol import BuildOnline, Outcome, Run, StreamPlan
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import IntArray, Kind, Task
from dabench.datasets import weather
from dabench.engine import walk
from dabench.engine.nets import Cost, Network
from dabench.engine.scoring import check_order
from dabench.engine.seeding import seed, seed_everything
from dabench.engine.walk import Journal
from dabench.errors import ConfigError
from dabench.protocols import stream_scores, streams
from dabench.protocols.offline import check_grant, select_rows
from dabench.protocols.stream_recorder import StreamRecorder
from dabench.protocols.stream_scores import Course, Stretch
from dabench.protocols.upper_bound import UpperBound

#: clear images that EATA's Fisher matrix is estimated on (source-like, without labels)
FISHER_IMAGES = 2000
#: images of a class from which every role has one
FEWEST = 5
#: steps between two points of the accuracy that is written while the stream is walked
LIVE = 10
log = logging.getLogger("dabench")


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
        if run.init != "source":
            raise ConfigError(
                "--init bn-target: an online protocol has no target set to estimate statistics on "
                "in advance; use --method bn-adapt"
            )
        walker = _Walker(self, build, plan, source, run)
        walker.go()
        return walker.outcome()


class _Walker:
    """One run: the stream's steps, the method of the hour, and the journal."""

    def __init__(
        self,
        protocol: OnlineProtocol,
        build: BuildOnline,
        plan: StreamPlan,
        source: Network,
        run: Run,
    ) -> None:
        self.protocol, self.build, self.plan, self.run = protocol, build, plan, run
        self.source = copy.deepcopy(source).to(run.device).eval()
        self.source.cost = Cost(paused=True)
        self.cost = Cost()
        self.recorder = StreamRecorder(run.recorder)
        self.journal = Journal()
        self.chunks: list[tuple[Segment, IntArray]] = []
        stretches: list[Stretch] = []
        size = plan.stream.batch_size
        for under, rows in plan.stream.segments:
            first = len(self.chunks)
            # of equal size: a small batch at a segment's end has poor statistics, and betrays it
            parts = np.array_split(rows, math.ceil(len(rows) / size))
            self.chunks += [(under, part) for part in parts]
            stretches.append(Stretch(under.name, first, len(self.chunks)))
        self.course = Course(tuple(stretches), size, protocol.fresh)
        resume = run.resume if run.resume is not None and run.resume.wanted else None
        if resume is None:
            self.recorder.begin(0)
        self.method = self.start(0)
        if resume is not None:
            found = walk.restore(resume, self.method, self.journal)
            log.info(
                "going on at step %d%s", self.journal.steps, "" if found else ": no checkpoint"
            )
            self.recorder.begin(self.journal.steps)

    def start(self, number: int) -> OnlineMethod:
        """Build a method and hand it a fresh copy of the source model."""
        method = self.build()
        check_grant(method, self.protocol.grant, self.protocol.grants)
        if self.protocol.also_after and method.answers == "after":
            raise ConfigError(
                f"--protocol.also_after: {type(method).__name__} answers after its update anyway"
            )
        network = copy.deepcopy(self.source)
        network.cost = self.cost
        extras = {}
        if "fisher-images" in method.extras:
            extras["fisher-images"] = self.fisher_images()
        task, size = self.plan.task, self.plan.stream.batch_size
        seed_everything(seed(self.run.seed, "adaptation", str(number)))
        method.begin(Online(task, network, size, self.run.seed, self.recorder, extras))
        return method.to(self.run.device)

    def fisher_images(self) -> Tensor:
        """Return clear source-training images without labels."""
        rows = np.arange(len(self.plan.source.labels))[:FISHER_IMAGES]
        return to_float(self.plan.source.images[rows]).to(self.run.device)

    def go(self) -> None:
        """Walk from where the journal stands to the end of the stream."""
        if self.protocol.probes and not self.journal.probes:
            self.probe(0, self.source_answers)
        done = self.journal.steps
        bar = tqdm(total=len(self.chunks), initial=done, disable=not self.run.progress)
        for number, stretch in enumerate(self.course.stretches, start=1):
            if stretch.last > self.journal.steps:
                if self.protocol.fresh and 0 < stretch.first == self.journal.steps:
                    self.journal.skipped += self.method.updates_skipped
                    self.method = self.start(number)
                self.along(stretch, bar)
            # a run that was killed between the last step and the probe has this still to do
            if self.protocol.probes and all(at != number for at, _, _ in self.journal.probes):
                self.probe(number, self.method_answers)
        bar.close()

    def along(self, stretch: Stretch, bar: tqdm[Any]) -> None:
        """Push one segment's remaining batches."""
        begin = self.journal.steps
        if begin == stretch.first:
            self.show(stretch)
        arrived = sum(len(rows) for _, rows in self.chunks[:begin])
        right = seen = 0
        for batch, logits in walk.walk(
            self.method, self.pictures(begin, stretch.last), self.journal, arrived
        ):
            with torch.no_grad():
                self.journal.source.append(self.source(batch.images).argmax(1).cpu())
                if self.protocol.also_after:
                    self.journal.later.append(
                        self.method.predict(batch.images).logits.argmax(1).cpu()
                    )
            self.journal.add(logits)
            truth = self.plan.truth[self.chunks[self.journal.steps - 1][1]]
            right += int((self.journal.prediction[-1].numpy() == truth).sum())
            seen += len(truth)
            bar.set_description(f"{stretch.name}: accuracy {right / seen:.3f}", refresh=False)
            bar.update()
            self.live(stretch)
            self.recorder.step = self.journal.steps
            self.checkpoint()

    def pictures(self, first: int, last: int) -> Iterator[Tensor]:
        """Render the batches of some steps, each when its turn has come."""
        for under, rows in self.chunks[first:last]:
            if isinstance(self.method, UpperBound):
                self.method.reveal(self.plan.truth[rows])
            yield to_float(streams.render(self.plan.images, rows, under))

    def show(self, stretch: Stretch) -> None:
        """Write a few held-out images as they look in a segment."""
        under, _ = self.chunks[stretch.first]
        sample = streams.render(self.plan.images, np.sort(self.plan.held_out)[:8], under)
        self.run.recorder.put(f"stream/{stretch.name}", stretch.first, torch.from_numpy(sample))

    def live(self, stretch: Stretch) -> None:
        """Write the last point of the curve ``running_accuracy`` every few steps."""
        last = self.journal.steps - 1
        if last % LIVE == 0:
            life = stretch.first if self.protocol.fresh else 0
            window = slice(max(life, last + 1 - self.course.window), last + 1)
            truth = [self.plan.truth[rows] for _, rows in self.chunks[window]]
            right = np.concatenate(stream_scores.hits(self.journal.prediction[window], truth))
            self.run.recorder.put("live/running_accuracy", last, float(right.mean()))

    def checkpoint(self) -> None:
        """Keep the state every few steps."""
        resume = self.run.resume
        if resume is not None and resume.every and self.journal.steps % resume.every == 0:
            walk.save(resume, self.method, self.journal)

    # -- held-out images ------------------------------------------------------------------------

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
        return Segment(under.name.partition("@")[0], under.domain, under.severity)

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
        rows = np.concatenate([rows for _, rows in self.chunks])
        step = np.concatenate([np.full(len(r), i) for i, (_, r) in enumerate(self.chunks)])
        after = {"answers-after"} if self.method.answers == "after" else set()
        return Outcome(
            scores=scores,
            curves=curves,
            extras=tuple(sorted(self.method.extras | after)),
            arrays={
                "stream.row": rows,
                "stream.step": step.astype(np.int32),
                "stream.truth": plan.truth[rows].astype(np.int16),
                "stream.prediction": torch.cat(journal.prediction).numpy().astype(np.int16),
                "stream.confidence": torch.cat(journal.confidence).numpy().astype(np.float32),
            },
            cost={
                "images_forward": float(self.cost.forward),
                "images_backward": float(self.cost.backward),
                "adapt_seconds": journal.seconds,
                "updates_skipped": float(journal.skipped + self.method.updates_skipped),
                "parameters": float(sum(p.numel() for p in self.method.parameters())),
            },
        )
