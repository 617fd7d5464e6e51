"""A row of the leaderboard as a page shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from dabench.board.page import texts
from dabench.board.page.svg import clipped
from dabench.board.statistics.seeds import MIN_PAIRS
from dabench.board.tables.column import BELOW_SOURCE
from dabench.registry.method_info import ANSWERS_AFTER, MethodInfo
from dabench.store.records import Record
from dabench.store.rows import Row

#: fields of the leaderboard that a line is made of
FIELDS = (
    *("mean", "sd", "min", "max", "ci_low", "ci_high", "n", "note", "remark"),
    *("diff_mean", "diff_low", "diff_high", "verdict", "gain", "selection"),
    *("best_baseline", "best_mean", "best_low", "best_high", "best_verdict"),
)
Cell = Mapping[str, Any]
_REC = " (rec.)"
MIB = 2**20
#: differences from which a cell of the overview is shaded, and shaded more
HEAT = (0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Value:
    """A metric of a line over seeds; None = a hole.

    ``low`` and ``high`` are the 95 % interval or, with few seeds (``is_range``), the range.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int
    is_range: bool

    @property
    def interval(self) -> str:
        """The interval in brackets, or the range with a dash between."""
        if self.is_range and self.low is not None:
            return f"{texts.number(self.low)} – {texts.number(self.high)}"
        return texts.span(self.low, self.high)


@dataclass(frozen=True)
class Difference:
    """A paired difference to another row, with its interval and what follows from it."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = ""

    @property
    def sign(self) -> str:
        """The verdict's sign, or nothing where there is no verdict."""
        return texts.SIGNS.get(self.verdict, "")

    @property
    def heat(self) -> str:
        """A class of the page's style: how far above or below, in three steps each."""
        if self.mean is None or abs(self.mean) < HEAT[0]:
            return ""
        step = sum(abs(self.mean) >= least for least in HEAT)
        return f"{'up' if self.mean > 0 else 'down'}{step}"

    @property
    def interval(self) -> str:
        """The interval in brackets."""
        return texts.span(self.low, self.high, sign=True)


@dataclass
class Line:
    """A row of a block: runs that differ in their seed alone.

    Attributes:
        number: of the cell, by which the page's data name its runs; -1 = not numbered.
        row: method, start, changed options, version.
        runs: its runs, reduced.
        kind: ``baseline``, ``bound`` (trained with target labels) or ``method``.
        values: by metric; holes are left out.
        diff: to the row that the page holds all others against.
        best: to the best baseline, ``best_name``.
        gain: 0 = the source model, 1 = the upper bound.
        note: why the cell is refused ("" = it is not).
        remark: what is missing in it ("" = nothing).
        loses: whether the source model did better on its stream, in most runs.
        selection: how its epoch or options were chosen.
        main: the method as it stands, or what is nearest to that: no ablation.
    """

    number: int
    row: Row
    runs: list[Record]
    kind: str
    values: dict[str, Value] = field(default_factory=dict)
    diff: Difference = Difference()
    best: Difference = Difference()
    best_name: str = ""
    gain: float | None = None
    note: str = ""
    remark: str = ""
    loses: bool = False
    selection: str = "last"
    main: bool = True

    @property
    def name(self) -> str:
        """Method and changed options."""
        return self.row.name

    @property
    def reconstruction(self) -> bool:
        """Whether the paper's own code or text was not at hand."""
        return any(run["reconstruction"] for run in self.runs)

    @property
    def after(self) -> bool:
        """Whether it answered after its update: a setting of its own."""
        return any(ANSWERS_AFTER in run["extras"] for run in self.runs)

    @property
    def label(self) -> str:
        """The name in a chart; a reconstruction never stands under the bare name."""
        return self.short_label(len(self.name) + len(_REC))

    def short_label(self, most: int) -> str:
        """Return the label in ``most`` characters; it is the name that is cut."""
        mark = _REC if self.reconstruction else ""
        return clipped(self.name, most - len(mark)) + mark

    @property
    def marks(self) -> list[str]:
        """What a reader must know of the row, in words."""
        return self.lasting_marks + ([BELOW_SOURCE] if self.loses else [])

    @property
    def lasting_marks(self) -> list[str]:
        """The marks that hold on every task, for a row over several."""
        found = ["upper bound"] if self.kind == "bound" else []
        found += ["reconstruction"] if self.reconstruction else []
        found += [f"selected: {self.selection}"] if self.selection != "last" else []
        return found + sorted({f"+{name}" for run in self.runs for name in run["extras"]})

    @property
    def runs_said(self) -> str:
        """How many runs it has, and in few words what is missing in them."""
        return texts.runs_said(len(self.runs), self.remark)

    @property
    def passes(self) -> float | None:
        """Images forwarded and backwarded, an image of the target; None where unknown."""
        return mean_of_known([_passes(run) for run in self.runs])

    @property
    def seconds(self) -> float | None:
        """Seconds of adaptation, in the mean over runs; None where unknown."""
        return mean_of_known([run["cost"].get("adapt_seconds") for run in self.runs])

    @property
    def memory(self) -> float | None:
        """Peak memory of the steps in MiB, the largest over runs; None where unknown."""
        found = [run["cost"].get("step_memory_bytes") for run in self.runs]
        known = [value for value in found if value is not None]
        return max(known) / MIB if known else None


def make_line(
    row: Row, runs: list[Record], cells: Mapping[str, Cell], metric: str, info: MethodInfo
) -> Line:
    """Return a line.

    Args:
        row: what its runs share.
        runs: reduced records.
        cells: metric -> the leaderboard's fields.
        metric: the one that ranks.
        info: baselines, the upper bound and the metrics that rank.
    """
    line = Line(-1, row, runs, _kind(row, runs, info))
    line.values = {n: v for n, c in cells.items() if (v := _value(c)) is not None}
    found = cells.get(metric) or next(iter(cells.values()), None)
    if found is None:
        return line
    remarks = str(found["remark"]).split("; ")
    line.loses = BELOW_SOURCE in remarks  # a mark of its own
    line.note = str(found["note"])
    line.remark = "; ".join(said for said in remarks if said != BELOW_SOURCE)
    line.selection = str(found["selection"])
    if metric in cells:
        line.diff = _difference(found, "diff", found["verdict"])
        line.best = _difference(found, "best", found["best_verdict"])
        line.best_name, line.gain = _text(found["best_baseline"]), _number(found["gain"])
    return line


def _kind(row: Row, runs: list[Record], info: MethodInfo) -> str:
    if info.is_bound(row.method, runs):
        return "bound"
    return "baseline" if row.method in info.baselines else "method"


def _value(cell: Cell) -> Value | None:
    mean, n = _number(cell["mean"]), int(cell["n"])
    if mean is None:
        return None
    ends = ("min", "max") if n < MIN_PAIRS else ("ci_low", "ci_high")
    low, high = (_number(cell[name]) if n > 1 else None for name in ends)
    return Value(mean, _number(cell["sd"]), low, high, n, n < MIN_PAIRS)


def _difference(cell: Cell, name: str, verdict: Any) -> Difference:
    mean, low, high = (_number(cell[f"{name}_{end}"]) for end in ("mean", "low", "high"))
    return Difference(mean, low, high, _text(verdict))


def _passes(run: Record) -> float | None:
    cost = run["cost"]
    if "images_forward" not in cost or "images_backward" not in cost:
        return None
    whole = [row for row in run["scores"] if row["segment"] == "all" and row["n"]]
    # most scores of a segmentation count pixels; this one counts frames
    frames = [row["n"] for row in whole if row["metric"] == "unlabelled"]
    images = frames or [row["n"] for row in whole]
    return (cost["images_forward"] + cost["images_backward"]) / max(images) if images else None


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
