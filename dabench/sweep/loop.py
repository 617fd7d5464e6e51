"""The sweep itself: which run starts next, what becomes of each."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import dabench
from dabench import registry
from dabench.config.spec import changed_options
from dabench.errors import StoreError
from dabench.store.identity import versions_of
from dabench.store.reading import load_record
from dabench.store.records import Record
from dabench.store.store import Store
from dabench.sweep.executor import Ended, Executor, Stage
from dabench.sweep.plan import Job, Key

_TICK = 1.0


class ProgressCallback(Protocol):
    """Told what happens while a sweep runs, as by a progress display."""

    def started(self, job: Job) -> None:
        """A run began."""

    def ended(self, end: Ended) -> None:
        """A run is over."""

    def tick(self) -> None:
        """Some time went by."""


@dataclass
class Tally:
    """What became of the runs."""

    done: list[Ended] = field(default_factory=list)
    failed: list[Ended] = field(default_factory=list)


class _Gate:
    """Holds runs back that would do the same work twice at the same time.

    Before its parts are there, a run may fill the image cache and train the source model. Of runs
    that may share a source model, one at a time is in that phase, until it is known to be there; of
    runs with one data set and size, one at a time is loading, until images of that task are known
    to be in the cache.

    Args:
        kinds: of work, as ``Executor.holds_back`` names them; the others hold nobody back.
    """

    def __init__(self, kinds: Collection[str]) -> None:
        self._kinds = kinds
        self._cached: set[Key] = set()
        self._trained: set[Key] = set()
        self._loading: dict[str, Job] = {}
        self._training: dict[str, Job] = {}

    def lets(self, job: Job) -> bool:
        """Return whether the run may start now."""
        if (
            "source" in self._kinds
            and job.recipe_key not in self._trained
            and any(other.source_key == job.source_key for other in self._training.values())
        ):
            return False
        if "data" not in self._kinds:
            return True
        return job.data_key in self._cached or not any(
            other.data_key[:2] == job.data_key[:2] for other in self._loading.values()
        )

    def start(self, job: Job) -> None:
        """Take note of a run that begins."""
        self._loading[job.key] = self._training[job.key] = job

    def stage(self, stage: Stage) -> None:
        """Take note of where a run got to."""
        if stage.name not in ("data", "run"):
            return
        self._loading.pop(stage.job.key, None)
        self._cached.add(stage.job.data_key)
        if stage.name == "run":
            self._training.pop(stage.job.key, None)
            self._trained.add(stage.job.recipe_key)

    def end(self, job: Job) -> None:
        """Take note of a run that is over, wherever it got to."""
        self._loading.pop(job.key, None)
        self._training.pop(job.key, None)


def run_jobs(
    jobs: Sequence[Job], executor: Executor, store: Store, progress: ProgressCallback, tally: Tally
) -> None:
    """Make all runs; one that fails is put on record and does not stop the others.

    Args:
        jobs: in the order in which they start, as far as shared work allows.
        executor: who makes them; the caller closes it.
        store: where failed runs are put on record.
        progress: is called at each of these moments.
        tally: is filled as runs end, for a caller who is interrupted.

    Raises:
        ConfigError: a run asks for more than there is; none was started.
    """
    executor.check(jobs)
    waiting, running, gate = list(jobs), 0, _Gate(executor.holds_back)
    while waiting or running:
        while running < executor.slots:
            free = (job for job in waiting if gate.lets(job) and executor.takes(job))
            job = next(free, None)
            if job is None:
                break
            waiting.remove(job)
            gate.start(job)
            executor.submit(job)
            running += 1
        for event in executor.wait(_TICK):
            if isinstance(event, Stage):
                gate.stage(event)
                if event.name == "start":
                    progress.started(event.job)
                continue
            gate.end(event.job)
            running -= 1
            _settle(event, store)
            (tally.failed if event.error else tally.done).append(event)
            progress.ended(event)
        progress.tick()


def _settle(end: Ended, store: Store) -> None:
    """Put a failed run on record, with its last output; clear up after a good one.

    What the run itself has recorded stays, but for the traceback: the output is known here alone.
    A run that failed before its id was known is recorded under the job's key.
    """
    spec = end.job.spec
    stand_in = store.path(spec.protocol, spec.dataset, end.job.key)
    # the store may be the very thing that is broken: the sweep says so run by run, and goes on
    with contextlib.suppress(StoreError):
        if end.error is None:
            store.retire_failed(stand_in)
            return
        path = store.path(spec.protocol, spec.dataset, end.run_id or end.job.key)
        own = path.with_suffix(".failed.json")
        if end.killed or end.run_id is None or not own.is_file():
            store.write_failed(_record(end), end.traceback)
        elif end.traceback:
            store.write_failed(load_record(own), end.traceback)


def _record(end: Ended) -> Record:
    """Return what is known of a run that left no record of its own."""
    spec = end.job.spec
    record: dict[str, Any] = {
        "run_id": end.run_id or end.job.key,
        "spec": spec.to_dict(),
        "variant": changed_options(spec),
        "ids": {},
        "versions": {"dabench": dabench.__version__, **versions_of(spec)},
        "environment": {"device": spec.device, "threads": spec.threads},
        "cost": {"wall_seconds": end.seconds},
        "extras": [],
        "reconstruction": bool(registry.method(spec.method).reconstruction),
        "scores": [],
        "curves": [],
    }
    return record
