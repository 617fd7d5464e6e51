"""The tables of the pages as Markdown, from one set of records; for ``tables.py``.

Kinds: ``rows``, ``pairs``, ``variants``, ``sweep``, ``seeds``.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence

import pandas as pd
from table_cells import Params, difference, markdown, number, reading_order, row_of

from dabench.board.statistics.seeds import MIN_PAIRS
from dabench.board.tables.column import BELOW_SOURCE
from dabench.board.tables.harm import REFERENCES, SHARE_BELOW
from dabench.board.tables.leaderboard import table
from dabench.registry.method_info import registered_info, row_marks
from dabench.store.identity import column_of
from dabench.store.records import Record, score_map

#: do no harm, beside the figures of a dense stream: metric -> head of its column
_HARM = {f"{SHARE_BELOW}/{name}": f"conditions below `{name}`" for name in REFERENCES}
#: parameters that shape a table; all others select
SHAPING = frozenset(
    {"metrics", "against", "pairs", "row", "curves", "option", "values", "rows", "also"}
    | {"methods", "norms", "with", "common", "seeds", "reference", "file", "fixed", "runs"}
)


class Tables:
    """Markdown tables over one set of records, and what is known of runs that failed."""

    def __init__(self, records: list[Record], failed: Sequence[Record] = ()) -> None:
        self.records, self.failed = records, list(failed)
        self._frames: dict[str, pd.DataFrame] = {}

    def frame(self, params: Params, against: str = "source") -> pd.DataFrame:
        """Return the leaderboard's lines that ``params`` select; they must be of one column."""
        found = self.lines(against)
        for name, value in {"source_options": "", **params}.items():
            if name in SHAPING or value == "any":
                continue
            if name in found.columns:
                found = found[found[name].astype(str) == value]
            elif value == "-":  # an option that the column does not name
                token = rf"(?:^| ){re.escape(name)}="
                found = found[~found["protocol_options"].str.contains(token)]
            else:
                token = rf"(?:^| ){re.escape(f'{name}={value}')}(?: |$)"
                found = found[found["protocol_options"].str.contains(token)]
        if found["column"].nunique() != 1:
            raise ValueError(f"{params}: {found['column'].nunique()} columns fit, expected one")
        return found

    def lines(self, against: str = "source") -> pd.DataFrame:
        """Return all lines of the leaderboard, with differences to ``against``."""
        if against not in self._frames:
            self._frames[against] = table(self.records, against, registered_info())
        return self._frames[against]

    def only(self, seeds: set[int]) -> Tables:
        """Return the tables of some seeds."""
        parts = (self.records, self.failed)
        return Tables(*([r for r in part if r["spec"]["seed"] in seeds] for part in parts))

    def rows(self, params: Params) -> str:
        """One line a row, ordered as read: baselines, methods, upper bound.

        ``runs=N``: the rows with so many, and no others.
        """
        metrics, against = params["metrics"].split(","), params.get("against", "source")
        frame = named(self.frame(params, against))
        also = [name.replace("~", " ") for name in params.get("also", "").split(",")]
        frame = frame[(frame["variant"] == "") | frame["row"].isin(also)]
        if "runs" in params:
            frame = frame[frame["n"] == int(params["runs"])]
        first = frame[frame["metric"] == metrics[0]].set_index("row")
        judged = int(first["n"].max()) >= MIN_PAIRS
        several = int(first["n"].max()) > 1
        spread = ["sd" if judged else "range"] if several else []
        harm = [name for name in _HARM if name in set(frame["metric"])]  # dense streams have it
        heads = [*metrics[1:], *(_HARM[name] for name in harm)]
        lines = [["row", "n", metrics[0], *spread, *heads, f"{metrics[0]} − `{against}`"]]
        for row in sorted(first.index, key=reading_order):
            head = first.loc[row]
            values = frame[frame["row"] == row].set_index("metric")["mean"]
            extent = (
                number(head["sd"]) if judged else f"{number(head['min'])}–{number(head['max'])}"
            )
            extents = [extent] if several else []
            name = marked(row, [*line_marks(head), *below_source(head)])
            shown = [number(values.get(metric)) for metric in [*metrics, *harm]]
            lines.append([name, str(head["n"]), shown[0], *extents, *shown[1:], difference(head)])
        return markdown(lines)

    def pairs(self, params: Params) -> str:
        """Paired differences of named rows."""
        metrics = params["metrics"].split(",")
        lines = [["pair", *(f"{metric} difference" for metric in metrics)]]
        for pair in params["pairs"].split(","):
            ours, theirs = pair.replace("~", " ").split(":")
            frame = named(self.frame(params, theirs))
            frame = frame[frame["row"] == ours].set_index("metric")
            shown = [difference(frame.loc[metric]) for metric in metrics]
            lines.append([f"`{ours}` − `{theirs}`", *shown])
        return markdown(lines)

    def variants(self, params: Params) -> str:
        """Ablations: each variant of a row, paired with its defaults."""
        metrics, row = params["metrics"].split(","), params["row"]
        curves = [name for name in params.get("curves", "").split(",") if name]
        frame = self.frame(params, row)
        frame = frame[frame["method"] == row]
        key = frame["column"].iloc[0]
        titles = [name.replace("_", " ") for name in curves]
        lines = [[f"`{row}` with", "n", *metrics, *titles, f"{metrics[0]} − defaults"]]
        for variant in sorted(frame["variant"].unique()):
            chosen = frame[frame["variant"] == variant].set_index("metric")
            head = chosen.loc[metrics[0]]
            shown = [number(chosen["mean"].get(metric)) for metric in metrics]
            shown += [self._last(key, row, variant, name) for name in curves]
            name = f"`{variant}`" if variant else "defaults"
            lines.append([name, str(head["n"]), *shown, difference(head)])
        return markdown(lines)

    def sweep(self, params: Params) -> str:
        """Mean of one metric: a line a row, a column a value of a protocol option."""
        metric, rows, values = (
            params["metrics"],
            params["rows"].split(","),
            params["values"].split(","),
        )
        frames = [self.frame({**params, params["option"]: value}) for value in values]
        lines = [[f"{metric} at {params['option']}", *values]]
        for row in rows:
            shown = []
            for frame in frames:
                fitting = frame[(frame["method"] == row) & (frame["variant"] == "")]
                cell = fitting[fitting["metric"] == metric].iloc[0]
                shown.append(f"{number(cell['mean'])} ± {number(cell['sd'])}")
            lines.append([f"`{row}`", *shown])
        return markdown(lines)

    def seeds(self, params: Params) -> str:
        """Standard deviation when both seeds vary, the adaptation's alone, the source's alone.

        ``fixed`` is the seed that stays where the other varies alone; runs without a seed of the
        source's own vary both. Parameters select by the spec and by the protocol's options.
        """
        metric, fixed = params["metrics"], int(params["fixed"])
        pools: dict[str, dict[tuple[int, int], float]] = {
            "both": {},
            "adaptation": {},
            "source": {},
        }
        columns = set()
        for record in self.records:
            spec = record["spec"]
            known = spec | spec["protocol_options"] | {"task": f"{spec['source']}→{spec['target']}"}
            if row_of(record) != (params["row"], "") or any(
                str(known.get(name)) != value
                for name, value in params.items()
                if name not in SHAPING
            ):
                continue
            columns.add(re.sub(r"-s\d+$", "", column_of(record)))
            seeds = (spec["seed"], spec.get("source_seed", spec["seed"]))
            alone = "adaptation" if seeds[1] == fixed else "source"
            kinds = ["both"] if "source_seed" not in spec else [alone]
            for kind in [*pools] if set(seeds) == {fixed} else kinds:
                value = score_map(record)[metric]
                pools[kind][seeds] = math.nan if value is None else value
        if len(columns) != 1:
            raise ValueError(f"{params}: {len(columns)} columns fit, expected one")
        lines = [["seeds that vary", "n", f"mean {metric}", "sd"]]
        for kind, found in pools.items():
            values = list(found.values())
            # a mean never skips a seed, and one has no spread
            holed = len(values) < 2 or any(map(math.isnan, values))
            spread = math.nan if holed else statistics.stdev(values)
            shown = [number(statistics.fmean(values) if values else math.nan), number(spread)]
            lines.append([kind, str(len(values)), *shown])
        return markdown(lines)

    def _last(self, key: str, row: str, variant: str, metric: str) -> str:
        """Mean over runs, and over branches where there are several, of a curve's last value."""
        found = []
        for record in self.records:
            if row_of(record) == (row, variant) and column_of(record) == key:
                lines = [line for line in record["curves"] if line["metric"] == metric]
                found += {line["segment"]: line["value"] for line in lines}.values()
        return number(statistics.fmean(found)) if found and None not in found else "–"


def line_marks(head: pd.Series) -> list[str]:
    """Return what stands beside the name of a leaderboard's line in every table."""
    kind = {"reconstruction": bool(head["reconstruction"]), "bound": bool(head["oracle"])}
    return row_marks(head["extras"].split(), **kind, target_tuned=bool(head["target_tuned"]))


def marked(row: str, marks: Sequence[str]) -> str:
    """Return a row's name as code, its marks behind it."""
    return f"`{row}`" + (f" ({', '.join(marks)})" if marks else "")


def below_source(head: pd.Series) -> list[str]:
    """Return the mark of a stream's row that loses to the source model, if it does."""
    return [BELOW_SOURCE] if BELOW_SOURCE in str(head["remark"]).split("; ") else []


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the whole name of a row: method and changed options."""
    return frame.assign(row=(frame["method"] + " " + frame["variant"]).str.strip())
