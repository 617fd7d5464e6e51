"""The rows of one column of a stream protocol, with the runs that diverged."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pandas as pd
from table_cells import Params, listed, reading_order, row_of

from dabench.store.identity import column_of
from dabench.store.records import Record, score_map

RANKED = "accuracy/final"
NORMS = ("none", "clip", "unit-global", "unit-per-layer")


class RecordTables(Protocol):
    """The part of ``tables.Tables`` that is needed here."""

    records: list[Record]
    failed: list[Record]

    def frame(self, params: Params, against: str = "source") -> pd.DataFrame:
        """Return the leaderboard's lines of the one column that ``params`` select."""

    def only(self, seeds: set[int]) -> RecordTables:
        """Return what there is of some seeds."""


@dataclass
class Row:
    """Runs that differ in their seed alone.

    Attributes:
        label: method, with ``+bn`` where BatchNorm was re-estimated on the target.
        variant: options that differ from the defaults, as the leaderboard names them.
        options: all options of the method.
        runs: seed -> record of a run that ended.
        diverged: seeds whose run broke off because its numbers were not finite.
    """

    label: str
    variant: str
    options: Mapping[str, Any]
    runs: dict[int, Record] = field(default_factory=dict)
    diverged: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        """Method and changed options."""
        return f"{self.label} {self.variant}".strip()

    @property
    def seeds(self) -> set[int]:
        """Seeds that were run."""
        return {*self.runs, *self.diverged}

    @property
    def collapsed(self) -> set[int]:
        """Seeds that diverged, or whose accuracy stayed far below the source model's to the end."""
        return self.fallen(lambda run: bool(score_map(run)["collapsed"]))

    def fallen(self, told: Callable[[Record], bool]) -> set[int]:
        """Return the seeds that diverged, or whose run is told to have fallen."""
        return self.diverged | {seed for seed, run in self.runs.items() if told(run)}

    def values(self, metric: str) -> list[float]:
        """Return a metric of the runs that ended, in the seeds' order; holes are left out."""
        found = [score_map(self.runs[seed]).get(metric) for seed in sorted(self.runs)]
        return [value for value in found if value is not None]


def rows_of(
    tables: RecordTables, params: Params, against: str = "source"
) -> tuple[list[Row], pd.DataFrame]:
    """Return the rows of a column that the parameters let through, and its leaderboard.

    ``methods=a,b`` names labels; ``norms=none,clip`` values of ``grad_norm`` (methods without one
    stay); ``with=lr=0.01,conda.replay=64`` values of options (``lr=0.01|0.1``: either), of all
    methods that have them or of one; ``seeds=0,1`` seeds.

    Raises:
        ValueError: a seed has two records, a cell is refused by the leaderboard, or a run failed
            for another reason than numbers that are not finite.
    """
    tables = tables.only({int(s) for s in listed(params, "seeds")}) if "seeds" in params else tables
    frame = tables.frame(params, against)
    key = frame["column"].iloc[0]
    rows: dict[tuple[str, str], Row] = {}
    for record in _of(tables.records, key):
        row = rows.setdefault(row_of(record), _empty(record))
        seed = int(record["spec"]["seed"])
        if seed in row.runs:
            raise ValueError(f"`{row.name}`: seed {seed} has two records; supersede one")
        row.runs[seed] = record
    for record in _of(tables.failed, key):
        row = rows.setdefault(row_of(record), _empty(record))
        seed = int(record["spec"]["seed"])
        if seed in row.runs:  # it was run again, and ended
            continue
        _check_diverged(record)
        row.diverged.add(seed)
    kept = [row for row in rows.values() if _fits(row, params)]
    _check_notes(frame, kept)
    order = {label: place for place, label in enumerate(listed(params, "methods"))}
    kept.sort(key=lambda row: (order.get(row.label, 0), *_reading_order(row)))
    return kept, frame


def lines_of(frame: pd.DataFrame, row: Row) -> pd.DataFrame:
    """Return the leaderboard's lines of a row by metric; none where every run diverged."""
    mine = (frame["method"] == row.label) & (frame["variant"] == row.variant)
    return frame[mine].set_index("metric")


def short_names(rows: Sequence[Row], common: Iterable[str]) -> tuple[dict[str, str], str]:
    """Return name -> shorter name, and a line that tells what was left out.

    An option of ``common`` is left out where a method has it at one value in all its rows; else it
    is shown in each of them that has a value, whether or not it is the default.
    """
    wanted, told = list(common), defaultdict(list)
    by_label: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_label[row.label].append(row)
    names = {}
    for label, own in by_label.items():
        has = [name for name in wanted if name in own[0].options]
        same = [n for n in has if len({str(row.options[n]) for row in own}) == 1]
        for name in same:
            if own[0].options[name] is not None:
                told[f"{name}={own[0].options[name]}"].append(f"`{label}`")
        for row in own:
            tokens = {token.partition("=")[0]: token for token in row.variant.split()}
            tokens |= {n: f"{n}={row.options[n]}" for n in has if row.options[n] is not None}
            shown = [tokens[n] for n in sorted(tokens) if n not in same]
            names[row.name] = " ".join([label, *shown])
    caption = "; ".join(f"{option}: {', '.join(labels)}" for option, labels in told.items())
    return names, caption


def _of(records: Iterable[Record], key: str) -> list[Record]:
    return [record for record in records if column_of(record) == key]


def _empty(record: Record) -> Row:
    return Row(*row_of(record), record["spec"]["method_options"])


def _reading_order(row: Row) -> tuple[tuple[int, str], int, float, str]:
    """Return what sorts by label, then norm, then learning rate."""
    norm = str(row.options.get("grad_norm", NORMS[0]))
    place = NORMS.index(norm) if norm in NORMS else len(NORMS)
    return reading_order(row.label), place, float(row.options.get("lr", 0.0)), row.variant


def _fits(row: Row, params: Params) -> bool:
    methods, norms = listed(params, "methods"), listed(params, "norms")
    if methods and row.label not in methods:
        return False
    if norms and row.options.get("grad_norm", norms[0]) not in norms:
        return False
    for condition in listed(params, "with"):
        name, _, value = condition.partition("=")
        label, dot, option = name.rpartition(".")
        if dot and label != row.label:
            continue
        if option in row.options and str(row.options[option]) not in value.split("|"):
            return False
    return True


def _check_diverged(record: Record) -> None:
    last = str(record.get("traceback", "")).strip().rpartition("\n")[2]
    if not re.search("(Training|Divergence)Error: .*not finite", last):
        raise ValueError(
            f"failed run {record['run_id']} did not diverge ({last}); run it again or take it back"
        )


def _check_notes(frame: pd.DataFrame, rows: Iterable[Row]) -> None:
    for row in rows:
        lines = lines_of(frame, row)
        notes = sorted(set(lines["note"]) - {""})
        if notes or lines.index.has_duplicates:
            raise ValueError(f"`{row.name}`: {notes[0] if notes else 'has several versions'}")
