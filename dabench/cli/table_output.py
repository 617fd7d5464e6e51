"""What ``dabench leaderboard`` prints of its tables."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dabench.cli.output import number, print_columns, say, shortened
from dabench.registry.method_info import row_marks

if TYPE_CHECKING:
    import pandas as pd

_Line = dict[Any, Any]
_PLACE = ("protocol", "dataset", "metric")
#: what a printed row is made of
_SHOWN = (
    *("protocol", "column", "method", "variant", "version", "extras", "oracle"),
    *("reconstruction", "target_tuned"),
    *("mean", "sd", "n"),
    *("diff_mean", "diff_low", "diff_high", "diff_n", "verdict", "note", "remark", "selection"),
)


def show_table(frame: pd.DataFrame) -> None:
    """Print the metric that ranks, a block for each column of the leaderboard."""
    for title, shown in _blocks(frame):
        say()
        say(title)
        rows = [["method", "mean", "sd", "n", f"against {frame.iloc[0]['against']} [95 %]", ""]]
        rows += map(_table_row, shown)
        width = shutil.get_terminal_size((120, 24)).columns
        print_columns([[*row[:5], row[5][:width]] for row in rows])
        for name, *_, remark in rows:  # a refusal says what to do at its end
            if remark.startswith("refused") and len(remark) > width:
                say(f"  {name}: {remark}")


def show_rules(frame: pd.DataFrame, rules: Sequence[str]) -> None:
    """Print the mean of the metric that ranks by rule of selection, a block for each column."""
    for title, shown in _blocks(frame):
        if all(math.isnan(line["mean"]) for line in shown):
            continue
        by_row: dict[str, dict[str, float]] = {}
        for line in shown:
            by_row.setdefault(_row_name(line), {})[line["selection"]] = line["mean"]
        say()
        say(title)
        rows = [["method", *rules]]
        rows += [[name, *(number(found.get(r)) for r in rules)] for name, found in by_row.items()]
        print_columns(rows)
    say()
    for reason in sorted({*frame.loc[frame["n"] == 0, "note"]} - {""}):
        say(f"a hole: {reason}")
    if "oracle" in rules:
        say("oracle: the target's labels chose the epoch; an optimistic bound, no result")


def _blocks(frame: pd.DataFrame) -> Iterator[tuple[str, list[_Line]]]:
    """Yield title and lines of the metric that ranks, by column."""
    from dabench.registry import primary_metric

    protocols, datasets, metrics = (frame[n].to_numpy(object) for n in _PLACE)
    ranks = {place: primary_metric(*place) for place in zip(protocols, datasets, strict=True)}
    wanted = [ranks[p, d] == m for p, d, m in zip(protocols, datasets, metrics, strict=True)]
    shown = frame.loc[wanted, list(_SHOWN)]
    found: dict[tuple[str, str], list[_Line]] = {}
    versions: dict[tuple[str, str, str], set[str]] = {}
    # cell by cell a frame is slow to read
    for values in zip(*(shown[n].to_numpy(object).tolist() for n in shown), strict=True):
        kept = dict(zip(shown.columns, values, strict=True))
        found.setdefault((kept["protocol"], kept["column"]), []).append(kept)
        versions.setdefault((kept["column"], kept["method"], kept["variant"]), set()).add(
            kept["version"]
        )
    for (_, column), lines in found.items():
        for line in lines:
            several = len(versions[column, line["method"], line["variant"]]) > 1
            line["told"] = f" v{line['version']}" if several else ""
    for head in frame.drop_duplicates(["protocol", "column"]).to_dict("records"):
        where = shortened(f"{head['dataset']} {head['task']}", 120)
        metric = ranks[head["protocol"], head["dataset"]]
        title = f"{head['protocol']} · {where} · {metric} ({_budget(head)})"
        yield title, found.get((head["protocol"], head["column"]), [])


def _budget(head: _Line) -> str:
    """Return all that tells a column from others of its data."""
    parts = [f"{head['image_size']} px", head["backbone"], f"weights {head['weights']}"]
    parts += [f"{name.replace('_', ' ')} {head[name]}" for name in ("epochs", "batch_size")]
    parts += [f"source epochs {head['source_epochs']}"]
    parts += [f"freeze {head['freeze']}"] if head["freeze"] else []
    parts += [head[name] for name in ("protocol_options", "source_options") if head[name]]
    return ", ".join(map(str, parts))


def _row_name(line: _Line) -> str:
    name = shortened(f"{line['method']} {line['variant']}".strip()) + str(line["told"])
    marks = row_marks(
        str(line["extras"]).split(),
        reconstruction=bool(line["reconstruction"]),
        bound=bool(line["oracle"]),
        target_tuned=bool(line["target_tuned"]),
    )
    return name + (f" ({', '.join(marks)})" if marks else "")


def _table_row(line: _Line) -> list[str]:
    from dabench.board.statistics.seeds import MIN_PAIRS

    difference = number(line["diff_mean"], signed=True)
    # an interval over fewer is no evidence, and reads as if it were
    if line["diff_n"] >= MIN_PAIRS and number(line["diff_low"]) != "-":
        low, high = number(line["diff_low"], signed=True), number(line["diff_high"], signed=True)
        difference += f" [{low}, {high}]"
    verdict = line["verdict"] if isinstance(line["verdict"], str) else ""
    if 0 < line["diff_n"] < line["n"] and "pair" not in verdict:
        verdict += f" ({line['diff_n']:.0f} of {line['n']} seeds paired)"
    remark = line["note"] or "; ".join(text for text in (verdict, line["remark"]) if text)
    return [
        _row_name(line),
        number(line["mean"]),
        number(line["sd"]),
        str(line["n"]),
        difference,
        remark,
    ]
