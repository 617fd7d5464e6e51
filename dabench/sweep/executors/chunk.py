"""A chunk of runs as one task of an array job, and the files by which task and driver know it.

In ``<results>/slurm/``: ``NAME.ticket.json`` is the driver's, with the job and its runs;
``NAME.events`` is the task's, a JSON line for everything that happens; ``logs/KEY`` is a run's
output.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dabench.config.settings import Settings
from dabench.contract.signals import end_of, terminable
from dabench.store.files import listed, write_bytes_atomically
from dabench.sweep.executor import Stage
from dabench.sweep.executors.local import LocalExecutor
from dabench.sweep.plan import Job
from dabench.sweep.resources import Resources

if TYPE_CHECKING:
    import submitit

Event = tuple[str, str, Any]


@dataclass(frozen=True)
class Request:
    """What is asked of Slurm.

    Attributes:
        chunk: runs a task.
        minutes: time limit of a task.
        cpus: of a task.
        partition: None = the cluster's default.
        gres: such as ``gpu:1``.
        at_once: tasks of an array at a time.
        memory: MB of a task; None = the cluster's default.
    """

    chunk: int = 1
    minutes: int = 60
    cpus: int = 1
    partition: str | None = None
    gres: str | None = None
    at_once: int = 256
    memory: int | None = None

    def with_resources(self, asked: Resources) -> Request:
        """Return what a task gets whose runs ask for something of their own."""
        gres = self.gres if asked.gpus is None else f"gpu:{asked.gpus:g}"
        return replace(
            self,
            cpus=asked.cpus or self.cpus,
            gres=None if asked.gpus == 0 else gres,
            memory=self.memory if asked.memory is None else -(-asked.memory // 10**6),
        )


@dataclass(frozen=True)
class Ticket:
    """What a driver keeps of a chunk that it has submitted.

    Attributes:
        name: of the chunk.
        job: the engine's number of it.
        runs: key -> name of each run.
        cancelled: by the driver, which was interrupted.
        switches: that decide what its runs leave; None in tickets of earlier versions.
    """

    name: str
    job: str
    runs: dict[str, str]
    cancelled: bool = False
    switches: dict[str, Any] | None = None

    def write(self, folder: Path) -> None:
        """Keep it for later drivers."""
        content = json.dumps(asdict(self), ensure_ascii=False).encode()
        write_bytes_atomically(folder / f"{self.name}.ticket.json", content)


@dataclass
class Sent:
    """A chunk that was submitted, with what is known of it."""

    ticket: Ticket
    task: submitit.Job[None]
    waiting: dict[str, Job]
    begun: dict[str, float] = field(default_factory=dict)
    run_ids: dict[str, str] = field(default_factory=dict)
    offset: int = 0
    gone: float | None = None


def slurm_folder(results: Path) -> Path:
    """Return where driver and tasks keep what they know of each other."""
    return results / "slurm"


def task_of(ticket: Ticket, folder: Path, cluster: str) -> submitit.Job[None]:
    """Return the task of a ticket, whoever has submitted it; ``cluster`` is submitit's name."""
    import submitit

    kind = submitit.SlurmJob if cluster == "slurm" else submitit.LocalJob
    return kind(folder, ticket.job)


def read_tickets(folder: Path) -> list[Ticket]:
    """Return the chunks of all drivers, the oldest first; names begin with the time."""
    found = [path.read_text(encoding="utf-8") for path in listed(folder, "*.ticket.json")]
    return [Ticket(**json.loads(text)) for text in found]


def read_events(folder: Path, name: str, offset: int = 0) -> tuple[list[Event], int]:
    """Return a chunk's whole lines (run's key, kind, value) from an offset on, and the next offset.

    Kinds are those of ``Stage``, and "ended" with the fields of ``Ended``. A line that a dying task
    left torn says nothing.
    """
    try:
        with (folder / f"{name}.events").open("rb") as file:
            file.seek(offset)
            content = file.read()
    except FileNotFoundError:  # not begun
        return [], offset
    whole = content[: content.rfind(b"\n") + 1]
    events: list[Event] = []
    for line in whole.splitlines():
        with contextlib.suppress(ValueError):
            key, kind, value = json.loads(line)
            events.append((key, kind, value))
    return events, offset + len(whole)


@contextlib.contextmanager
def _appended(path: Path) -> Iterator[BinaryIO]:
    """Open a file of lines for more of them, on a line of their own where its last one is torn."""
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        yield file


@dataclass
class Chunk:
    """Makes runs one after the other, each in a process of its own; the engine calls it on a node.

    Args:
        name: of its files.
        folder: that driver and nodes share.
        jobs: the runs.
        settings: folders (absolute) and switches, without the token of an oracle.
        function: as in ``LocalExecutor``.
        preload: as in ``LocalExecutor``.
    """

    name: str
    folder: Path
    jobs: tuple[Job, ...]
    settings: Settings
    function: str
    preload: Sequence[str]

    def __call__(self) -> None:
        """Make the runs that have not ended in an earlier life of this task."""
        events, _ = read_events(self.folder, self.name)
        over = {key for key, kind, _ in events if kind == "ended"}
        token = os.environ.get("DABENCH_ORACLE_TOKEN")
        settings = replace(self.settings, oracle_token=token)
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        self._executor = LocalExecutor(settings, 1, self.function, self.preload, logs)
        try:
            with terminable(), _appended(self.folder / f"{self.name}.events") as file:
                for job in self.jobs:
                    if job.key not in over:
                        for event in self._run(job):
                            file.write(f"{json.dumps(event)}\n".encode())
                            file.flush()
                            os.fsync(file.fileno())  # another node reads it
        except KeyboardInterrupt as stop:
            self._executor.close()  # a stream keeps a checkpoint
            sys.exit(end_of(stop)[1])
        finally:
            self._executor.close()

    def checkpoint(self) -> Any:
        """Return what goes on after a pre-emption or the time limit; runs keep what they have."""
        from submitit.helpers import DelayedSubmission

        self._executor.close()
        return DelayedSubmission(replace(self, settings=replace(self.settings, resume=True)))

    def _run(self, job: Job) -> Iterator[Event]:
        self._executor.submit(job)
        while True:
            for event in self._executor.wait(60.0):
                if isinstance(event, Stage):
                    yield job.key, event.name, event.identity
                    continue
                yield job.key, "ended", {k: v for k, v in vars(event).items() if k != "job"}
                return
