"""A table's column: whose runs may stand in it, and what they say (no torch)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dabench.board.statistics.seeds import better_sign
from dabench.board.tables.agreement import refusals, seed_of
from dabench.board.tables.harm import harm_metrics
from dabench.registry.method_info import NO_INFO, MethodInfo
from dabench.store.records import Record, score_map
from dabench.store.rows import Row

#: metric -> seed -> value
Values = dict[str, dict[int, float]]
_NOTHING: Mapping[int, float] = {}


@dataclass
class RowResult:
    """What the runs of one row say in one column.

    Attributes:
        row: what it is.
        runs: its runs, by seed.
        note: why its cells are refused ("" = they are not).
        missing: how many of the column's seeds it has, where it lacks some ("" = none).
        metrics: all that one of its runs has.
        values: metric -> seed -> value, without holes; empty where the row is refused.
    """

    row: Row
    runs: list[Record]
    note: str
    missing: str
    metrics: set[str]
    values: Values

    def by_seed(self, metric: str) -> Mapping[int, float]:
        """Return seed -> value; seeds with a hole are left out."""
        return self.values.get(metric, _NOTHING)

    def by_seed_if_whole(self, metric: str) -> Mapping[int, float]:
        """Return seed -> value of a cell, empty where it is refused or a seed has a hole."""
        found = self.by_seed(metric)
        return found if len(found) == len(self.runs) else _NOTHING

    @property
    def target_tuned(self) -> bool:
        """Whether labels of the target chose the options of a run."""
        return any(run.get("target_tuned", False) for run in self.runs)

    @property
    def tuned(self) -> str:
        """Which files of ``dabench tune`` gave the options, for how many runs ("" = none)."""
        marks = [run["tuned"] for run in self.runs if run.get("tuned")]
        names = " ".join(dict.fromkeys(f"{m.get('file')} {m.get('sha256', '')[:8]}" for m in marks))
        part = f", {len(marks)} of {len(self.runs)} runs" if len(marks) < len(self.runs) else ""
        return f"tuned ({names}{part})" if marks else ""

    def remark(self, metric: str) -> str:
        """Return what a reader must know of a cell that stands: what is missing, who chose."""
        if self.note:
            return ""
        holes, runs = len(self.runs) - len(self.by_seed(metric)), len(self.runs)
        said = [f"hole in {holes} of {runs} runs"] if holes else []
        said += [self.missing] if self.missing else []
        said += [self.tuned] if self.tuned else []
        return "; ".join(said + ["target-tuned"] * self.target_tuned)


@dataclass
class Column:
    """The rows of one column of the leaderboard.

    Attributes:
        key: as ``identity.column_key`` makes it.
        runs: row -> its runs.
        info: baselines, the upper bound and the metrics that rank.
    """

    key: str
    runs: dict[Row, list[Record]] = field(default_factory=lambda: defaultdict(list))
    info: MethodInfo = NO_INFO

    @cached_property
    def results(self) -> list[RowResult]:
        """The rows by name."""
        notes, usual = refusals(self.runs), self._usual_seeds()
        found = []
        for row in sorted(self.runs, key=lambda row: (row.label, row.variant, row.version)):
            runs = sorted(self.runs[row], key=seed_of)
            there = len(usual.intersection(map(seed_of, runs)))
            missing = f"{there} of {len(usual)} seeds" if there < len(usual) else ""
            metrics, values = _scores(runs)
            found.append(RowResult(row, runs, notes[row], missing, metrics, values))
            if notes[row]:
                values.clear()
        harm = harm_metrics({result.row: result.values for result in found})
        for result in found:
            result.values.update(harm[result.row])
            result.metrics.update(harm[result.row])
        return found

    @cached_property
    def baselines(self) -> list[RowResult]:
        """The rows that others are held against: no option changed, nothing learned."""
        return [s for s in self.results if self._is_baseline(s)]

    def result_of(self, name: str) -> RowResult | None:
        """Return the row of this name if one alone (of one version) has it and stands."""
        found = [s for s in self.results if s.row.named(name) and not s.note]
        return found[0] if len(found) == 1 else None

    def best_baseline(self, metric: str) -> RowResult | None:
        """Return the baseline row with most seeds, among these the one with the best mean."""
        sign = better_sign(metric)
        ranked = []
        for number, found in enumerate(self.baselines):
            values = found.by_seed_if_whole(metric)
            if values:
                ranked.append((len(values), sign * sum(values.values()) / len(values), -number))
        return self.baselines[-max(ranked)[2]] if ranked else None

    def _usual_seeds(self) -> set[int]:
        """Return the seeds that at least half of the rows have."""
        counts = Counter(seed for runs in self.runs.values() for seed in set(map(seed_of, runs)))
        return {seed for seed, count in counts.items() if 2 * count >= len(self.runs)}

    def _is_baseline(self, found: RowResult) -> bool:
        row = found.row
        return row.method in self.info.baselines and not row.variant and not found.note


def _scores(runs: Sequence[Record]) -> tuple[set[str], Values]:
    """Return the metrics of all runs, and their values."""
    metrics: set[str] = set()
    found: Values = {}
    for run in runs:
        scores = score_map(run)
        metrics.update(scores)
        seed = seed_of(run)
        for metric, value in scores.items():
            if value is not None:
                found.setdefault(metric, {})[seed] = value
    return metrics, found
