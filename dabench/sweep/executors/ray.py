"""Runs on a Ray cluster: a task each; records and source models travel through its object store."""

from __future__ import annotations

import contextlib
import logging
import platform
import re
import signal
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, NodeDiedError, ObjectLostError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import dabench
from dabench.config.settings import Settings
from dabench.contract.signals import postponed
from dabench.errors import ConfigError, StoreError, one_line
from dabench.store.store import Store
from dabench.sweep.executor import Ended, Stage
from dabench.sweep.executors.local import EXECUTE, elsewhere
from dabench.sweep.executors.node import Made, run_on_node
from dabench.sweep.executors.shelf import Shelf, keep_results
from dabench.sweep.plan import Job

#: how often a run is begun whose node is lost
_TRIES = 4
#: seconds: for a cluster to answer, for its nodes to, for runs to end, between looks at its size
_CONNECT, _PROBE, _GRACE, _LOOK = 5.0, 60.0, 10.0, 5.0


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
        ConfigError: no cluster there, a node of another version, no room for a run.
    """

    #: the first run with a source model brings it; each node has images of its own
    holds_back = frozenset({"source"})

    def __init__(self, settings: Settings, request: Request, function: str = EXECUTE) -> None:
        self._settings, self._request = elsewhere(settings), request
        self._function = function
        self._store, self._shelf = Store(self._settings.results), Shelf(self._settings.cache_dir)
        self._tasks: dict[Any, _Task] = {}
        self._put: dict[tuple[str, ...], Any] = {}
        self._begun: list[Stage | Ended] = []
        self._room, self._looked = 0, float("-inf")
        _connect(request.address)
        try:
            _check_versions()
            if self.slots == 0:
                gpus = f" and {request.gpus:g} GPUs" if request.gpus else ""
                raise ConfigError(
                    f"--executor ray: no node has {request.cpus} CPUs{gpus} for a run; lower "
                    "--cpus-per-run or --gpus-per-run, or add a node ('ray status' lists them)"
                )
        except BaseException:
            ray.shutdown()
            raise
        self._task = ray.remote(run_on_node).options(
            num_cpus=request.cpus, num_gpus=request.gpus, max_retries=0
        )

    @property
    def slots(self) -> int:
        """How many runs the nodes of the moment hold."""
        request = self._request
        if time.monotonic() - self._looked > _LOOK:
            self._looked, self._room = time.monotonic(), 0
            for node in _nodes():
                has = node["Resources"]
                room = has.get("CPU", 0.0) // request.cpus
                if request.gpus:
                    room = min(room, has.get("GPU", 0.0) // request.gpus)
                self._room += int(room)
        return min(self._room, request.at_once)

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
        self._put.clear()
        ray.shutdown()

    def _start(self, task: _Task) -> None:
        names = tuple(self._shelf.names(task.job))
        if names not in self._put:
            self._put[names] = ray.put(self._shelf.files(task.job))
        settings, spec = self._settings, task.job.spec
        self._tasks[self._task.remote(self._function, spec, settings, self._put[names])] = task

    def _end(self, ref: Any) -> list[Stage | Ended]:
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


def _connect(address: str) -> None:
    """Connect to a cluster.

    Raises:
        ConfigError: there is none, or it is of another Ray or Python.
    """
    if address != "auto":
        found = re.fullmatch(r"([\w.-]+):(\d{1,5})", address)
        if found is None:
            raise ConfigError(f"--address {one_line(address, 60)}: expected auto or HOST:PORT")
        try:
            socket.create_connection((found[1], int(found[2])), _CONNECT).close()
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"--address {address}: no Ray cluster answers there ({error}); 'ray start --head' "
                "starts one"
            ) from error
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ConfigError(
            f"--executor ray, --address {address}: {one_line(error, 400)}; 'ray start --head' "
            "starts a cluster here"
        ) from error
    finally:
        if main:  # Ray takes the signal for itself
            signal.signal(signal.SIGTERM, before)


def _nodes() -> list[dict[str, Any]]:
    """Return the nodes on which runs may be."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"] and node["Resources"].get("CPU")]


def _check_versions() -> None:
    """Compare dabench and Python of every node with the driver's.

    Raises:
        ConfigError: names each node that differs.
    """

    def probe() -> tuple[str, str]:  # a function of a function travels whole, to nodes without us
        import platform as there

        try:
            import dabench as package
        except ImportError:
            return there.python_version(), "none"
        return there.python_version(), package.__version__

    here = (platform.python_version(), dabench.__version__)
    wrong = []
    asked = {}
    for node in _nodes():
        one = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(probe).options(num_cpus=0, scheduling_strategy=one)
        asked[f"{node['NodeManagerHostname']} ({node['NodeName']})"] = task.remote()
    for name, ref in asked.items():
        try:
            found = ray.get(ref, timeout=_PROBE)
        except GetTimeoutError:
            wrong.append(f"{name} does not answer")
            continue
        if found[0].rpartition(".")[0] != here[0].rpartition(".")[0] or found[1] != here[1]:
            wrong.append(f"{name} has dabench {found[1]} and Python {found[0]}")
    if wrong:
        raise ConfigError(
            f"--executor ray: node {'; '.join(wrong)}; here are dabench {here[1]} and Python "
            f"{here[0]}; install the same there"
        )
