"""One walk along a stream: what protocols of online classification and segmentation share."""

from __future__ import annotations

import copy
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from torch import Tensor
from tqdm import tqdm

from dabench.contract.access import Online, TargetBatch, to_float
from dabench.contract.cost import Cost
from dabench.contract.data import ImageArray
from dabench.contract.method import OnlineMethod
from dabench.contract.network import Network
from dabench.contract.protocol import BuildOnline, DensePlan, Outcome, Run, StreamPlan
from dabench.contract.seeding import seed, seed_everything
from dabench.contract.stream import Segment
from dabench.contract.types import IntArray, Kind
from dabench.engine import stream as walk
from dabench.errors import AccessError, ConfigError
from dabench.protocols.offline.protocol import check_grant
from dabench.protocols.streams import pictures as streams
from dabench.protocols.streams.recorder import StreamRecorder
from dabench.protocols.streams.scores import Course, Stretch

#: clear images that EATA's Fisher matrix is estimated on (source-like, without labels)
FISHER_IMAGES = 2000
#: steps between two points of what is written while the stream is walked
LIVE = 10
log = logging.getLogger("dabench")


class Granting(Protocol):
    """What a walk asks of its protocol."""

    kind: ClassVar[Kind]
    grant: ClassVar[type]
    grants: ClassVar[frozenset[str]]


J = TypeVar("J", bound=walk.Progress)
P = TypeVar("P", bound=Granting)
Plans = TypeVar("Plans", StreamPlan, DensePlan)


def check_init(run: Run) -> None:
    """Refuse an initialisation that would look at the stream in advance.

    Raises:
        ConfigError: ``--init bn-target``.
    """
    if run.init != "source":
        raise ConfigError(
            "--init bn-target: an online protocol has no target set to estimate statistics on "
            "in advance; use --method bn-adapt"
        )


class Walker(ABC, Generic[P, Plans, J]):
    """One run: the stream's steps, the method of the hour, and the journal.

    A kind of task says what is kept of an answer (:meth:`note`), and what becomes of it.
    """

    def __init__(
        self,
        protocol: P,
        build: BuildOnline,
        plan: Plans,
        source: Network,
        run: Run,
        journal: J,
    ) -> None:
        self.protocol, self.build, self.run, self.journal = protocol, build, run, journal
        self.plan: Plans = plan
        self.source = copy.deepcopy(source).to(run.device).eval()
        self.source.cost = Cost(paused=True)
        self.cost = Cost()
        self.recorder = StreamRecorder(run.recorder)
        self.chunks: list[tuple[Segment, IntArray]] = []
        stretches: list[Stretch] = []
        for under, rows in plan.stream.segments:
            first = len(self.chunks)
            # of equal size: a small batch at a segment's end has poor statistics, and betrays it
            parts = np.array_split(rows, math.ceil(len(rows) / plan.stream.batch_size))
            self.chunks += [(under, part) for part in parts]
            stretches.append(Stretch(under.name, first, len(self.chunks)))
        self.course = self.make_course(tuple(stretches))
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

    # -- what a kind of task adds ---------------------------------------------------------------

    @property
    @abstractmethod
    def images(self) -> ImageArray:
        """The target domain's clear pictures by position."""

    @property
    def draw(self) -> int:
        """What draws the weather beside position, kind and severity: the same for all seeds."""
        return 0

    @abstractmethod
    def make_course(self, stretches: tuple[Stretch, ...]) -> Course:
        """Say where fresh methods begin, and how wide windows are."""

    @abstractmethod
    def note(self, batch: TargetBatch, logits: Tensor) -> None:
        """Keep what an answer says, and count the step."""

    @abstractmethod
    def status(self, stretch: Stretch) -> str:
        """Return how the segment goes, for the progress line."""

    @abstractmethod
    def live(self, stretch: Stretch, step: int) -> None:
        """Write the last point of a curve."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """Let the answers meet the truth."""

    def check(self, method: OnlineMethod) -> None:
        """Refuse a method that does not fit the protocol's options."""

    def before(self) -> None:
        """Do what precedes the first step."""

    def show(self, stretch: Stretch) -> None:
        """Write pictures of a segment that begins."""

    def approach(self, rows: IntArray) -> None:
        """Do what precedes the rendering of a batch."""

    def prepare(self, batch: TargetBatch) -> None:
        """Do what precedes the method's step on a batch."""

    def after(self, number: int) -> None:
        """Do what follows a segment; called again where a killed run may have missed it."""

    # -- the method -----------------------------------------------------------------------------

    def start(self, number: int) -> OnlineMethod:
        """Build a method and hand it a fresh copy of the source model."""
        method = self.build()
        check_grant(method, self.protocol.grant, self.protocol.grants)
        if self.protocol.kind not in method.kinds:
            raise AccessError(
                f"{type(method).__name__} serves {' and '.join(sorted(method.kinds))}, this is "
                f"{self.protocol.kind}; see 'dabench list' for the protocols that it serves"
            )
        self.check(method)
        network = copy.deepcopy(self.source)
        network.cost = self.cost
        extras = self.extras(method)
        task, size = self.plan.task, self.plan.stream.batch_size
        seed_everything(seed(self.run.seed, "adaptation", str(number)))
        method.begin(Online(task, network, size, self.run.seed, self.recorder, extras))
        return method.to(self.run.device)

    def extras(self, method: OnlineMethod) -> dict[str, Any]:
        """Return what a method declared beyond the grant, by name."""
        extras: dict[str, Any] = {}
        if "fisher-images" in method.extras:
            rows = np.arange(len(self.plan.source.images))[:FISHER_IMAGES]
            extras["fisher-images"] = to_float(self.plan.source.images[rows]).to(self.run.device)
        if "source-parts" in method.extras:
            if self.run.source_parts is None:
                raise AccessError(
                    f"{type(method).__name__} asks for source-parts, and nothing trains them here; "
                    "start it with 'dabench run'"
                )
            # a copy: every fresh method begins with the parts as they were trained
            parts = copy.deepcopy(self.run.source_parts(method))
            extras["source-parts"] = parts.to(self.run.device)
        return extras

    # -- the walk -------------------------------------------------------------------------------

    def go(self) -> None:
        """Walk from where the journal stands to the end of the stream."""
        self.before()
        begins = {life.start for life in self.course.lives} - {0}
        done = self.journal.steps
        bar = tqdm(total=len(self.chunks), initial=done, disable=not self.run.progress)
        for number, stretch in enumerate(self.course.stretches, start=1):
            if stretch.last > self.journal.steps:
                if stretch.first in begins and stretch.first == self.journal.steps:
                    self.journal.skipped += self.method.updates_skipped
                    self.method = self.start(number)
                self.along(stretch, bar)
            self.after(number)
        bar.close()

    def along(self, stretch: Stretch, bar: tqdm[Any]) -> None:
        """Push one segment's remaining batches."""
        begin = self.journal.steps
        if begin == stretch.first:
            self.show(stretch)
        arrived = sum(len(rows) for _, rows in self.chunks[:begin])
        for batch, logits in walk.walk(
            self.method,
            self.pictures(begin, stretch.last),
            self.journal,
            arrived,
            dense=self.protocol.kind == "segmentation",
            prepare=self.prepare,
        ):
            self.note(batch, logits)
            bar.set_description(f"{stretch.name}: {self.status(stretch)}", refresh=False)
            bar.update()
            last = self.journal.steps - 1
            if last % LIVE == 0:
                self.live(stretch, last)
            self.recorder.step = self.journal.steps
            self.checkpoint()

    def pictures(self, first: int, last: int) -> Iterator[Tensor]:
        """Render the batches of some steps, each when its turn has come."""
        for under, rows in self.chunks[first:last]:
            self.approach(rows)
            yield to_float(streams.render(self.images, rows, under, self.draw))

    def checkpoint(self) -> None:
        """Keep the state every few steps."""
        resume = self.run.resume
        if resume is not None and resume.every and self.journal.steps % resume.every == 0:
            walk.save(resume, self.method, self.journal)

    def spent(self) -> dict[str, float]:
        """Return what the run cost."""
        return {
            "images_forward": float(self.cost.forward),
            "images_backward": float(self.cost.backward),
            "adapt_seconds": self.journal.seconds,
            "updates_skipped": float(self.journal.skipped + self.method.updates_skipped),
            "parameters": float(sum(p.numel() for p in self.method.parameters())),
        }
