"""The leaderboard's lines as a page shows them: tabs of blocks of lines."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from dabench.board.leaderboard import Row
from dabench.board.page import words
from dabench.board.records import OPTIONAL, Record
from dabench.board.stats import MIN_PAIRS
from dabench.registry import primary_metric

#: metrics that have a column beside the one that ranks; where there are many lines
FURTHER, FURTHER_COMPACT = 9, 2
_BUDGET = ("image_size", "backbone", "weights", "epochs", "batch_size", "source_epochs", "freeze")
_VALUES = ("mean", "sd", "min", "max", "ci_low", "ci_high", "n")
_MORE = ("diff_mean", "diff_low", "diff_high", "diff_n", "verdict", "note", "seeds")
_ROW = ("column", "method", "variant", "version", "metric")


@dataclass(frozen=True)
class Value:
    """A metric of a line over seeds; None = a hole."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int
    is_range: bool

    @property
    def interval(self) -> str:
        """What stands behind the mean: a 95 % interval, or with few seeds the range."""
        if self.is_range and self.low is not None:
            return f"{words.number(self.low)} – {words.number(self.high)}"
        return words.span(self.low, self.high)


@dataclass
class Line:
    """A row of a block: runs that differ in their seed alone.

    Attributes:
        number: of the cell, by which the page's data name its runs.
        main: the method as it stands, or nearest to it: no ablation.
        values: by metric; holes are left out.
        marks: what a reader must know (reconstruction, extras, upper bound).
    """

    number: int
    method: str
    variant: str
    version: str
    runs: list[Record]
    note: str = ""
    seeds: str = ""
    few: bool = False
    main: bool = True
    values: dict[str, Value] = field(default_factory=dict)
    diff: tuple[float | None, float | None, float | None] = (None, None, None)
    verdict: str = ""

    @property
    def name(self) -> str:
        """Method and variant."""
        return f"{self.method} {self.variant}".strip()

    @property
    def kind(self) -> str:
        """``baseline``, ``bound`` or ``method``."""
        plain = self.method.removesuffix("+bn")
        return {"source": "baseline", words.UPPER_BOUND: "bound"}.get(plain, "method")

    @property
    def reconstruction(self) -> bool:
        """Whether the paper's own code or text was not at hand."""
        return any(run["reconstruction"] for run in self.runs)

    @property
    def extras(self) -> list[str]:
        """What was granted beyond the protocol."""
        return sorted({name for run in self.runs for name in run["extras"]})

    @property
    def label(self) -> str:
        """The name in a chart; a reconstruction never stands under the bare name."""
        return f"{self.name} (rec.)" if self.reconstruction else self.name

    @property
    def sign(self) -> str:
        """The verdict's sign, or nothing."""
        return words.SIGNS.get(self.verdict, "")

    @property
    def passes(self) -> float | None:
        """Images forwarded and backwarded, an image of the target; None where unknown."""
        found = [p for p in map(_passes, self.runs) if p is not None]
        return math.fsum(found) / len(found) if found else None

    @property
    def seconds(self) -> float | None:
        """Seconds of adaptation, in the mean over runs."""
        found = [
            run["cost"]["adapt_seconds"] for run in self.runs if "adapt_seconds" in run["cost"]
        ]
        return math.fsum(found) / len(found) if found else None


@dataclass
class Block:
    """A column of the leaderboard: one task under one budget.

    Attributes:
        key: of the column.
        title: data set, task, and the options that part it from its neighbours.
        metric: the one that ranks.
        metrics: the further ones.
    """

    key: str
    spec: Mapping[str, Any]
    metric: str
    metrics: list[str]
    lines: list[Line]
    title: str = ""
    charts: list[Any] = field(default_factory=list)
    brief: bool = False

    @property
    def anchor(self) -> str:
        """A name for links within the page."""
        return "c-" + self.key.rpartition("/")[2]

    @property
    def main(self) -> list[Line]:
        """The lines without ablations."""
        return [line for line in self.lines if line.main]

    @property
    def best(self) -> Line | None:
        """The line that ranks first; neither an ablation nor the upper bound ranks."""
        ranked = [ln for ln in self.main if ln.kind != "bound" and self.metric in ln.values]
        return max(ranked, key=lambda line: line.values[self.metric].mean, default=None)

    @property
    def budget(self) -> str:
        """What every row may spend, in words."""
        spec = self.spec
        parts = [f"{spec['image_size']} px", str(spec["backbone"]), f"weights {spec['weights']}"]
        parts += [f"{spec['epochs']} epochs", f"batch {spec['batch_size']}"]
        parts += [f"{spec['source_epochs']} source epochs"]
        parts += [f"{spec['freeze']} stages frozen"] if spec["freeze"] else []
        return " · ".join(parts)

    @property
    def options(self) -> str:
        """All options of the protocol."""
        return " · ".join(f"{n} {v}" for n, v in sorted(options(self.spec).items()))


def blocks(
    frame: pd.DataFrame, groups: Mapping[str, Mapping[Row, list[Record]]], *, compact: bool
) -> list[Block]:
    """Return a block a column, in the leaderboard's order.

    Args:
        frame: ``board.leaderboard.table``.
        groups: ``board.leaderboard.grouped`` of the same records.
        compact: keep few metrics.
    """
    most = FURTHER_COMPACT if compact else FURTHER
    found: list[Block] = []
    shown: dict[str, list[str]] = {}
    for key in sorted(groups):
        runs = groups[key]
        spec = next(iter(runs.values()))[0]["spec"]
        metric = primary_metric(spec["protocol"], spec["dataset"])
        known = {_key(row) for group in runs.values() for run in group for row in run["scores"]}
        shown[key] = words.headline(known, metric, most)
        found.append(Block(key, spec, metric, shown[key], []))
    numbers = _cells(frame, {b.key: {b.metric, *b.metrics} for b in found})
    count = 0
    for block in found:
        for row, group in groups[block.key].items():
            cell = numbers.get((block.key, row.label, row.variant, row.version), {})
            block.lines.append(_line(count, row, group, cell, block.metric))
            count += 1
        _finish(block)
    entitle(found)
    # the pair of domains in full stands before its variants
    return sorted(found, key=lambda b: (_task(b.spec), -len(b.main), -len(b.lines), b.title))


def entitle(found: Sequence[Block]) -> None:
    """Give every block a title: what it shares with all blocks of its protocol is left out."""
    by_protocol: dict[str, list[Block]] = defaultdict(list)
    for block in found:
        by_protocol[block.spec["protocol"]].append(block)
    for group in by_protocol.values():
        varying = _varying([options(block.spec) for block in group])
        by_task: dict[tuple[str, str, str], list[Block]] = defaultdict(list)
        for block in group:
            by_task[_task(block.spec)].append(block)
        for task, same in by_task.items():
            budgets = _varying([{n: b.spec.get(n) for n in (*_BUDGET, *OPTIONAL)} for b in same])
            for block in same:
                block.title = _title(task, block.spec, varying, budgets)


def options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the protocol's options that are set, and those of a source model of its own."""
    found = {n: v for n, v in spec["protocol_options"].items() if v is not None}
    return found | {n: spec[n] for n in OPTIONAL if spec.get(n) is not None}


def _title(
    task: tuple[str, str, str], spec: Mapping[str, Any], varying: set[str], budgets: set[str]
) -> str:
    dataset, source, target = task
    parts = [dataset, f"{source} → {target}" if source != target else source]
    mine = options(spec) | {name: spec.get(name) for name in budgets}
    parts += [
        f"{name.replace('_', ' ')} {mine[name]}"
        for name in sorted({*varying, *budgets})
        if mine.get(name) not in (None, "default")
    ]
    return " · ".join(parts)


def _task(spec: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(spec["dataset"]), str(spec["source"]), str(spec["target"])


def _varying(found: Sequence[Mapping[str, Any]]) -> set[str]:
    names = {name for each in found for name in each}
    return {name for name in names if len({repr(each.get(name)) for each in found}) > 1}


def _key(row: Mapping[str, Any]) -> str:
    return row["metric"] if row["segment"] == "all" else f"{row['metric']}/{row['segment']}"


def _cells(
    frame: pd.DataFrame, wanted: Mapping[str, set[str]]
) -> dict[tuple[str, str, str, str], dict[str, dict[str, Any]]]:
    """Return the frame's lines by row and metric, of the metrics that are shown."""
    metrics = {name for names in wanted.values() for name in names}
    kept = frame.loc[frame["metric"].isin(metrics), [*_ROW, *_VALUES, *_MORE]]
    found: dict[tuple[str, str, str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for values in zip(*(kept[name].tolist() for name in kept.columns), strict=True):
        line = dict(zip(kept.columns, values, strict=True))
        if line["metric"] in wanted.get(line["column"], ()):
            row = (line["column"], line["method"], line["variant"], line["version"])
            found[row][line["metric"]] = line
    return found


def _line(
    number: int, row: Row, runs: list[Record], cell: Mapping[str, Mapping[str, Any]], metric: str
) -> Line:
    line = Line(number, row.label, row.variant, row.version, runs)
    for name, values in cell.items():
        found = _value(values)
        if found is not None:
            line.values[name] = found
        line.note, line.seeds = str(values["note"] or ""), str(values["seeds"])
    main = cell.get(metric, {})
    low, mean, high = (_number(main.get(f"diff_{name}")) for name in ("low", "mean", "high"))
    line.diff = (low, mean, high)
    line.verdict = main["verdict"] if isinstance(main.get("verdict"), str) else ""
    return line


def _value(cell: Mapping[str, Any]) -> Value | None:
    mean = _number(cell["mean"])
    if mean is None:
        return None
    few = int(cell["n"]) < MIN_PAIRS
    ends = ("min", "max") if few else ("ci_low", "ci_high")
    low, high = (_number(cell[name]) for name in ends) if cell["n"] > 1 else (None, None)
    return Value(mean, _number(cell["sd"]), low, high, int(cell["n"]), few)


def _finish(block: Block) -> None:
    """Mark ablations and rows with fewer seeds, and put the best first."""
    fewest: dict[str, int] = {}
    for line in block.lines:
        length = len(line.variant.split())
        fewest[line.method] = min(fewest.get(line.method, length), length)
    most = max((len(line.runs) for line in block.lines), default=0)
    for line in block.lines:
        line.main = len(line.variant.split()) == fewest[line.method]
        line.few = len(line.runs) < most
    block.lines.sort(key=lambda line: (-_rank(line, block.metric), line.name))


def _rank(line: Line, metric: str) -> float:
    return line.values[metric].mean if metric in line.values else -math.inf


def _passes(run: Record) -> float | None:
    cost = run["cost"]
    if "images_forward" not in cost or "images_backward" not in cost:
        return None
    whole = [row for row in run["scores"] if row["segment"] == "all" and row["n"]]
    # most scores of a segmentation count pixels; this one counts frames
    frames = [row["n"] for row in whole if row["metric"] == "unlabelled"]
    images = frames or [row["n"] for row in whole]
    return (cost["images_forward"] + cost["images_backward"]) / max(images) if images else None


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def names(lines: Iterable[Line]) -> list[str]:
    """Return the names of lines, each once, in order."""
    return list(dict.fromkeys(line.name for line in lines))
