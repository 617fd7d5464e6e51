"""Runs on a Ray cluster: a task each; records and source models travel through its object store."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, RayError

from dabench.config.settings import Settings
from dabench.contract.signals import postponed
from dabench.errors import ConfigError, StoreError, one_line
from dabench.store.store import Store
from dabench.sweep.executor import Ended, Stage
from dabench.sweep.executors.handouts import Handouts
from dabench.sweep.executors.local import EXECUTE, elsewhere
from dabench.sweep.executors.node import Made, run_on_node
from dabench.sweep.executors.ray_cluster import check_versions, connect, room_for
from dabench.sweep.executors.shelf import Shelf, keep_results
from dabench.sweep.plan import Job
from dabench.sweep.resources import USUAL, Resources

#: how often a run is begun whose node is lost
_TRIES = 4
#: seconds: for runs to end, between looks at the cluster's size
_GRACE, _LOOK = 10.0, 5.0


@dataclass(frozen=True)
class Request:
    """What is asked of Ray.

    Attributes:
        address: ``auto`` (the cluster of this machine) or ``HOST:PORT``.
        cpus: of a run.
        gpus: of a run; 0.5 = two runs share one.
        at_once: runs at a time.
    """

    address: str = "auto"
    cpus: int = 1
    gpus: float = 0.0
    at_once: int = 1_024


@dataclass
class _Task:
    job: Job
    start: float
    tries: int = 1


class RayExecutor:
    """A task a run; a run whose node is lost begins again on another.

    Args:
        settings: folders and switches; results are the driver's, data and cache each node's.
        request: which cluster, what a run gets.
        function: as in ``LocalExecutor``.

    Raises:
        ConfigError: no cluster there, a node of another version.
    """

    #: the first run with a source model brings it; each node has images of its own
    holds_back = frozenset({"source"})

    def __init__(self, settings: Settings, request: Request, function: str = EXECUTE) -> None:
        self._settings, self._request = elsewhere(settings), request
        self._function = function
        self._store, self._shelf = Store(self._settings.results), Shelf(self._settings.cache_dir)
        self._tasks: dict[Any, _Task] = {}
        self._handouts = Handouts(self._shelf, ray.put)
        self._begun: list[Stage | Ended] = []
        self._rooms = {self._needs(USUAL): 0}
        self._looked = float("-inf")
        connect(request.address)
        try:
            check_versions()
        except BaseException:
            ray.shutdown()
            raise
        self._task = ray.remote(run_on_node)

    @property
    def slots(self) -> int:
        """How many runs the nodes of the moment hold."""
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            self._rooms = {needs: room_for(needs) for needs in self._rooms}
        return min(sum(self._rooms.values()), self._request.at_once)

    def check(self, jobs: Sequence[Job]) -> None:
        """Compare what methods ask for with the nodes.

        Raises:
            ConfigError: no node has room for a run.
        """
        self._handouts.expect(jobs)
        first = {self._needs(job.resources): job for job in reversed(jobs)}
        self._rooms = {needs: room_for(needs) for needs in first}
        for needs, room in self._rooms.items():
            if room:
                continue
            more = [f"{needs.gpus:g} GPUs"] if needs.gpus else []
            more += [f"{needs.memory / 1e9:g} GB"] if needs.memory else []
            name = first[needs].spec.method
            own = f" of '{name}'" if first[needs].resources != USUAL else ""
            raise ConfigError(
                f"--executor ray: no node has {' and '.join([f'{needs.cpus} CPUs', *more])} for a "
                f"run{own}; lower --cpus-per-run, --gpus-per-run or the grid's resources, or add a "
                "node ('ray status' lists them)"
            )

    def takes(self, job: Job) -> bool:
        """Return whether the nodes hold one more run of its kind; Ray queues what is beyond."""
        needs = self._needs(job.resources)
        own = sum(self._needs(task.job.resources) == needs for task in self._tasks.values())
        return own < self._rooms.get(needs, 0)

    def submit(self, job: Job) -> None:
        """Start the run's task."""
        self._start(_Task(job, time.monotonic()))
        self._begun.append(Stage(job, "start", ""))

    def wait(self, seconds: float) -> list[Stage | Ended]:
        """Return how tasks ended, their records written."""
        if self._begun:
            events, self._begun = self._begun, []
            return events
        if not self._tasks:  # no node is left: until there is one
            time.sleep(seconds)
            return []
        with postponed():  # Ray would make a Ctrl-C of a SIGTERM
            ready, _ = ray.wait(list(self._tasks), num_returns=1, timeout=min(seconds, 1.0))
        more, _ = ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
        return [event for ref in {*ready, *more} for event in self._end(ref)]

    def close(self) -> None:
        """Cancel what runs, with patience, and leave the cluster."""
        if not ray.is_initialized():
            return
        for force in (False, True):
            for ref in self._tasks:
                with contextlib.suppress(RayError, ValueError):
                    ray.cancel(ref, force=force)
            if self._tasks and not force:
                left = ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=_GRACE)[1]
                self._tasks = {ref: self._tasks[ref] for ref in left}
        self._tasks.clear()
        self._handouts.clear()
        ray.shutdown()

    def _needs(self, own: Resources) -> Resources:
        request = self._request
        gpus = request.gpus if own.gpus is None else own.gpus
        return Resources(own.cpus or request.cpus, gpus, own.memory)

    def _start(self, task: _Task) -> None:
        settings, spec = self._settings, task.job.spec
        needs = self._needs(task.job.resources)
        remote = self._task.options(
            num_cpus=needs.cpus, num_gpus=needs.gpus, memory=needs.memory, max_retries=0
        )
        files = self._handouts.of(task.job)
        self._tasks[remote.remote(self._function, spec, settings, files)] = task

    def _end(self, ref: Any) -> list[Stage | Ended]:
        job = self._tasks[ref].job
        events = self._settle(ref)
        if events:  # else it has begun again
            self._handouts.over(job)
        return events

    def _settle(self, ref: Any) -> list[Stage | Ended]:
        task = self._tasks.pop(ref)
        job, seconds = task.job, time.monotonic() - task.start
        try:
            made: Made = ray.get(ref)
            self._shelf.add(job, made.sources)
            keep_results(self._store, made)
        except (NodeDiedError, ObjectLostError) as error:
            if task.tries < _TRIES:
                self._start(replace(task, tries=task.tries + 1))
                return []
            text = f"its node was lost {_TRIES} times: {one_line(error, 300)}"
            return [Ended(job, seconds, error=text, bug=True, killed=True, traceback=text)]
        except RayError as error:  # its worker was killed, ran out of memory, a full object store
            text = f"{type(error).__name__}: {one_line(error, 600)}"
            return [Ended(job, seconds, error=text, bug=True, killed=True, traceback=str(error))]
        except StoreError as error:
            return [Ended(job, seconds, error=str(error), traceback=str(error))]
        end = Ended(job, seconds, **made.ended)
        # others may go on with its source model, now that it is here
        return [end] if end.error else [Stage(job, "run", str(end.run_id)), end]
