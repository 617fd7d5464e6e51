"""A record beside a second run of its spec: what is equal, what is not, what may be why."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from dabench import registry
from dabench.config.signature import signature_options
from dabench.config.spec import UNRECORDED, RunSpec
from dabench.errors import ConfigError, StoreError
from dabench.store.archive import is_kept
from dabench.store.arrays import as_kept, file_beside, read_arrays
from dabench.store.identity import run_digest
from dabench.store.records import Record, score_name

#: a name with its value then and now
Change = tuple[str, Any, Any]
_WORDS = {"source": "source model", "method": "version of the method"}
_WORDS |= {"protocol": "version of the protocol", "git_commit": "code (git commit)"}
_WORDS |= {"init": "version of the start", "instructions": "the CPU's vector instructions"}
_WORDS |= {"dataset": "version of the data set"}


@dataclass(frozen=True)
class Comparison:
    """How two runs of one spec differ.

    Attributes:
        scores: (score, then, now) where they differ, None for a hole or a missing score.
        same: how many scores are identical.
        curves: the same for scores on the way, by name and epoch.
        arrays: per-sample predictions that differ; None where one of the two kept none.
        ids: of data, stream and source model, where they differ.
        versions: of packages, method, protocol and start, where they differ.
        environment: device, threads, platform, commit, where they differ.
        marks: variant, extras, reconstruction, where they differ.
        run_ids: of then and now, where they are two runs: other data, stream, source model, or
            version of method or protocol. None where at most the spec was changed on purpose.
        later: scores and curves that the record has not at all: they came later.
    """

    scores: list[Change]
    same: int
    curves: list[Change]
    arrays: list[str] | None
    ids: list[Change]
    versions: list[Change]
    environment: list[Change]
    marks: list[Change]
    run_ids: tuple[str, str] | None
    later: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether this was the same run, and its results and what tables say of it are equal."""
        return not (self.scores or self.curves or self.arrays or self.run_ids or self.marks)

    @property
    def largest(self) -> float | None:
        """The largest absolute difference of a score; None where one of the two is a hole."""
        pairs = [(then, now) for _, then, now in self.scores]
        if any(then is None or now is None for then, now in pairs):
            return None
        return max((abs(then - now) for then, now in pairs), default=0.0)

    @property
    def causes(self) -> list[str]:
        """What differs between then and now, as a sentence names it."""
        found = [*self.ids, *self.versions, *self.environment, *self.marks]
        return [f"{_WORDS.get(name, name)} ({then} then, {now} now)" for name, then, now in found]


def spec_of(record: Mapping[str, Any]) -> RunSpec:
    """Return the spec of a record.

    Raises:
        StoreError: a failed run, or a spec that this version of dabench cannot run as it stands.
    """
    name, spec = str(record.get("run_id")), record.get("spec")
    if record.get("failed"):
        raise StoreError(f"run {name} failed: it has no scores; 'dabench show {name}' says why")
    if not isinstance(spec, dict):
        raise StoreError(f"run {name}: its record has no spec; it was damaged, or edited by hand")
    known = {each.name for each in fields(RunSpec)} - {*UNRECORDED}
    needed = {each.name for each in fields(RunSpec) if each.default is MISSING}
    _refuse(name, "its spec has", set(spec) - known, "which this version does not know")
    _refuse(name, "its spec lacks", needed - set(spec), "which this version needs")
    try:
        recorded = [registry.Plugin(**plugin) for plugin in record.get("plugins", ())]
        registry.restore(recorded, exact=False)
        parts = {
            "method": registry.method(spec["method"]),
            "protocol": registry.protocol(spec["protocol"]),
        }
    except ConfigError as error:
        raise StoreError(f"run {name} cannot be made again: {error}") from None
    for kind, cls in parts.items():
        options = {option.name: option.default for option in signature_options(cls)}
        given = set(spec[f"{kind}_options"])
        what = f"{kind} {spec[kind]}"
        _refuse(name, f"its {what} had the option", given - set(options), "which is gone")
        required = {n for n, d in options.items() if d is inspect.Parameter.empty}
        _refuse(name, f"its {what} had no option", required - given, "which is needed now")
    names = {kind: spec[kind] for kind in ("method", "protocol", "dataset")}
    models = tuple(plugin for plugin in recorded if plugin.kind == "model")
    return RunSpec(**spec, plugins=registry.plugins_of(**names) + models)


def _refuse(run: str, what: str, names: set[str], why: str) -> None:
    if names:
        raise StoreError(
            f"run {run} cannot be made again: {what} {', '.join(sorted(names))}, {why}; check out "
            "the version of dabench that the record names"
        )


def new_options(record: Mapping[str, Any]) -> list[str]:
    """Return options that came after the record; the second run has their defaults.

    Those that a spec leaves out at their default say nothing of the record's age.
    """
    spec = record["spec"]
    parts = {"method": registry.method, "protocol": registry.protocol}
    return [
        f"{kind}.{option.name}={option.default}"
        for kind, cls in ((kind, load(spec[kind])) for kind, load in parts.items())
        for option in signature_options(cls)
        if option.name not in {*spec[f"{kind}_options"], *getattr(cls, "later_options", ())}
    ]


def compare(then: Record, now: Record, then_path: Path, now_path: Path) -> Comparison:
    """Compare two records and the predictions beside them, bit for bit."""
    kept, later = _known(then["scores"], now["scores"])
    points, later_curves = _known(then.get("curves", []), now.get("curves", []))
    scores, same = _rows(then["scores"], kept, curve=False)
    curves, _ = _rows(then.get("curves", []), points, curve=True)
    return Comparison(
        scores,
        same,
        curves,
        _arrays(then_path, then, now_path, now),
        _changes(then, now, "ids"),
        _changes(then, now, "versions"),
        _changes(then, now, "environment"),
        _changes({"": _marks(then)}, {"": _marks(now)}, ""),
        _run_ids(then, now),
        [*later, *later_curves],
    )


def _known(
    then: list[dict[str, Any]], now: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of scores that the record has too, and the names of the other scores."""
    names = {score_name(row) for row in then}
    keys = [score_name(row) for row in now]
    kept = [row for row, key in zip(now, keys, strict=True) if key in names]
    return kept, list(dict.fromkeys(key for key in keys if key not in names))


def _marks(record: Record) -> dict[str, Any]:
    """Return what tables show of a run besides its scores, as far as its spec decides it."""
    return {name: record.get(name) for name in ("variant", "extras", "reconstruction")}


def _run_ids(then: Record, now: Record) -> tuple[str, str] | None:
    """Return both ids where they differ by more than the spec of the second run."""
    due = run_digest(now["spec"], then["versions"], then["ids"])
    return None if now["run_id"] == due else (then["run_id"], now["run_id"])


def _rows(
    then: list[dict[str, Any]], now: list[dict[str, Any]], *, curve: bool
) -> tuple[list[Change], int]:
    """Return the scores that differ, a missing one as a hole, and how many are equal."""
    sides = [
        {(score_name(row), row["at"] if curve else 0): row for row in rows} for rows in (then, now)
    ]
    changes, same = [], 0
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        left, right = (side.get(key) for side in sides)
        if left is not None and right is not None and left == right:
            same += 1
            continue
        name = f"{key[0]} at {key[1]}" if curve else key[0]
        changes.append((name, left and left["value"], right and right["value"]))
    return changes, same


def _arrays(then_path: Path, then: Record, now_path: Path, now: Record) -> list[str] | None:
    kept = [
        file_beside(path, record)
        for path, record in ((then_path, then), (now_path, now))
        if record.get("predictions")
    ]
    if len(kept) < 2 or not all(map(is_kept, kept)):
        return None
    # records of before keep all digits of what is now kept with fewer
    left, right = ({n: as_kept(n, a) for n, a in read_arrays(path).items()} for path in kept)
    return [
        name
        for name in sorted({*left, *right})
        if name not in left
        or name not in right
        or left[name].dtype != right[name].dtype
        or left[name].shape != right[name].shape
        or left[name].tobytes() != right[name].tobytes()
    ]


def _changes(then: Record, now: Record, part: str) -> list[Change]:
    left, right = then.get(part) or {}, now.get(part) or {}
    # records of before say nothing of what an environment names since
    names = left if part == "environment" else {**left, **right}
    return [
        (name, left.get(name), right.get(name))
        for name in names
        if left.get(name) != right.get(name)
    ]
