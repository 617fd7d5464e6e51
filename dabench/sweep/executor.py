"""Who does the runs: the interface that a sweep needs, small enough for a cluster's engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dabench.sweep.plan import Job


@dataclass(frozen=True)
class Stage:
    """A run got somewhere: it began ("start"), its data are loaded ("data"), its parts are there
    ("run").

    ``identity`` is empty, the data's digest, or the run's id.
    """

    job: Job
    name: str
    identity: str


@dataclass(frozen=True)
class Ended:
    """A run is over, one way or the other, and its process is gone.

    Attributes:
        job: the run.
        seconds: from its start, loading and source training included.
        run_id: None where it is not known, because the run failed before it was.
        existed: it had a record, which only its data and source model could tell.
        value: the primary metric, where there is one.
        error: what went wrong, in one line; None where nothing did.
        bug: the error is not one that a user can mend.
        killed: its process ended before it did.
        diverged: the method's own numbers were the error, as with too high a learning rate; the
            same run would end so again.
        traceback: for the record of a failed run.
    """

    job: Job
    seconds: float
    run_id: str | None = None
    existed: bool = False
    value: float | None = None
    error: str | None = None
    bug: bool = False
    killed: bool = False
    diverged: bool = False
    traceback: str = ""


class Executor(Protocol):
    """Makes runs somewhere, several at a time.

    Attributes:
        holds_back: what one run does for others, which therefore wait for it: "data" fill a cache
            of images that all runs see, "source" trains a source model.
    """

    holds_back: frozenset[str]

    @property
    def slots(self) -> int:
        """How many runs may be submitted and not over."""
        ...

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse runs that it can never make, before the first one starts.

        Raises:
            ConfigError: names the method that asks for more than there is.
        """
        ...

    def takes(self, job: Job) -> bool:
        """Return whether there is room now for what this run needs."""
        ...

    def submit(self, job: Job) -> None:
        """Start a run, or queue it; it shares nothing with the others but cache and store."""
        ...

    def wait(self, seconds: float) -> list[Stage | Ended]:
        """Return what happened, after ``seconds`` at the latest; every run ends once."""
        ...

    def close(self) -> None:
        """End what is under way and leave nothing behind; the second time without patience."""
        ...
