"""A table's column: whose runs may stand in it, and what they say (no torch)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dabench.board.records import Record, score_map
from dabench.board.roster import PLAIN, Roster
from dabench.board.rows import Row, same_setting
from dabench.board.stats import better_sign

IDS = ("data", "stream", "source")
#: metric -> seed -> value
Values = dict[str, dict[int, float]]


@dataclass
class Column:
    """The rows of one column of the leaderboard.

    Attributes:
        key: as ``records.column`` makes it.
        runs: row -> its runs.
        roster: what is known of the names.
    """

    key: str
    runs: dict[Row, list[Record]] = field(default_factory=lambda: defaultdict(list))
    roster: Roster = PLAIN

    @cached_property
    def notes(self) -> dict[Row, str]:
        """Why a row's cells are refused ("" = they are not)."""
        return _notes(self.runs)

    @cached_property
    def scores(self) -> dict[Row, list[dict[str, float | None]]]:
        """The final scores of each run."""
        return {row: [score_map(run) for run in runs] for row, runs in self.runs.items()}

    @cached_property
    def values(self) -> dict[Row, Values]:
        """Metric -> seed -> value, without holes; empty where the row is refused."""
        return {row: {} if self.notes[row] else self._values(row) for row in self.runs}

    @cached_property
    def usual_seeds(self) -> set[int]:
        """The seeds that at least half of the rows have."""
        counts = Counter(seed for runs in self.runs.values() for seed in set(_seeds(runs)))
        return {seed for seed, count in counts.items() if 2 * count >= len(self.runs)}

    def whole(self, row: Row, metric: str) -> dict[int, float]:
        """Return seed -> value of a cell, empty where it is refused or a seed has a hole."""
        found = self.values[row].get(metric, {})
        return found if len(found) == len(self.runs[row]) else {}

    def only(self, name: str) -> Row | None:
        """Return the row of this name if one alone (of one version) has it and stands."""
        found = [row for row in self.runs if row.named(name) and not self.notes[row]]
        return found[0] if len(found) == 1 else None

    def best_baseline(self, metric: str) -> Row | None:
        """Return the baseline row with most seeds, among these the one with the best mean."""
        best: tuple[int, float, str] | None = None
        chosen = None
        for row in self.runs:
            values = self.whole(row, metric) if self._may_be_baseline(row) else {}
            if not values:
                continue
            mean = sum(values.values()) / len(values)
            rank = (len(values), better_sign(metric) * mean, row.name)
            if best is None or rank > best:
                best, chosen = rank, row
        return chosen

    def alias_of(self, row: Row) -> str:
        """Return the name of the row that an alias repeats in this column ("" = none)."""
        target = self.roster.aliases.get(row.method)
        if target is None:
            return ""
        for other, runs in self.runs.items():
            alike = (other.method, other.init) == (target, row.init)
            if alike and same_setting(self.runs[row][0], runs[0]):
                return other.name
        return ""

    def remark(self, row: Row, metric: str) -> str:
        """Return what is missing in a cell that stands ("" = nothing)."""
        if self.notes[row]:
            return ""
        runs, found = len(self.runs[row]), len(self.values[row].get(metric, {}))
        there = len(self.usual_seeds & set(_seeds(self.runs[row])))
        said = [f"hole in {runs - found} of {runs} runs"] if found < runs else []
        if there < len(self.usual_seeds):
            said.append(f"{there} of {len(self.usual_seeds)} seeds")
        return "; ".join(said)

    def _may_be_baseline(self, row: Row) -> bool:
        return row.method in self.roster.baselines and not row.variant and not self.notes[row]

    def _values(self, row: Row) -> Values:
        found: Values = defaultdict(dict)
        for run, scores in zip(self.runs[row], self.scores[row], strict=True):
            for metric, value in scores.items():
                if value is not None:
                    found[metric][run["spec"]["seed"]] = value
        return found


def _seeds(runs: Sequence[Record]) -> list[int]:
    return [run["spec"]["seed"] for run in runs]


def _notes(rows: Mapping[Row, list[Record]]) -> dict[Row, str]:
    wanted = _references(rows)
    notes = {}
    for row, runs in rows.items():
        seeds = Counter(_seeds(runs))
        twice = [seed for seed, count in seeds.items() if count > 1]
        problems = [f"seed {seed} has {seeds[seed]} records" for seed in sorted(twice)]
        for run in sorted(runs, key=lambda run: int(run["spec"]["seed"])):
            seed = run["spec"]["seed"]
            differs = [n for n, i in ids_of(run).items() if i != wanted[seed].get(n)]
            if differs:
                problems.append(f"seed {seed}: {', '.join(differs)} id differs in this column")
        problems += _changed_defaults(runs)
        notes[row] = "; ".join(["refused", *problems]) if problems else ""
    return notes


def _changed_defaults(runs: Sequence[Record]) -> list[str]:
    """Return the options whose default moved between the runs: one name, two settings."""
    first = runs[0]["spec"]["method_options"]
    moved = set()
    for run in runs[1:]:
        others = run["spec"]["method_options"]
        if others != first:
            moved |= {name for name in first if name in others and first[name] != others[name]}
    return [f"options differ between seeds: {', '.join(sorted(moved))}"] if moved else []


def ids_of(run: Record) -> dict[str, str]:
    """Return the ids that rows of a column must share, for each seed."""
    ids = run.get("ids", {})
    return {name: str(ids.get(name)) for name in IDS}


def _references(rows: Mapping[Row, list[Record]]) -> dict[int, dict[str, str | None]]:
    """Return, a seed, the ids that hold: those of ``source``, else what most rows have."""
    by_seed: dict[int, list[tuple[Row, dict[str, str]]]] = defaultdict(list)
    for row, runs in rows.items():
        for run in runs:
            by_seed[run["spec"]["seed"]].append((row, ids_of(run)))
    wanted: dict[int, dict[str, str | None]] = {}
    for seed, found in by_seed.items():
        trusted = [ids for row, ids in found if row.is_baseline] or [ids for _, ids in found]
        wanted[seed] = {name: _majority([ids[name] for ids in trusted]) for name in IDS}
    return wanted


def _majority(values: Sequence[str]) -> str | None:
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None
