"""Runs that an earlier driver has submitted: which there are, and whether they will do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import submitit

from dabench.config.settings import Settings
from dabench.errors import ConfigError
from dabench.sweep.executors.chunk import Sent, Ticket, read_events, read_tickets, task_of
from dabench.sweep.plan import Job


def earlier_runs(
    folder: Path, cluster: str, alive: Callable[[submitit.Job[None]], bool]
) -> dict[str, Sent]:
    """Return the runs, by key, that earlier drivers have submitted and that may still end."""
    found: dict[str, Sent] = {}
    for ticket in read_tickets(folder):
        events, _ = read_events(folder, ticket.name)
        left = ticket.runs.keys() - {key for key, kind, _ in events if kind == "ended"}
        if ticket.cancelled or not left:
            continue
        task = task_of(ticket, folder, cluster)
        if alive(task):
            found |= dict.fromkeys(left, Sent(ticket, task, {}))
    return found


def switches_of(settings: Settings) -> dict[str, Any]:
    """Return the options, by name, that decide what a run leaves and are no part of its spec."""
    return {
        "data-root": str(settings.data_root) if settings.data_root else None,
        "oracle-url": settings.oracle_url,
        "save-model": settings.save_model,
        "target-tuned": settings.target_tuned,
    }


def check_switches(job: Job, ticket: Ticket, settings: Settings) -> None:
    """Refuse to wait for a run that will leave something else than is asked for.

    Raises:
        ConfigError: names the run, its task and the options.
    """
    if ticket.switches is None:  # an earlier version did not say
        return
    asked = switches_of(settings)
    if other := [f"--{name}" for name in asked if asked[name] != ticket.switches.get(name)]:
        raise ConfigError(
            f"--executor slurm: {job.name} was submitted as job {ticket.job} with another "
            f"{' and '.join(other)}; give the same, wait until it is over ('dabench sweep "
            f"--status'), or cancel it: scancel {ticket.job}"
        )
