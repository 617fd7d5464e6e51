"""One run along a stream: what protocols of online classification and segmentation share."""

from __future__ import annotations

import contextlib
import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from torch import Tensor
from tqdm import tqdm

from dabench.contract.access import Online, TargetBatch
from dabench.contract.cost import Cost, GrantedCost
from dabench.contract.floats import to_float
from dabench.contract.method import OnlineMethod
from dabench.contract.network import Network
from dabench.contract.protocol import BuildOnline, DensePlan, Outcome, Run, StreamPlan
from dabench.contract.seeding import seed, seed_everything, seeded
from dabench.contract.signals import postponed
from dabench.contract.types import IntArray, Kind
from dabench.engine.resume.checkpoints import Checkpoints
from dabench.engine.stream import Progress, StepMemory, run_stream, timed
from dabench.errors import AccessError, ConfigError
from dabench.protocols.common.granted import GrantedRecorder
from dabench.protocols.common.grants import check_grant
from dabench.protocols.offline.upper_bound import sees_labels
from dabench.protocols.streams.ahead import Ahead
from dabench.protocols.streams.extras import granted_extras
from dabench.protocols.streams.layout import SegmentSteps, StreamLayout, batches_of
from dabench.protocols.streams.pictures import StreamPictures
from dabench.protocols.streams.recorder import StreamRecorder
from dabench.registry.marks import TARGET_LABELS

#: steps between two points of what is written while the stream runs
LIVE_EVERY = 10
log = logging.getLogger("dabench")


class StreamProtocol(Protocol):
    """What the runner asks of its protocol."""

    kind: ClassVar[Kind]
    grant: ClassVar[type]
    grants: ClassVar[frozenset[str]]


LogT = TypeVar("LogT", bound=Progress)
ProtocolT = TypeVar("ProtocolT", bound=StreamProtocol)
PlanT = TypeVar("PlanT", StreamPlan, DensePlan)


def check_init(init: str) -> None:
    """Refuse an initialisation that would look at the stream in advance.

    Raises:
        ConfigError: ``--init bn-target``.
    """
    if init != "source":
        raise ConfigError(
            "--init bn-target: an online protocol has no target set to estimate statistics on "
            "in advance; use --method bn-adapt"
        )


class StreamRunner(ABC, Generic[ProtocolT, PlanT, LogT]):
    """One run: the stream's steps, the method of the present episode, and the log.

    A kind of task says what is kept of an answer (:meth:`record_answer`), and what becomes of it.
    """

    def __init__(
        self,
        protocol: ProtocolT,
        build: BuildOnline,
        plan: PlanT,
        source: Network,
        run: Run,
        stream_log: LogT,
    ) -> None:
        self.protocol, self.build, self.context, self.stream_log = protocol, build, run, stream_log
        self.plan: PlanT = plan
        self.start = source
        reference = source if run.reference is None else run.reference
        self.source = copy.deepcopy(reference).to(run.device).eval()
        self.source.cost = Cost(paused=True)
        self.cost, self.memory = Cost(), StepMemory(run.device)
        self.labelled, self.handed = False, set[str]()  # of any method so far: never taken back
        self.recorder = StreamRecorder(run.recorder)
        self.batches, segments = batches_of(plan.stream)
        self.layout = self.make_layout(segments)
        self.pictures = self.make_pictures()
        self.ahead = Ahead(self.pictures.of_step, len(self.batches), run.prefetch)
        self.checkpoints = Checkpoints(run.resume, self.cost, len(self.batches))
        if not self.checkpoints.wanted:
            self.recorder.begin(0)
        self.method = self.start_method(0)
        if self.checkpoints.wanted:
            found = self.checkpoints.restore(self.method, self.stream_log)
            told = "" if found else ": no checkpoint"
            log.info("going on at step %d%s", self.stream_log.steps, told)
            self.recorder.begin(self.stream_log.steps)

    # -- what a kind of task adds ---------------------------------------------------------------

    @abstractmethod
    def make_pictures(self) -> StreamPictures:
        """Return what makes the stream's pictures."""

    @abstractmethod
    def labels(self, rows: IntArray) -> np.ndarray:
        """Return the truth of some positions, for the row that is allowed to see it."""

    @abstractmethod
    def make_layout(self, segments: tuple[SegmentSteps, ...]) -> StreamLayout:
        """Say where fresh methods begin, and how wide windows are."""

    @abstractmethod
    def record_answer(self, batch: TargetBatch, logits: Tensor) -> None:
        """Keep what an answer says, and count the step."""

    @abstractmethod
    def progress_text(self, segment: SegmentSteps) -> str:
        """Return how the segment goes, for the progress line."""

    @abstractmethod
    def write_live_point(self, segment: SegmentSteps, step: int) -> None:
        """Write the last point of a curve."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """Let the answers meet the truth."""

    def check_method(self, method: OnlineMethod) -> None:
        """Refuse a method that does not fit the protocol's options."""

    def before_stream(self) -> None:
        """Do what precedes the first step."""

    def show_segment(self, segment: SegmentSteps) -> None:
        """Write pictures of a segment that begins."""

    def before_step(self, batch: TargetBatch) -> None:
        """Do what precedes the method's step on a batch."""

    def after_segment(self, number: int) -> None:
        """Do what follows a segment; called again where a killed run may have missed it."""

    # -- the method -----------------------------------------------------------------------------

    def start_method(self, number: int) -> OnlineMethod:
        """Build a method and hand it a fresh copy of the source model."""
        with seeded(own := seed(self.context.seed, "adaptation", str(number))):
            method = self.build()
        self.labelled |= sees_labels(method)
        check_grant(method, self.protocol.grant, self.protocol.grants)
        if self.protocol.kind not in method.kinds:
            raise AccessError(
                f"{type(method).__name__} serves {' and '.join(sorted(method.kinds))}, this is "
                f"{self.protocol.kind}; see 'dabench list' for the protocols that it serves"
            )
        self.check_method(method)
        network = copy.deepcopy(self.start).to(self.context.device).eval()
        network.cost = GrantedCost(self.cost)
        self.handed.update(extras := granted_extras(method, self.plan, self.context))
        seed_everything(own)
        known = (copy.copy(self.plan.task), network, self.most_images, self.context.seed)
        with timed(self.stream_log, self.context.device):
            method.begin(Online(*known, GrantedRecorder(self.recorder), extras))
        return method.to(self.context.device)

    # -- the stream loop -------------------------------------------------------------------------

    def run(self) -> None:
        """Go on from where the log stands to the end of the stream."""
        self.before_stream()
        begins = {episode.start for episode in self.layout.episodes} - {0}
        hidden = not self.context.progress or None  # None = shown on a terminal alone
        self.memory.start()
        shown = tqdm(total=len(self.batches), initial=self.stream_log.steps, disable=hidden)
        with contextlib.closing(self.ahead), shown as bar:
            for number, segment in enumerate(self.layout.segments, start=1):
                if segment.last > self.stream_log.steps:
                    if segment.first in begins and segment.first == self.stream_log.steps:
                        self.stream_log.skipped += self.method.updates_skipped
                        self.method = self.start_method(number)
                    self.run_segment(segment, bar)
                with self.checkpoints.last(self.method, self.stream_log):
                    self.after_segment(number)

    def run_segment(self, segment: SegmentSteps, bar: tqdm[Any]) -> None:
        """Push one segment's remaining batches."""
        if (begin := self.stream_log.steps) == segment.first:
            self.show_segment(segment)
        steps = run_stream(
            self.method,
            self.render_batches(begin, segment.last),
            self.stream_log,
            sum(len(rows) for _, rows in self.batches[:begin]),
            num_classes=self.plan.task.num_classes,
            dense=self.protocol.kind == "segmentation",
            before_step=self.before_step,
            answer=self.answer,
        )
        with postponed() as let_interrupt:  # in mid-step method and log do not fit each other
            for batch, logits in steps:
                self.record_answer(batch, logits)
                bar.set_description(f"{segment.name}: {self.progress_text(segment)}", refresh=False)
                bar.update()
                if (last := self.stream_log.steps - 1) % LIVE_EVERY == 0:
                    self.write_live_point(segment, last)
                self.recorder.step = self.stream_log.steps
                self.checkpoints.after_step(self.method, self.stream_log)
                with self.checkpoints.last(self.method, self.stream_log):
                    let_interrupt()

    def render_batches(self, first: int, last: int) -> Iterator[Tensor]:
        """Render the batches of some steps, as many ahead of their turn as the run says."""
        for step in range(first, last):
            images = to_float(self.ahead.get(step), self.context.device)
            if self.labelled and sees_labels(self.method):
                self.method.reveal(self.labels(self.batches[step][1]))
            yield images

    def answer(self, method: OnlineMethod, batch: TargetBatch) -> Tensor:
        """Ask the method for the logits of the present step's batch."""
        return method.step(batch)

    @property
    def most_images(self) -> int:
        """Images that a method is handed in a step, at most."""
        return self.plan.stream.batch_size

    @property
    def extras(self) -> frozenset[str]:
        """What the method was handed beyond the grant, by name."""
        return self.method.extras | self.handed | ({TARGET_LABELS} if self.labelled else set())

    def costs(self) -> dict[str, float]:
        """Return what the run cost."""
        return self.memory.cost() | {
            "images_forward": float(self.cost.forward),
            "images_backward": float(self.cost.backward),
            "adapt_seconds": self.stream_log.seconds,
            "updates_skipped": float(self.stream_log.skipped + self.method.updates_skipped),
            "parameters": float(sum(p.numel() for p in self.method.parameters())),
        }
