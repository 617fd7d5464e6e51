"""The contract of a file in ``protocols/``: it owns split, stream, grant, metric and validity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from dabench.contract.access import Budget, Oracle, Recorder, Unlabelled
from dabench.contract.data import DomainData, Labelled
from dabench.contract.method import OfflineMethod
from dabench.contract.stream import Stream
from dabench.contract.types import Init, IntArray, Score, Task

if TYPE_CHECKING:
    from dabench.engine.nets import Cost, Network

Build = Callable[[], OfflineMethod]


@dataclass(frozen=True)
class Plan:
    """Everything that is frozen before a method is built: views of the data and their truth.

    ``truth`` stays in the protocol's frame; per part (``adapt``, ``held-out``) it has (N,) int64
    labels over the task's classes, with K standing for "private".
    """

    task: Task
    source: Labelled
    source_val: Labelled | None
    parts: dict[str, Unlabelled]
    truth: dict[str, IntArray]
    stream: Stream


@dataclass
class Outcome:
    """What a run leaves behind.

    Attributes:
        scores: final numbers.
        curves: the same metrics per epoch (never used to choose).
        arrays: per-sample predictions by part, for the file beside the record.
        cost: images forwarded and backwarded, parameters, seconds of adaptation.
    """

    scores: list[Score]
    curves: list[Score] = field(default_factory=list)
    arrays: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)


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
class Run:
    """The circumstances of one run that are the same for every method."""

    init: Init
    budget: Budget
    seed: int
    device: str
    recorder: Recorder
    progress: bool


class ProtocolContract(Protocol):
    """Members of a protocol class; its options are keyword-only constructor arguments."""

    version: ClassVar[str]
    #: the metric that tables rank by
    primary: ClassVar[str]
    #: the grant it hands out
    grant: ClassVar[type]

    def is_valid(self, data: DomainData) -> str | None:
        """Return why these data cannot be used, or None."""
        ...

    def plan(self, data: DomainData, batch_size: int, seed: int) -> Plan:
        """Select classes and images and freeze the stream; depends on nothing else."""
        ...
