"""The contract of a file in ``protocols/``: it owns split, stream, grant, metric and validity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

from dabench.contract.access import Budget, Oracle, Recorder, Unlabelled
from dabench.contract.cost import Cost
from dabench.contract.data import Frames, ImageArray, Labelled
from dabench.contract.method import OfflineMethod, OnlineMethod
from dabench.contract.network import Network
from dabench.contract.statistics import SourceStatistics
from dabench.contract.stream import Stream
from dabench.contract.types import Init, IntArray, Kind, Score, Task

Build = Callable[[], OfflineMethod]
BuildOnline = Callable[[], OnlineMethod]


@dataclass(frozen=True)
class Plan:
    """Everything that is frozen before a method is built: views of the data and their truth.

    ``truth`` stays in the protocol's frame; per part (``adapt``, ``held-out``) it has (N,) int64
    labels over the task's classes, with K standing for "private". ``private_classes`` tells these
    apart where a protocol scores it: per part (N,) int64 classes of the data set. ``more`` are
    plans of the same target from further sources.
    """

    task: Task
    source: Labelled
    source_val: Labelled | None
    parts: dict[str, Unlabelled]
    truth: dict[str, IntArray]
    stream: Stream
    private_classes: dict[str, IntArray] = field(default_factory=dict)
    more: tuple[Plan, ...] = ()


@dataclass(frozen=True)
class StreamPlan:
    """What an online protocol freezes before a method is built.

    Attributes:
        task: what a method may know.
        source: clear images with labels that the source model is trained on.
        source_val: as in ``Plan``.
        images: pictures of the target domain by position; clear, weather comes later.
        truth: (N,) int64 classes by the same positions; stays in the protocol's frame.
        stream: the segments in order, with positions.
        held_out: positions that the stream never shows.
        published: pictures by the same positions that were published corrupted, by kind and
            severity.
        clear: opens pictures for what a method is granted of a source without any of its own.
    """

    task: Task
    source: Labelled
    source_val: Labelled | None
    images: ImageArray
    truth: IntArray
    stream: Stream
    held_out: IntArray
    published: Mapping[tuple[str, int], ImageArray] = field(default_factory=dict)
    clear: Callable[[], Labelled] | None = None

    @property
    def clear_source(self) -> Labelled:
        """Clear images of the source that extras are made of: ``source``, or what ``clear`` opens.

        Raises:
            DataError, CacheError: they cannot be read.
        """
        if len(self.source.labels) or self.clear is None:
            return self.source
        return self.clear()


@dataclass(frozen=True)
class DensePlan:
    """What a protocol of online segmentation freezes before a method is built.

    Attributes:
        task: what a method may know.
        source: clear frames that the source model is trained on.
        source_val: clear source frames that it is not trained on.
        frames: the target domain by position; clear, weather comes later; its masks stay in the
            protocol's frame.
        stream: the segments in order, with positions.
        subsets: names of classes by name of a subset.
    """

    task: Task
    source: Frames
    source_val: Frames
    frames: Frames
    stream: Stream
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class Outcome:
    """What a run leaves behind.

    Attributes:
        scores: final numbers.
        curves: the same metrics per epoch (never used to choose), and in offline protocols the
            label-free scores ``im``, ``entropy``, ``entropy-classes`` and ``snd``.
        arrays: per-sample predictions by part, for the file beside the record.
        cost: images forwarded and backwarded, parameters, seconds of adaptation.
        extras: names of the extras that the method was granted; ``answers-after`` where it answers
            after its own update.
        network: the network behind the final answers, where there is one.
    """

    scores: list[Score]
    curves: list[Score] = field(default_factory=list)
    arrays: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    extras: tuple[str, ...] = ()
    network: nn.Module | None = None


@dataclass(frozen=True)
class Remote:
    """What a black-box protocol receives in place of a source network.

    Attributes:
        oracle: makes the interface to the source model; questions are counted in the given cost.
        new_network: builds a fresh target network whose head is drawn from a seed.
    """

    oracle: Callable[[Cost], Oracle]
    new_network: Callable[[int], Network]


@dataclass(frozen=True)
class Resume:
    """Where an online run keeps what a killed one goes on from.

    Attributes:
        path: the checkpoint file; written whole or not at all. Its journal lies beside it.
        identity: the run's id; a checkpoint of another run is refused.
        every: steps between two checkpoints; 0 = none.
        wanted: whether to go on from the file where there is one.
    """

    path: Path
    identity: str
    every: int
    wanted: bool

    @property
    def journal(self) -> Path:
        """What is known of every step so far; it only grows."""
        return self.path.with_suffix(".journal")

    @property
    def draft(self) -> Path:
        """Where the checkpoint file is written before it is renamed."""
        return self.path.with_suffix(".draft")

    def delete(self) -> None:
        """Forget the run."""
        for path in (self.path, self.journal, self.draft):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Run:
    """The circumstances of one run that are the same for every method.

    ``source_parts`` trains, or loads, what a method declares as its extra ``source-parts``, and
    ``source_statistics`` computes, or loads, what the extra of that name holds (a copy each time);
    ``report`` is the folder for a protocol's pictures (None = they are not kept). ``reference`` is
    the column's source model where the method is handed another one, its linear probe.
    ``prefetch`` batches of a stream are made ahead of the step.
    """

    init: Init
    budget: Budget
    seed: int
    device: str
    recorder: Recorder
    progress: bool
    resume: Resume | None = None
    source_parts: Callable[[OnlineMethod], nn.Module] | None = None
    source_statistics: Callable[[], SourceStatistics] | None = None
    report: Path | None = None
    reference: Any = None
    prefetch: int = 0


class ProtocolContract(Protocol):
    """Members of a protocol class; its options are keyword-only constructor arguments.

    What only some have is asked for by name: ``online`` (a stream), ``single`` (one image at a
    time), ``black_box`` (whose setting ``check`` looks at), ``several_sources`` (which it may
    ``load`` itself), ``usual_stream``, ``shorthands``, ``written_options`` and ``later_options`` of
    options, ``check_setting``, and ``default_dataset`` of a plug-in.
    """

    version: ClassVar[str]
    #: the metric that tables rank by
    primary: ClassVar[str]
    #: the kind of task that it poses
    kind: ClassVar[Kind]
    #: the grant it hands out
    grant: ClassVar[type]

    def is_valid(self, data: Any) -> str | None:
        """Return why these data cannot be used, or None."""
        ...

    def plan(self, data: Any, batch_size: int, seed: int) -> Plan | StreamPlan | DensePlan:
        """Select classes and images and freeze the stream; depends on nothing else."""
        ...

    def run(self, build: Callable[[], Any], plan: Any, source: Any, run: Run) -> Outcome:
        """Hand the grant to what ``build`` makes, adapt, and let the answers meet the truth.

        ``source`` is the source network, or a :class:`Remote` where it only answers.
        """
        ...
