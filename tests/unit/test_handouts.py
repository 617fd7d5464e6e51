"""A cluster's object store holds a source model as long as runs that are left may need it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fake_runs import Silent

from dabench.config.spec import resolve
from dabench.store.store import Store
from dabench.sweep.executor import Ended, Stage
from dabench.sweep.executors.handouts import Handouts
from dabench.sweep.executors.node import Files
from dabench.sweep.executors.shelf import Shelf
from dabench.sweep.loop import Tally, run_jobs
from dabench.sweep.plan import Job

METHODS = ("source", "shot", "usd")


class Held:
    """What lies in the store."""

    def __init__(self, files: Files) -> None:
        self.files = files


class ObjectStore:
    """Counts the objects that somebody refers to."""

    def __init__(self) -> None:
        self.there: weakref.WeakSet[Held] = weakref.WeakSet()
        self.puts = 0

    def put(self, files: Files) -> Held:
        found = Held(files)
        self.there.add(found)
        self.puts += 1
        return found

    @property
    def models(self) -> int:
        return sum(bool(held.files) for held in self.there)


def job(method: str, seed: int, **more: Any) -> Job:
    given = {"method": method, "protocol": "sf-osda", "device": "cpu", "threads": 1, "seed": seed}
    (spec,) = resolve(given | {name.replace("_", "-"): value for name, value in more.items()})
    return Job(spec, f"{method}-{seed}")


def model_of(made: Job) -> Files:
    return {f"{made.spec.seed}/model.pt": b"weights"}


def handouts(folder: Path) -> tuple[Handouts, Shelf, ObjectStore]:
    shelf, objects = Shelf(folder / "cache"), ObjectStore()
    return Handouts(shelf, objects.put), shelf, objects


def test_a_model_goes_with_the_last_run_that_needs_it(tmp_path: Path) -> None:
    given, shelf, objects = handouts(tmp_path)
    first, second, third, other = (job(m, s) for m, s in (*((m, 0) for m in METHODS), ("shot", 1)))
    given.expect([first, second, third, other])
    assert given.of(first).files == {}
    shelf.add(first, model_of(first))
    given.over(first)
    assert given.of(second).files == given.of(third).files == model_of(first)
    assert (objects.models, objects.puts) == (1, 2)
    given.over(second)
    assert objects.models == 1
    running = given.of(third)  # what a task has been handed stays until it is over
    given.over(third)
    assert (objects.models, len(given)) == (1, 0)
    del running
    assert objects.models == 0
    assert given.of(other).files == {}


def test_a_run_that_begins_again_finds_its_model(tmp_path: Path) -> None:
    given, shelf, objects = handouts(tmp_path)
    only = job("shot", 0)
    shelf.add(only, model_of(only))
    given.expect([only])
    assert given.of(only).files == given.of(only).files == model_of(only)
    given.over(only)
    assert objects.models == 0
    assert given.of(only).files == model_of(only)  # nobody counted this one
    given.clear()
    assert len(objects.there) == 0


def test_files_that_grow_take_the_place_of_what_there_was(tmp_path: Path) -> None:
    """A run may bring parts that it trained beside the source model."""
    given, shelf, objects = handouts(tmp_path)
    runs = [job(method, 0) for method in METHODS]
    given.expect(runs)
    shelf.add(runs[0], model_of(runs[0]))
    given.of(runs[0])
    shelf.add(runs[0], {"0/parts.pt": b"parts"})
    assert len(given.of(runs[1]).files) == 2
    assert len(objects.there) == 1


def test_recipes_with_the_same_files_share_them(tmp_path: Path) -> None:
    given, shelf, objects = handouts(tmp_path)
    here, there = job("shot", 0), job("shot", 0, protocol="sf-uda")
    for run in (here, there):
        shelf.add(run, model_of(here))
    given.expect([here, there])
    assert given.of(here) is given.of(there)
    given.over(here)
    assert objects.models == 1
    given.over(there)
    assert objects.models == 0


class Instant:
    """Ends all runs that have begun at each look, and remembers how many models there were."""

    holds_back = frozenset({"source"})

    def __init__(self, folder: Path, slots: int) -> None:
        self.handouts, self.shelf, self.objects = handouts(folder)
        self.slots, self.most = slots, 0
        self.running: list[tuple[Job, Held]] = []

    def check(self, jobs: Sequence[Job]) -> None:
        self.handouts.expect(jobs)

    def takes(self, job: Job) -> bool:
        return True

    def submit(self, job: Job) -> None:
        self.running.append((job, self.handouts.of(job)))

    def wait(self, seconds: float) -> list[Stage | Ended]:
        self.most = max(self.most, self.objects.models)
        events: list[Stage | Ended] = []
        for made, _ in self.running:
            self.shelf.add(made, model_of(made))
            events += [Stage(made, "run", "id"), Ended(made, 1.0, "id")]
            self.handouts.over(made)
        self.running.clear()
        return events

    def close(self) -> None:
        """Nothing is under way."""


def test_a_sweep_holds_few_models_where_its_grid_goes_task_by_task(tmp_path: Path) -> None:
    most = {}
    base = [job(method, 0) for method in METHODS * 4]
    runs = [
        [
            replace(run, spec=replace(run.spec, seed=seed), key=f"{seed}-{number}")
            for seed in range(12)
        ]
        for number, run in enumerate(base)
    ]
    by_method = [run for row in runs for run in row]
    by_model = [run for column in zip(*runs, strict=True) for run in column]
    for name, jobs in (("method", by_method), ("model", by_model)):
        executor, tally = Instant(tmp_path / name, slots=3), Tally()
        run_jobs(jobs, executor, Store(tmp_path / "results"), Silent(), tally)
        assert (len(tally.done), len(executor.objects.there)) == (144, 0)
        most[name] = executor.most
    assert most["method"] == 12
    assert most["model"] <= 3
