"""Runs on this machine: a process each, forked from one that has done the slow imports."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from dabench.config.hardware import available_cores, available_gpus, total_memory
from dabench.config.settings import Settings
from dabench.errors import ConfigError
from dabench.store.scratch import scratch_folder
from dabench.sweep.executor import Ended, Stage
from dabench.sweep.executors.worker import run_in_worker
from dabench.sweep.plan import Job
from dabench.sweep.resources import USUAL, Resources, lacking

EXECUTE = "dabench.engine.run:execute"
#: what a process would import itself for five seconds
PRELOAD = (
    "torch",
    "torchvision",
    "lightning",
    "dabench.engine.run",
    "dabench.sweep.executors.worker",
)
#: seconds that a process may take to go when its run is over
_LINGER = 30.0
#: seconds in which a process may keep a checkpoint when the sweep ends early; schedulers that send
#: SIGTERM wait for about thirty themselves
_GRACE = 20.0
_TAIL = 4000


@dataclass
class _Child:
    """A process with what it has said so far."""

    job: Job
    process: ForkServerProcess
    pipe: Connection
    log: Path
    start: float = field(default_factory=time.monotonic)
    run_id: str | None = None
    ended: dict[str, Any] | None = None
    deadline: float | None = None


class LocalExecutor:
    """Several processes at a time; a crash stays in its process.

    Args:
        settings: folders and switches of every run.
        workers: how many.
        function: ``module:name`` of what makes a run.
        preload: modules that the processes find imported.
        logs: folder where the runs' output stays; None = it goes when a run is over.
    """

    holds_back = frozenset({"data", "source"})

    def __init__(
        self,
        settings: Settings,
        workers: int,
        function: str = EXECUTE,
        preload: Sequence[str] = PRELOAD,
        logs: Path | None = None,
    ) -> None:
        self._settings = elsewhere(settings)
        self._workers, self._function = workers, function
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._scratch = None if logs else scratch_folder("sweep")
        self._logs = logs or Path(self._scratch.name if self._scratch else "")
        self._children: list[_Child] = []
        self._begun: list[Stage | Ended] = []
        self._closing = False
        self._machine = USUAL
        _start_server()

    @property
    def slots(self) -> int:
        """How many runs may be under way."""
        return self._workers

    def check(self, jobs: Sequence[Job]) -> None:
        """Compare what methods ask for with this machine.

        Raises:
            ConfigError: names a method that asks for more.
        """
        gpus = any(job.resources.gpus for job in jobs)  # to count them takes an import of seconds
        self._machine = Resources(
            available_cores(), available_gpus() if gpus else 0, total_memory()
        )
        for job in {job.resources: job for job in jobs}.values():
            if more := lacking([job.resources], self._machine):
                raise ConfigError(
                    f"resources of '{job.spec.method}': a run asks for {', '.join(more)} that this "
                    "machine has; lower them in the grid, or give another --executor"
                )

    def takes(self, job: Job) -> bool:
        """Return whether what the runs under way have asked for leaves enough."""
        asked = [job.resources, *(child.job.resources for child in self._children)]
        return not lacking(asked, self._machine)

    def submit(self, job: Job) -> None:
        """Start the run's process."""
        log = self._logs / job.key
        ours, theirs = self._context.Pipe(duplex=False)
        # not a daemon: a run may have children of its own, such as a sealed source model
        process = self._context.Process(
            target=run_in_worker, args=(self._function, job.spec, self._settings, theirs, log)
        )
        # the child's end may be open in the child only, or its death would go unnoticed
        with theirs:
            process.start()
        self._children.append(_Child(job, process, ours, log))
        self._begun.append(Stage(job, "start", ""))

    def wait(self, seconds: float) -> list[Stage | Ended]:
        """Return what the processes said, and which of them are gone."""
        if self._begun:
            events, self._begun = self._begun, []
            return events
        talking: list[Any] = [c.pipe for c in self._children if not c.pipe.closed]
        wait([*talking, *(c.process.sentinel for c in self._children)], seconds)
        events = []
        for child in list(self._children):
            gone = (
                not child.process.is_alive()
            )  # before its last messages are read, or some are lost
            events.extend(_listen(child))
            if not gone and child.deadline is not None and time.monotonic() > child.deadline:
                child.process.kill()
                child.process.join()
                gone = True
            if gone:
                events.append(self._bury(child))
        return events

    def close(self) -> None:
        """Ask every process to end, and kill those that do not: files are whole or not there."""
        deadline = time.monotonic() + (0.0 if self._closing else _GRACE)
        self._closing = True
        alive = [child.process for child in self._children]
        while time.monotonic() < deadline and (alive := [p for p in alive if p.is_alive()]):
            for process in alive:
                process.terminate()  # again and again: in its first moments it is deaf
            wait([process.sentinel for process in alive], 0.5)
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.process.join()
            child.pipe.close()
            child.process.close()
        self._children.clear()
        if self._scratch:
            self._scratch.cleanup()

    def _bury(self, child: _Child) -> Ended:
        self._children.remove(child)
        code = child.process.exitcode
        child.pipe.close()
        child.process.close()
        text = _death(code)
        found = child.ended or {"error": text, "bug": True, "killed": True, "traceback": text}
        tail = last_output(child.log)
        if found.get("error") and tail:
            found = {**found, "traceback": f"{found['traceback']}\nlast output:\n{tail}"}
        if self._scratch:
            child.log.unlink(missing_ok=True)
        seconds = time.monotonic() - child.start
        return Ended(child.job, seconds, **{"run_id": child.run_id, **found})


def elsewhere(settings: Settings) -> Settings:
    """Return the settings of a run in another process, which may find itself in another folder."""
    root = settings.data_root
    return replace(
        settings,
        results=settings.results.absolute(),
        data_root=root.absolute() if root else None,
        cache_dir=settings.cache_dir.absolute(),
        progress=False,
    )


def _listen(child: _Child) -> Iterator[Stage]:
    """Read all that a child has sent."""
    try:
        while not child.pipe.closed and child.pipe.poll():
            kind, value = child.pipe.recv()
            if kind == "ended":
                child.ended, child.deadline = value, time.monotonic() + _LINGER
                continue
            child.run_id = value if kind == "run" else child.run_id
            yield Stage(child.job, kind, value)
    except (EOFError, OSError):  # it closed its end, or was killed in the middle of a message
        child.pipe.close()


def _death(code: int | None) -> str:
    code = -signal.SIGTERM if code == 128 + signal.SIGTERM else code
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = " (by the system, perhaps, when memory ran out)" if name == "SIGKILL" else ""
        return f"the process of the run was killed by {name}{hint}"
    return f"the process of the run ended with exit code {code} before the run did"


def last_output(log: Path) -> str:
    """Return the end of a run's output, or nothing where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""


def _start_server() -> None:
    """Start the process that the others are forked from, deaf from its first moment.

    Ctrl-C and SIGTERM reach the whole group; without this process nobody could wait for the others.
    So does a scheduler's SIGUSR2, before it takes the machine away, which would end the runs, too.
    """
    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    deaf = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
    before = [signal.signal(number, signal.SIG_IGN) for number in deaf]
    try:
        forkserver.ensure_running()
    finally:
        for number, handler in zip(deaf, before, strict=True):
            signal.signal(number, handler)
