"""Which rows may stand in one column: those whose runs saw the same (no torch)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from dabench.store.identity import IDS
from dabench.store.records import Record
from dabench.store.rows import Row

Ids = tuple[str, ...]
#: whose ids have to agree: runs of one seed under one version of the protocol
Group = tuple[int, str]
#: what a spec says of its machine: it moves last digits, and whatever is timed
_MACHINE = ("device", "threads")
#: how many files a refusal names
_NAMED = 4


def seed_of(run: Record) -> int:
    """Return a run's seed."""
    seed: int = run["spec"]["seed"]
    return seed


def ids_of(run: Record) -> Ids:
    """Return a run's ``IDS``."""
    ids = run.get("ids", {})
    return tuple([str(ids.get(name)) for name in IDS])


def machines_of(runs: Iterable[Record]) -> set[tuple[str, ...]]:
    """Return on which machines runs were made, as far as their specs tell."""
    return {tuple([str(run["spec"].get(name)) for name in _MACHINE]) for run in runs}


def refusals(rows: Mapping[Row, list[Record]]) -> dict[Row, str]:
    """Return why a row's cells are refused in their column, and the way out ("" = they are not)."""
    seen = {row: [(seed_of(run), ids_of(run)) for run in runs] for row, runs in rows.items()}
    by_group = _wanted(seen)
    notes = {}
    for row, found in seen.items():
        seeds = Counter(seed for seed, _ in found)
        wanted = {seed: by_group[seed, row.protocol_version] for seed in seeds}
        twice = {seed for seed, count in seeds.items() if count > 1}
        strange = {seed for seed, ids in found if ids != wanted[seed]}
        problems = [repeated(seed, rows[row]) for seed in sorted(twice)]
        for seed, ids in sorted(found):
            if ids != wanted[seed]:
                pairs = zip(IDS, ids, wanted[seed], strict=True)
                differs = ", ".join(name for name, own, right in pairs if own != right)
                problems.append(f"seed {seed}: {differs} id differs in this column")
        problems += _moved_defaults(rows[row])
        blamed = [run for run in rows[row] if seed_of(run) in twice | strange]
        ways = [_way_out(blamed)] if blamed else []
        notes[row] = "; ".join(["refused", *problems, *ways]) if problems else ""
    return notes


def repeated(seed: int, runs: Sequence[Record]) -> str:
    """Name the records of one seed, and what of the machine tells them apart."""
    same = [run for run in runs if seed_of(run) == seed]
    machine = {name: {str(run["spec"].get(name)) for run in same} for name in _MACHINE}
    apart = [f"{n}: {', '.join(sorted(v))}" for n, v in machine.items() if len(v) > 1]
    told = f", of other {' and '.join(apart)}" if apart else ""
    return f"seed {seed} has {len(same)} records{told}"


def _way_out(runs: Sequence[Record]) -> str:
    """Name files, and the command that takes those out that are not wanted."""
    names = [f"{run['run_id']}.json" for run in runs]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    data = {str(run.get("ids", {}).get("data")) for run in runs}
    other = " (other data under the same names want a --results of their own)" * (len(data) > 1)
    return (
        f"see {', '.join(names[:_NAMED])}{more}; 'dabench store retire' takes old ones out{other}"
    )


def _moved_defaults(runs: Sequence[Record]) -> list[str]:
    """Return the options whose default moved between the runs: one name, two settings."""
    first = runs[0]["spec"]["method_options"]
    moved: set[str] = set()
    for run in runs[1:]:
        others = run["spec"]["method_options"]
        if others is not first and others != first:
            moved |= {name for name in first if name in others and first[name] != others[name]}
    return [f"options differ between seeds: {', '.join(sorted(moved))}"] if moved else []


def _wanted(seen: Mapping[Row, list[tuple[int, Ids]]]) -> dict[Group, tuple[str | None, ...]]:
    """Return, a group, the ids that hold: those of ``source``, else what most rows have.

    A protocol of another version poses another task, and may make another stream of a seed.
    """
    trusted: dict[Group, list[Ids]] = defaultdict(list)
    others: dict[Group, list[Ids]] = defaultdict(list)
    for row, found in seen.items():
        for seed, ids in found:
            (trusted if row.is_baseline else others)[seed, row.protocol_version].append(ids)
    return {
        group: tuple(_majority(values) for values in zip(*found, strict=True))
        for group, found in (others | trusted).items()
    }


def _majority(values: Sequence[str]) -> str | None:
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None
