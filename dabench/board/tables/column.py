"""A table's column: whose runs may stand in it, and what they say (no torch)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dabench.board.statistics.cells import Floats, Ints, exact_sum
from dabench.board.statistics.seeds import better_sign
from dabench.board.tables.agreement import machines_of, refusals, seed_of
from dabench.board.tables.harm import MARK, harm_metrics
from dabench.registry.method_info import REGISTERED, TARGET_TUNED, MethodInfo
from dabench.store.lean import score_values
from dabench.store.records import Record
from dabench.store.rows import Row, reference_of, version_order

#: what a row is called that loses to the source model, and the score that says so
BELOW_SOURCE, _BELOW = "below source", "below_source"
Flags = npt.NDArray[np.bool_]


@dataclass
class RowResult:
    """What the runs of one row say in one column.

    Attributes:
        row: what it is.
        runs: its runs, by seed.
        note: why its cells are refused ("" = they are not).
        missing: how many of the column's seeds it has, where it lacks some ("" = none).
    """

    row: Row
    runs: list[Record]
    note: str
    missing: str

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

    @cached_property
    def loses(self) -> bool:
        """Whether a stream's row did worse than the source model on it, in most of its runs."""
        found = [dict(zip(*score_values(run), strict=True)) for run in self.runs]
        below = [float(own[_BELOW]) for own in found if _BELOW in own]
        return sum(value > 0 for value in below) > len(below) / 2

    def remark(self, holes: int, pairing: str = "") -> str:
        """Return what a reader must know of a cell that stands: what is missing, who chose.

        Args:
            holes: how many runs lack its metric.
            pairing: why there is no difference where there could be one, or what it bridges.
        """
        if self.note:
            return ""
        said = [f"hole in {holes} of {len(self.runs)} runs"] if holes else []
        said += [part for part in (self.missing, pairing) if part]
        said += ["seeds of several machines"] if len(machines_of(self.runs)) > 1 else []
        said += [self.tuned] if self.tuned else []
        said += [BELOW_SOURCE] if self.loses else []
        return "; ".join(said + [TARGET_TUNED] * self.target_tuned)


@dataclass(frozen=True)
class Scores:
    """What the S seeds of R rows say in M metrics.

    Attributes:
        metrics: by name.
        signs: (M,): 1 where more is better, −1 where less is.
        values: (S, R, M), seeds in their order; NaN = a hole, a missing run, or a refused row.
        there: (R, M), whether one of a row's runs has the metric.
        runs: (R, M), of how many of a row's runs a metric is: all, or those of seeds that its
            reference has, too.
    """

    metrics: list[str]
    signs: Floats
    values: Floats
    there: Flags
    runs: npt.NDArray[np.int_]


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
    info: MethodInfo = REGISTERED

    @cached_property
    def results(self) -> list[RowResult]:
        """The rows by name, of several versions the newest last."""
        notes, usual = refusals(self.runs), self._usual_seeds()
        found = []
        order = {r: (r.label, r.variant, version_order(r.version), r.version) for r in self.runs}
        for row in sorted(self.runs, key=order.__getitem__):
            runs = sorted(self.runs[row], key=seed_of)
            there = len(usual.intersection(map(seed_of, runs)))
            missing = f"{there} of {len(usual)} seeds" if there < len(usual) else ""
            found.append(RowResult(row, runs, notes[row], missing))
        return found

    @cached_property
    def scores(self) -> Scores:
        """The scores of all rows, with what follows from those of several."""
        metrics: dict[tuple[str, ...], Ints] = {}  # many runs have the same ones
        parts = [(r, run, *score_values(run)) for r, s in enumerate(self.results) for run in s.runs]
        known = sorted(set().union(*{names for _, _, names, _ in parts}))
        number = {metric: m for m, metric in enumerate(known)}
        seeds = {seed: s for s, seed in enumerate(sorted({seed_of(run) for _, run, *_ in parts}))}
        values = np.full((len(seeds), len(self.results), len(known)), np.nan)
        there = np.zeros(values.shape[1:], dtype=bool)
        for r, run, names, own in parts:
            if names not in metrics:
                metrics[names] = np.array([number[name] for name in names], dtype=np.intp)
            there[r, metrics[names]] = True
            if not self.results[r].note:
                values[seeds[seed_of(run)], r, metrics[names]] = own
        counts = np.array([len(result.runs) for result in self.results])
        found = Scores(
            *(known, np.array([better_sign(m) for m in known]), values, there),
            np.repeat(counts[:, None], len(known), axis=1),
        )
        harmful = any(metric.startswith(MARK) for metric in known)
        return self._with_harm(found, list(seeds)) if harmful else found

    def _with_harm(self, found: Scores, seeds: list[int]) -> Scores:
        """Add what compares a row with others: one pass over the few columns that have it."""
        known, values = found.metrics, found.values
        by_row = {
            result.row: {
                metric: {seeds[s]: float(values[s, r, m]) for s in _known(values[:, r, m])}
                for m, metric in enumerate(known)
                if not np.isnan(values[:, r, m]).all()
            }
            for r, result in enumerate(self.results)
        }
        harm = harm_metrics(by_row)
        added = sorted(set().union(*harm.values()) - set(known))
        more = np.full((*values.shape[:2], len(added)), np.nan)
        for r, result in enumerate(self.results):
            for m, metric in enumerate(added):
                for seed, value in harm[result.row].get(metric, {}).items():
                    more[seeds.index(seed), r, m] = value
        # a seed that the reference lacks is no hole
        paired = [[len(harm[s.row].get(metric, {})) for metric in added] for s in self.results]
        own = np.array(paired, np.int_).reshape(len(paired), len(added))
        names = [*known, *added]
        order = sorted(range(len(names)), key=names.__getitem__)
        values = np.concatenate([values, more], 2)[:, :, order]
        there = np.concatenate([found.there, own > 0], 1)[:, order]
        runs = np.concatenate([found.runs, own], 1)[:, order]
        known = [names[m] for m in order]
        return Scores(known, np.array([better_sign(m) for m in known]), values, there, runs)

    def references(self, name: str) -> Ints:
        """Return, a row, the number of the row of this name that it is paired with; −1 = none."""
        standing = self._standing(name)
        found = (reference_of(result.row, standing) for result in self.results)
        return np.array([-1 if row is None else standing[row] for row in found], np.intp)

    def pairings(self, name: str) -> list[str]:
        """Return why a row is paired with none of this name, or what tells their machines apart."""
        *_, newest = [None, *self._standing(name)]
        if newest is None:
            return [""] * len(self.results)
        numbers = self.references(name).tolist()
        kinds = [result.row.other_version(newest) for result in self.results]
        made_on = [machines_of(result.runs) for result in self.results]
        return [
            f"other {kind} version than {name}"
            if number < 0
            else f"other machine than {name}" * (own != made_on[number])
            for kind, number, own in zip(kinds, numbers, made_on, strict=True)
        ]

    def best_baselines(self, ours: Floats) -> Ints:
        """Return, a row and metric, the baseline with most seeds, among these of the best mean.

        A baseline is held against others with no option changed, and learns nothing.

        Args:
            ours: (S, R, M), NaN for cells that lack a seed.

        Returns:
            (R, M) numbers of rows; −1 = none.
        """
        names = dict.fromkeys(s.row.name for s in self.results if self._is_baseline(s))
        best = np.full(ours.shape[1:], -1, np.intp)
        if names:
            offered = np.stack([self.references(name) for name in names], 1)
            for rows in np.unique(offered, axis=0):
                best[(offered == rows).all(1)] = self._best_of(rows[rows >= 0], ours)
        return best

    def _best_of(self, rows: Ints, ours: Floats) -> Ints:
        """Return, a metric, which of some rows has most seeds, among these the best mean."""
        mine = ours[:, rows]
        n = (~np.isnan(mine)).sum(0)
        with np.errstate(invalid="ignore"):
            mean = self.scores.signs * exact_sum(mine) / n
        mean[(n == 0) | (n < n.max(0, initial=0))] = -np.inf
        best = np.append(rows, -1)[mean.argmax(0) if len(rows) else [-1] * ours.shape[2]]
        return np.where(n.any(0), best, -1)

    def _standing(self, name: str) -> dict[Row, int]:
        """Return the rows of a name that are not refused, the newest last, with their numbers."""
        named = [(r, s) for r, s in enumerate(self.results) if s.row.name == name]
        return {found.row: r for r, found in named if not found.note}

    def _usual_seeds(self) -> set[int]:
        """Return the seeds that at least half of the rows have."""
        counts = Counter(seed for runs in self.runs.values() for seed in set(map(seed_of, runs)))
        return {seed for seed, count in counts.items() if 2 * count >= len(self.runs)}

    def _is_baseline(self, found: RowResult) -> bool:
        row = found.row
        return row.method in self.info.baselines and not row.variant and not found.note


def _known(values: Floats) -> Sequence[int]:
    return [int(s) for s in np.flatnonzero(~np.isnan(values))]
