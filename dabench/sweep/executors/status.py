"""Where the runs of array jobs stand, from the shared folder and the queue alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import submitit

from dabench.sweep.executors.chunk import Ticket, read_events, read_tickets, slurm_folder, task_of


@dataclass(frozen=True)
class RunState:
    """A run that was submitted.

    Attributes:
        kind: queued, running, done or failed.
        name: as a person names the run.
        job: the engine's number of its task.
        log: its output, or that of its task where it never began; None while it is queued.
    """

    kind: str
    name: str
    job: str
    log: Path | None


def run_states(
    results: Path,
    cluster: str = "slurm",
    alive: Callable[[submitit.Job[None]], bool] = lambda task: not task.done(),
) -> list[RunState]:
    """Return the state of every run in the order of their submission; the last attempt counts.

    Args:
        results: the results folder.
        cluster: as in ``SlurmExecutor``.
        alive: as in ``SlurmExecutor``.
    """
    folder = slurm_folder(results)
    found: dict[str, RunState] = {}
    for ticket in read_tickets(folder):
        for key, state in _states(folder, ticket, cluster, alive).items():
            found.pop(key, None)
            found[key] = state
    return list(found.values())


def _states(
    folder: Path, ticket: Ticket, cluster: str, alive: Callable[[submitit.Job[None]], bool]
) -> dict[str, RunState]:
    events, _ = read_events(folder, ticket.name)
    begun = {key for key, _, _ in events}
    ended = {key: value for key, kind, value in events if kind == "ended"}
    found = {
        key: RunState(
            "failed" if value["error"] else "done",
            ticket.runs[key],
            ticket.job,
            folder / "logs" / key,
        )
        for key, value in ended.items()
    }
    left = ticket.runs.keys() - ended.keys()
    if ticket.cancelled or not left:
        return found
    task = task_of(ticket, folder, cluster)
    there = alive(task)
    for key in (key for key in ticket.runs if key in left):
        log = folder / "logs" / key if key in begun else None
        kind = ("running" if key in begun else "queued") if there else "failed"
        log = log or (None if there else task.paths.stderr)
        found[key] = RunState(kind, ticket.runs[key], ticket.job, log)
    return found
