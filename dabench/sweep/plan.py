"""What of a grid is to do: runs without a record, and how long earlier ones took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from dabench import registry
from dabench.config.command import changed_protocol_options
from dabench.config.options import row_label
from dabench.config.spec import OPTIONAL_FIELDS, RunSpec, changed_options
from dabench.errors import ConfigError
from dabench.store.arrays import file_beside
from dabench.store.files import kept_models
from dabench.store.identity import job_key, known_before, versions_of
from dabench.store.records import Record
from dabench.store.store import Store
from dabench.sweep.resources import USUAL, Resources

Key = tuple[Any, ...]
_SOURCE = (
    *("dataset", "source", "image_size", "backbone", "weights", "source_backbone"),
    *("source_weights", "source_epochs", "freeze", "devices"),
)
#: coarser and coarser: runs whose seconds stand in for those of a run that was never made
_SIMILAR: tuple[tuple[str, ...], ...] = (
    ("method", "protocol", "dataset", "image_size", "epochs", "batch_size", "backbone"),
    ("method", "protocol", "dataset", "image_size"),
    ("method", "protocol"),
)
#: what a run's name has only where it tells runs apart
_FURTHER = (
    *("backbone", "weights", "image_size", "epochs", "batch_size", "source_epochs", "freeze"),
    *(*OPTIONAL_FIELDS, "device", "threads"),
)


@dataclass(frozen=True)
class Job:
    """A run that is to be made.

    Attributes:
        spec: the run.
        key: 16 digits that stand for it while its run id is not known.
        seconds: what it may take, from earlier records; None = nobody knows.
        resources: what it needs besides what all runs get.
        further: fields of the spec in which it differs from runs that would have its name.
    """

    spec: RunSpec
    key: str
    seconds: float | None = None
    resources: Resources = USUAL
    further: tuple[str, ...] = ()

    @property
    def source_key(self) -> Key:
        """What decides the source model, as far as a spec tells; the same in runs that share it."""
        spec = self.spec
        return (*(getattr(spec, name) for name in _SOURCE), spec.training_seed)

    @property
    def recipe_key(self) -> Key:
        """What decides the source model more narrowly: runs with one key do share it."""
        spec = self.spec
        options = tuple(
            (name, repr(value)) for name, value in sorted(spec.protocol_options.items())
        )
        probes = registry.METHODS[spec.method].frozen_trunk
        return (*self.source_key, spec.protocol, options, probes)

    @property
    def data_key(self) -> Key:
        """What decides the images in the cache, the data set and the size first."""
        spec = self.spec
        return (spec.dataset, spec.image_size, spec.source, spec.target)

    @property
    def name(self) -> str:
        """The run as a person names it: method, protocol, data, options, seed."""
        spec = self.spec
        label = row_label(spec.method, spec.init)
        options = " ".join(f"{k}={v}" for k, v in sorted(changed_options(spec).items()))
        setting = " ".join(f"{k}={v}" for k, v in changed_protocol_options(spec).items())
        task = f"{spec.dataset} {spec.source}→{spec.target}"
        values = {name.replace("_", "-"): getattr(spec, name) for name in self.further}
        further = " ".join(f"{k}={v}" for k, v in values.items() if v is not None)
        parts = [f"{label} {options}", f"{spec.protocol} {setting}", task, further]
        return " · ".join([*(part.strip() for part in parts if part), f"seed {spec.seed}"])


@dataclass(frozen=True)
class SweepPlan:
    """A grid beside the store: what has a record, what is to do.

    Attributes:
        jobs: to do, in the grid's order.
        done: how many have a record.
        other_threads: how many of the jobs have a record that differs in its threads alone.
        problems: a line for every damaged record.
        by_hand: how many of those done take a tuned file's options, and no record says so.
    """

    jobs: tuple[Job, ...]
    done: int
    other_threads: int
    problems: tuple[str, ...] = ()
    by_hand: int = 0


def make_plan(
    specs: Iterable[RunSpec],
    store: Store,
    *,
    force: bool = False,
    models: bool = False,
    target_tuned: bool = False,
    resources: Mapping[str, Resources] | None = None,
) -> SweepPlan:
    """Compare specs and versions with the records: what fits has been run.

    Images, source models and weights are not looked at: a record of other images under the same
    names counts as done. A record that no table would take does not, nor one whose predictions are
    gone, nor with ``models`` one without its adapted model. ``force`` takes none for done.
    ``resources`` are by method.

    Raises:
        ConfigError: with ``target_tuned`` a run has a record without that mark.
    """
    wanted = list(specs)
    places = sorted({(spec.protocol, spec.dataset) for spec in wanted})
    records: list[Record] = []
    problems: list[str] = []
    kept = kept_models(store.root) if models else None
    known: dict[str, list[Record]] = defaultdict(list)
    loose = set()
    for place in places:
        for path, record in store.all(*place):
            records.append(record)
            if lost := _lost_file(path, record):
                problems.append(
                    f"{path}: its predictions {lost} do not lie beside it; restore them, or run "
                    "again"
                )
            elif kept is None or record["run_id"] in kept:
                versions = record.get("versions", {})
                known[known_before(record["spec"], versions)].append(record)
                loose.add(known_before({**record["spec"], "threads": 0}, versions))
        problems += store.problems
    guess, further = time_estimator(records), _further(wanted)
    jobs, done, other, by_hand = [], 0, 0, 0
    for spec in wanted:
        fields, versions = spec.to_dict(), versions_of(spec)
        text = known_before(fields, versions)
        if text in known and not force:
            done += 1
            if target_tuned and not any(r.get("target_tuned") for r in known[text]):
                raise ConfigError(
                    f"run {known[text][0]['run_id']} has a record without the mark 'target-tuned'; "
                    "give --force as well to run it again with the mark, or leave --target-tuned "
                    "away"
                )
            whole = spec.tuned is not None and spec.tuned.whole
            by_hand += whole and not any(r.get("tuned") for r in known[text])
            continue
        if loose and not force:
            other += known_before({**fields, "threads": 0}, versions) in loose
        own = (resources or {}).get(spec.method, USUAL)
        key = job_key(fields, versions)
        jobs.append(Job(spec, key, guess(spec), own, further[_named(spec)]))
    return SweepPlan(tuple(jobs), done, other, tuple(problems), by_hand)


def _named(spec: RunSpec) -> Key:
    """Return what a run's name always has, but for the seed."""
    options = (repr(sorted(o.items())) for o in (spec.method_options, spec.protocol_options))
    task = (spec.dataset, spec.source, spec.target)
    return (spec.method, spec.init, spec.protocol, *task, *options)


def _further(specs: Sequence[RunSpec]) -> dict[Key, tuple[str, ...]]:
    """Return the further fields in which runs differ whose names are equal but for the seed."""
    found: dict[Key, list[RunSpec]] = defaultdict(list)
    for spec in specs:
        found[_named(spec)].append(spec)
    return {
        key: tuple(n for n in _FURTHER if len({getattr(spec, n) for spec in alike}) > 1)
        for key, alike in found.items()
    }


def _lost_file(path: Path, record: Record) -> str:
    """Return the name of the file that should lie beside a record and does not.

    Older records hold their curves themselves, and are read without it.
    """
    if "predictions_checksum" not in record or file_beside(path, record).is_file():
        return ""
    return str(record["predictions"])


def in_order(plan: SweepPlan, order: str) -> SweepPlan:
    """Return a plan whose runs begin with the cheapest or the longest; ``grid``: as they stand.

    Runs that nobody timed come last, and keep the grid's order among themselves.
    """
    if order == "grid":
        return plan
    sign = 1 if order == "cheapest" else -1
    keys = {job.key: (job.seconds is None, sign * (job.seconds or 0.0)) for job in plan.jobs}
    return replace(plan, jobs=tuple(sorted(plan.jobs, key=lambda job: keys[job.key])))


def seconds_of(jobs: Sequence[Job], workers: int) -> tuple[float | None, int]:
    """Return what runs may take with so many at a time, and how many of them nobody timed.

    That is the longest run, or the mean of the workers; None where no run was timed.
    """
    known = [job.seconds for job in jobs if job.seconds is not None]
    if not known:
        return None, len(jobs)
    return max(*known, sum(known) / workers), len(jobs) - len(known)


def time_estimator(records: Iterable[Record]) -> Callable[[RunSpec], float | None]:
    """Return what guesses a run's seconds: the median of the most similar records, or None.

    Runs of other epochs count by the epoch.
    """
    seconds: dict[Key, list[float]] = defaultdict(list)
    for record in records:
        spent = record.get("cost", {}).get("seconds")
        if isinstance(spent, int | float):
            for fields in _SIMILAR:
                found = seconds[fields, *(record["spec"].get(name) for name in fields)]
                found.append(spent / max(1, record["spec"].get("epochs") or 1))

    def guess(spec: RunSpec) -> float | None:
        keys = [(fields, *(getattr(spec, name) for name in fields)) for fields in _SIMILAR]
        an_epoch = next((median(seconds[key]) for key in keys if key in seconds), None)
        return None if an_epoch is None else an_epoch * max(1, spec.epochs)

    return guess
