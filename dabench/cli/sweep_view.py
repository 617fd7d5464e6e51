"""What a sweep shows while it runs: one live line, and one for every run that is over."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence

from tqdm import tqdm

from dabench.cli.output import print_columns, say
from dabench.errors import one_line
from dabench.registry import primary_metric
from dabench.sweep.executor import Ended
from dabench.sweep.plan import Job, SweepPlan, seconds_of

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
