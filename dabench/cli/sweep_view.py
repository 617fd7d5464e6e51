"""What a sweep shows: its plan, a live line, one for every run that is over, and the end."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from dabench.cli.output import EXIT_BUG, EXIT_USER, print_columns, say
from dabench.errors import one_line
from dabench.registry import primary_metric
from dabench.sweep.executor import Ended
from dabench.sweep.plan import Job, SweepPlan, seconds_of

if TYPE_CHECKING:
    from dabench.config.spec import RunSpec
    from dabench.sweep.grid import Grid
    from dabench.sweep.loop import Tally

_MINUTE, _HOUR = 60, 3600


def duration(seconds: float) -> str:
    """Return seconds as a person says them: ``8 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 1.5 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 1.5 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    hours, minutes = divmod(round(seconds / _MINUTE), 60)
    return f"{hours} h {minutes:02d} min"


def say_time(plan: SweepPlan, workers: int) -> None:
    """Print how long it may take, where earlier records tell."""
    seconds, unknown = seconds_of(plan.jobs, workers)
    if seconds is None:
        return
    many = "1 worker" if workers == 1 else f"{workers} workers"
    more = f", and {unknown} runs that nobody timed" if unknown else ""
    text = "loading and source training come on top"
    say(f"time: about {duration(seconds)} on {many}{more}; {text}")


def say_plan(grid: Grid, plan: SweepPlan, workers: int) -> None:
    """Print what a grid comes to, and what a reader may not expect."""
    for problem in plan.problems:
        say(f"warning: {problem}", error=True)
    notes = (note for spec in grid.specs if spec.tuned for note in spec.tuned.notes)
    for note in dict.fromkeys(notes):
        say(f"note: {note}", error=True)
    budget = f" (budget: {grid.budget})" if grid.budget else ""
    repeated = f"; {grid.repeated} listed again, counted once" if grid.repeated else ""
    head = f"{grid.name or 'grid'}{budget}: {len(grid.specs)} runs{repeated}"
    say(f"{head}; {plan.done} have a record, {len(plan.jobs)} to do")
    say_time(plan, workers)
    if plan.other_threads:
        say(
            f"note: {plan.other_threads} of them have a record that differs in --threads alone; "
            "give --threads to have equal runs whatever --workers is"
        )
    if plan.by_hand:
        say(
            f"note: {plan.by_hand} of the records were made with these options given by hand, and "
            "are not marked 'tuned'; --force runs them again with the mark"
        )


def list_jobs(plan: SweepPlan) -> None:
    """Print what is to do, and how long each may take."""
    print_columns(
        [
            [f"  {job.name}", "?" if job.seconds is None else f"~{duration(job.seconds)}"]
            for job in plan.jobs
        ]
    )
    if not plan.jobs:
        say("nothing to do")


def say_end(tally: Tally, given: Mapping[str, Any]) -> int:
    """Print what became of a sweep's runs; return the exit code.

    Args:
        tally: the runs.
        given: options of the command by name.
    """
    results = given.get("results")
    where = f" --results {shlex.quote(results)}" if results else ""
    say(
        f"{len(tally.done)} done, {len(tally.failed)} failed; "
        f"'dabench leaderboard{where}' has the table"
    )
    return say_failed(tally.failed, given)


def say_failed(failed: Sequence[Ended], given: Mapping[str, Any]) -> int:
    """Name the runs that failed, each with the command that repeats it; return the exit code.

    Args:
        failed: the runs.
        given: options of the command by name.
    """
    from dabench.config.command import run_command

    for end in failed:
        say(f"failed: {end.job.name}: {end.error}", error=True)
        say(f"  again: {run_command(end.job.spec)}{_also(given, end.job.spec)}", error=True)
    if failed:
        say("the same command tries them again", error=True)
    return max((EXIT_BUG if end.bug else EXIT_USER for end in failed), default=0)


def _also(given: Mapping[str, Any], spec: RunSpec) -> str:
    """Return those of a command's options that are no part of a spec and that its run needs."""
    url = ("oracle-url",) if spec.protocol_options.get("oracle") == "http" else ()
    named = {name: given.get(name) for name in ("results", "data-root", "cache-dir", *url)}
    words = [w for name, value in named.items() if value for w in (f"--{name}", str(value))]
    words += [f"--{name}" for name in ("save-model", "target-tuned") if given.get(name)]
    return f" {shlex.join(words)}" if words else ""


class ProgressView:
    """Watches a sweep.

    Args:
        jobs: all that are to do.
        slots: how many runs at a time.
        live: whether to keep a line on stderr up to date (never where it is no terminal).
    """

    def __init__(self, jobs: Sequence[Job], slots: int, *, live: bool) -> None:
        self._left = {job.key: job for job in jobs}
        self._since: dict[str, float] = {}
        self._spent: dict[tuple[str, ...], list[float]] = defaultdict(list)
        self._slots, self._done, self._failed = slots, 0, 0
        live = live and sys.stderr.isatty()
        # tqdm's own lock is a semaphore between processes, reported as leaked after a kill
        tqdm.set_lock(threading.RLock())
        self._line = tqdm(bar_format="{desc}", dynamic_ncols=True, leave=False, disable=not live)

    def started(self, job: Job) -> None:
        """Show a run among those that run."""
        self._since[job.key] = time.monotonic()
        self.tick()

    def ended(self, end: Ended) -> None:
        """Print a run's line."""
        del self._left[end.job.key]
        self._since.pop(end.job.key, None)  # one that failed in a queue never began
        if end.error:
            self._failed += 1
            text = f"failed  {end.job.name} · {end.error}"
        else:
            self._done += 1
            self._spent[_kind(end.job)].append(end.seconds)
            text = f"done    {end.job.name} · {_score(end)} · {duration(end.seconds)}"
            text += " (had a record)" if end.existed else ""
        tqdm.write(one_line(text))
        self.tick()

    def tick(self) -> None:
        """Bring the live line up to date."""
        now = time.monotonic()
        running = [
            f"{job.spec.method} {job.spec.protocol} seed {job.spec.seed} ({now - since:.0f} s)"
            for job, since in ((self._left[key], since) for key, since in self._since.items())
        ]
        seconds = self.seconds_left()
        left = "" if seconds is None else f" | about {duration(seconds)} left"
        counts = f"{self._done} done, {self._failed} failed, {len(self._left)} left{left}"
        self._line.set_description_str(one_line(f"{counts} | now: {', '.join(running) or '-'}"))

    def seconds_left(self) -> float | None:
        """Return a guess, from this sweep's runs before earlier records; None = no idea."""
        now, total = time.monotonic(), 0.0
        for key, job in self._left.items():
            guess = self._guess(job)
            if guess is None:
                return None
            total += max(0.0, guess - (now - self._since[key])) if key in self._since else guess
        return total / max(1, min(self._slots, len(self._left)))

    def close(self) -> None:
        """Take the live line away."""
        self._line.close()

    def _guess(self, job: Job) -> float | None:
        own = self._spent.get(_kind(job))
        if own:
            return sum(own) / len(own)
        if job.seconds is not None:
            return job.seconds
        every = [seconds for found in self._spent.values() for seconds in found]
        return sum(every) / len(every) if every else None


def _kind(job: Job) -> tuple[str, ...]:
    return job.spec.method, job.spec.protocol, job.spec.dataset


def _score(end: Ended) -> str:
    metric = primary_metric(end.job.spec.protocol, end.job.spec.dataset)
    return f"{metric} {'-' if end.value is None else format(end.value, '.4f')}"
