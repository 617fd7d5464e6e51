"""A row of the leaderboard as a page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dabench.board.page import texts
from dabench.board.page.svg import clipped
from dabench.board.page.values import (
    Cell,
    Difference,
    Value,
    difference_of,
    number_of,
    text_of,
    value_of,
)
from dabench.board.statistics.holes import mean_of_all
from dabench.board.tables.agreement import machines_of
from dabench.board.tables.column import BELOW_SOURCE
from dabench.registry.marks import ANSWERS_AFTER
from dabench.registry.method_info import TARGET_TUNED, MethodInfo
from dabench.store.records import Record
from dabench.store.rows import Row

#: fields of the leaderboard that a line is made of
FIELDS = (
    *("mean", "sd", "min", "max", "ci_low", "ci_high", "n", "note", "remark"),
    *("diff_mean", "diff_low", "diff_high", "verdict", "gain", "selection"),
    *("best_baseline", "best_mean", "best_low", "best_high", "best_verdict"),
)
_REC = " (rec.)"
MIB = 2**20
_NONE = Difference()


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
        told: its version, where the block has several of the row.
    """

    number: int
    row: Row
    runs: list[Record]
    kind: str
    values: dict[str, Value] = field(default_factory=dict)
    diff: Difference = _NONE
    best: Difference = _NONE
    best_name: str = ""
    gain: float | None = None
    note: str = ""
    remark: str = ""
    loses: bool = False
    selection: str = "last"
    main: bool = True
    told: str = ""

    @property
    def name(self) -> str:
        """Method and changed options."""
        return self.row.name

    @property
    def reconstruction(self) -> bool:
        """Whether the paper's own code or text was not at hand."""
        return any(run["reconstruction"] for run in self.runs)

    @property
    def aside(self) -> bool:
        """Whether it does not rank: it answered after its update, or is tuned by labels."""
        return self.target_tuned or any(ANSWERS_AFTER in run["extras"] for run in self.runs)

    @property
    def target_tuned(self) -> bool:
        """Whether labels of the target chose its options."""
        return any(run.get("target_tuned", False) for run in self.runs)

    @property
    def label(self) -> str:
        """The name in a chart; a reconstruction never stands under the bare name."""
        return self.short_label(len(self.name) + len(self.told) + 1 + len(_REC))

    def short_label(self, most: int) -> str:
        """Return the label in ``most`` characters; it is the name that is cut."""
        mark = f" {self.told}" if self.told else ""
        mark += _REC if self.reconstruction else ""
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
        found += [TARGET_TUNED] if self.target_tuned else []
        return found + sorted({f"+{name}" for run in self.runs for name in run["extras"]})

    @property
    def runs_said(self) -> str:
        """How many runs it has, and in few words what is missing in them."""
        return texts.runs_said(len(self.runs), self.remark)

    @property
    def passes(self) -> float | None:
        """Images forwarded and backwarded, an image of the target; None where unknown."""
        return mean_of_all([_passes(run) for run in self.runs])

    @property
    def seconds(self) -> float | None:
        """Seconds of adaptation, mean over runs; None where unknown, or of several machines."""
        found = [run["cost"].get("adapt_seconds") for run in self.runs]
        return mean_of_all(found) if len(machines_of(self.runs)) == 1 else None

    @property
    def memory(self) -> float | None:
        """Peak memory of the steps in MiB, the largest over runs; None where unknown."""
        found = [run["cost"].get("step_memory_bytes") for run in self.runs]
        known = [value for value in found if value is not None]
        return max(known) / MIB if known and len(known) == len(found) else None


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
    line.values = {n: v for n, c in cells.items() if (v := value_of(c)) is not None}
    found = cells.get(metric) or next(iter(cells.values()), None)
    if found is None:
        return line
    remarks = str(found["remark"]).split("; ")
    line.loses = BELOW_SOURCE in remarks  # a mark of its own
    line.note = str(found["note"])
    line.remark = "; ".join(said for said in remarks if said != BELOW_SOURCE)
    line.selection = str(found["selection"])
    if metric in cells:
        line.diff = difference_of(found, "diff", found["verdict"])
        line.best = difference_of(found, "best", found["best_verdict"])
        line.best_name, line.gain = text_of(found["best_baseline"]), number_of(found["gain"])
    return line


def _kind(row: Row, runs: list[Record], info: MethodInfo) -> str:
    if info.is_bound(row.method, runs):
        return "bound"
    return "baseline" if row.method in info.baselines else "method"


def _passes(run: Record) -> float | None:
    cost = run["cost"]
    if "images_forward" not in cost or "images_backward" not in cost:
        return None
    whole = [row for row in run["scores"] if row["segment"] == "all" and row["n"]]
    # most scores of a segmentation count pixels; this one counts frames
    frames = [row["n"] for row in whole if row["metric"] == "unlabelled"]
    images = frames or [row["n"] for row in whole]
    return (cost["images_forward"] + cost["images_backward"]) / max(images) if images else None
