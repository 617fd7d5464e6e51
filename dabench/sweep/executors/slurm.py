"""Runs on a Slurm cluster: array jobs of chunks, by submitit; results lie on the shared folder.

The driver only watches: when it is killed the jobs go on, and the next driver takes them over.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import submitit

from dabench.config.settings import Settings
from dabench.contract.signals import postponed
from dabench.errors import ConfigError, one_line
from dabench.sweep.executor import Ended, Stage
from dabench.sweep.executors.chunk import Chunk, Request, Sent, Ticket, read_events, slurm_folder
from dabench.sweep.executors.earlier import check_switches, earlier_runs, switches_of
from dabench.sweep.executors.local import EXECUTE, PRELOAD, elsewhere, last_output
from dabench.sweep.grid import MOST_RUNS
from dabench.sweep.plan import Job
from dabench.sweep.resources import Resources

#: tasks of one array job: Slurm's own usual limit is 1001
_ARRAY = 1_000
#: seconds between two looks at the shared folder, and at the queue
_POLL, _ASK = 1.0, 5.0
#: seconds that a shared folder may lag behind the end of a job
_LAG = 15.0


class SlurmExecutor:
    """Array jobs; of the runs that share a source model one goes before the others.

    Args:
        settings: folders and switches of every run; the results folder is shared by all nodes.
        request: what a task gets.
        function: as in ``LocalExecutor``.
        preload: as in ``LocalExecutor``.
        cluster: submitit's name of the engine.
        alive: whether a task may still be in the queue or run.
    """

    #: array jobs depend on each other instead
    holds_back: frozenset[str] = frozenset()
    slots = MOST_RUNS

    def __init__(
        self,
        settings: Settings,
        request: Request,
        function: str = EXECUTE,
        preload: Sequence[str] = PRELOAD,
        cluster: str = "slurm",
        alive: Callable[[submitit.Job[None]], bool] = lambda task: not task.done(),
    ) -> None:
        # a token is a secret, and tasks are files; nodes have it from the environment
        self._settings = replace(elsewhere(settings), oracle_token=None)
        self._request, self._cluster, self._alive = request, cluster, alive
        self._function, self._preload = function, tuple(preload)
        self._folder = slurm_folder(settings.results).absolute()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._queued: list[Job] = []
        self._sent: list[Sent] = []
        self._asked, self._number = 0.0, itertools.count()
        self._earlier = {} if settings.force else earlier_runs(self._folder, cluster, alive)

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse parts of a GPU, and to wait for a run that will leave something else.

        What a cluster has it says itself when jobs are submitted.

        Raises:
            ConfigError: names the method, or the run.
        """
        for job in jobs:
            if (earlier := self._earlier.get(job.key)) is not None:
                check_switches(job, earlier.ticket, self._settings)
            if (gpus := job.resources.gpus) is not None and gpus != int(gpus):
                raise ConfigError(
                    f"resources of '{job.spec.method}': {gpus:g} GPUs: Slurm gives whole ones"
                )

    def takes(self, job: Job) -> bool:
        """Return that there is room, in the queue."""
        return True

    def submit(self, job: Job) -> None:
        """Queue a run, or watch the one that an earlier driver has submitted."""
        earlier = self._earlier.get(job.key)
        if earlier is None:
            self._queued.append(job)
            return
        earlier.waiting[job.key] = job
        if earlier not in self._sent:
            self._sent.append(earlier)

    def wait(self, seconds: float) -> list[Stage | Ended]:
        """Submit what is queued, and return what the tasks have written since."""
        if self._queued:
            queued, self._queued = self._queued, []
            self._send(queued)
        else:
            time.sleep(min(seconds, _POLL))
        events: list[Stage | Ended] = []
        events += itertools.chain.from_iterable(map(self._listen, self._sent))
        if time.monotonic() - self._asked > min(_ASK, _LAG):
            self._asked = time.monotonic()
            for sent in self._sent:
                events += self._look_after(sent) if sent.waiting else []
        self._sent = [sent for sent in self._sent if sent.waiting]
        return events

    def close(self) -> None:
        """Cancel what has not ended."""
        jobs = {sent.task.job_id.partition("_")[0]: sent.task for sent in self._sent}
        for number, task in jobs.items():
            if task.job_id != number:  # all tasks of the array with one word
                task = type(task)(self._folder, number)
            task.cancel(check=False)
        for sent in self._sent:
            replace(sent.ticket, cancelled=True).write(self._folder)
        self._sent.clear()

    def _send(self, jobs: Sequence[Job]) -> None:
        """Submit runs: one for each source model first, then those that find it in the cache."""
        first = list({job.source_key: job for job in reversed(jobs)}.values())[::-1]
        keys = {job.key for job in first}
        rest = [job for job in jobs if job.key not in keys]
        numbers = self._submit(first, None)
        if rest:
            self._submit(rest, "afterany:" + ":".join(numbers))

    def _submit(self, jobs: Sequence[Job], dependency: str | None) -> list[str]:
        """Submit runs as arrays of chunks, and return the numbers of the array jobs.

        An array's tasks are alike: runs that ask for something of their own have one.
        """
        kinds: dict[Resources, list[Job]] = {}
        for job in jobs:
            kinds.setdefault(job.resources, []).append(job)
        numbers = []
        for asked, own in kinds.items():
            numbers += self._submit_alike(own, self._request.with_resources(asked), dependency)
        return numbers

    def _submit_alike(
        self, jobs: Sequence[Job], request: Request, dependency: str | None
    ) -> list[str]:
        try:
            engine = submitit.AutoExecutor(self._folder, cluster=self._cluster)
            engine.update_parameters(
                timeout_min=request.minutes,
                cpus_per_task=request.cpus,
                slurm_job_name="dabench",
                slurm_partition=request.partition,
                slurm_gres=request.gres,
                slurm_mem=None if request.memory is None else f"{request.memory}M",
                slurm_array_parallelism=request.at_once,
                slurm_dependency=dependency,
            )
            chunks = [
                tuple(jobs[i : i + request.chunk]) for i in range(0, len(jobs), request.chunk)
            ]
            numbers = []
            for i in range(0, len(chunks), _ARRAY):
                with postponed():  # between job and ticket nobody would know of it
                    tasks = self._submit_array(engine, chunks[i : i + _ARRAY])
                numbers.append(tasks[0].job_id.partition("_")[0])
        except (RuntimeError, OSError) as error:  # sbatch says no, or is not there
            raise ConfigError(f"--executor slurm: {one_line(error, 600)}") from error
        return numbers

    def _submit_array(
        self, engine: submitit.AutoExecutor, chunks: Sequence[tuple[Job, ...]]
    ) -> list[submitit.Job[None]]:
        more = (self._settings, self._function, self._preload)
        now = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
        names = [f"{now}-{next(self._number):05}" for _ in chunks]
        with engine.batch():
            tasks = [
                engine.submit(Chunk(name, self._folder, jobs, *more))
                for name, jobs in zip(names, chunks, strict=True)
            ]
        for name, jobs, task in zip(names, chunks, tasks, strict=True):
            runs = {job.key: job.name for job in jobs}
            ticket = Ticket(name, task.job_id, runs, switches=switches_of(self._settings))
            ticket.write(self._folder)
            self._sent.append(Sent(ticket, task, {job.key: job for job in jobs}))
        return tasks

    def _listen(self, sent: Sent) -> list[Stage | Ended]:
        found: list[Stage | Ended] = []
        lines, sent.offset = read_events(self._folder, sent.ticket.name, sent.offset)
        for key, kind, value in lines:
            job = sent.waiting.get(key)
            if job is None:  # it has a record, or another sweep waits for it
                continue
            if kind == "ended":
                del sent.waiting[key]
                found.append(Ended(job, **value))
                continue
            sent.begun.setdefault(key, time.monotonic())
            if kind == "run":
                sent.run_ids[key] = value
            found.append(Stage(job, kind, value))
        return found

    def _look_after(self, sent: Sent) -> list[Stage | Ended]:
        """Where a task is gone, its run has failed; those that had not begun are queued again."""
        if self._alive(sent.task):
            sent.gone = None
            return []
        sent.gone = sent.gone or time.monotonic()
        if time.monotonic() - sent.gone < _LAG:
            return []
        found = self._listen(sent)
        for key, job in list(sent.waiting.items()):
            if sent.offset and key not in sent.begun:
                self._queued.append(job)
                continue
            log = self._folder / "logs" / key if key in sent.begun else sent.task.paths.stderr
            number, state = sent.task.job_id, one_line(sent.task.state, 40)
            text = f"job {number} ended before the run did (state {state}); log: {log}"
            seconds = time.monotonic() - sent.begun.get(key, sent.gone)
            told = f"{text}\nlast output:\n{last_output(log)}"
            end = Ended(job, seconds, sent.run_ids.get(key), error=text, bug=True, killed=True)
            found.append(replace(end, traceback=told))
        sent.waiting.clear()
        return found
