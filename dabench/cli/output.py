"""What the command line prints: help of a method's options, results, records, tables."""

from __future__ import annotations

import argparse
import inspect
import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dabench.errors import StoreError
from dabench.store.records import Record, Store, score_map

if TYPE_CHECKING:
    import pandas as pd

    from dabench.engine.run import RunResult

#: how many damaged files are named one by one
_NAMED = 20


def add_option_help(parser: argparse.ArgumentParser, given: Mapping[str, Any]) -> None:
    """Add the options of the named method and protocol to the parser's help."""
    from dabench import registry
    from dabench.config.spec import chosen

    if "method" in given:
        method, protocol, _ = chosen(given)
        cls = registry.method(method)
        _add_group(parser, f"hyper-parameters of {method}", "method", cls)
        _add_group(parser, f"options of {protocol}", "protocol", registry.protocol(protocol))
    elif "protocol" in given:
        name = given["protocol"]
        _add_group(parser, f"options of {name}", "protocol", registry.protocol(name))


def _add_group(parser: argparse.ArgumentParser, title: str, prefix: str, cls: type[Any]) -> None:
    from dabench.config.spec import signature_options

    group = parser.add_argument_group(title, None if signature_options(cls) else "none")
    for option in signature_options(cls):
        needed = option.default is inspect.Parameter.empty
        default = "needed" if needed else f"default {option.default}"
        text = f"{option.help} ({default}; {type_text(option.annotation)})".strip()
        group.add_argument(
            f"--{prefix}.{option.name}", metavar="VALUE", help=text.replace("%", "%%")
        )


def type_text(annotation: Any) -> str:
    """Return an annotation as a user reads it: ``float > 0``, ``jsd | ce``, ``int``."""
    import types
    import typing

    origin = typing.get_origin(annotation)
    parts = typing.get_args(annotation)
    if origin is typing.Annotated:
        return " ".join([type_text(parts[0]), *(_bound(extra) for extra in parts[1:])]).strip()
    if origin is typing.Literal:
        return " | ".join(str(part) for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_text(part) for part in parts)
    if annotation is type(None):
        return "none"
    return str(getattr(annotation, "__name__", annotation))


def _bound(extra: Any) -> str:
    """Return the bounds of a pydantic ``Field`` (or of one annotated-types object)."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [
        f"{sign} {getattr(item, name)}"
        for item in getattr(extra, "metadata", [extra])
        for name, sign in signs.items()
        if getattr(item, name, None) is not None
    ]
    return ", ".join(found)


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        print(
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        )


def short(name: str, most: int = 60) -> str:
    """Return a name on one line, cut where it is longer than ``most``."""
    from dabench.board.tables.markup import plain

    text = plain(name)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def number(value: float | None, *, signed: bool = False) -> str:
    """Return a fraction with four digits; a hole is a dash."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def warn_of_damage(problems: Sequence[str], *, strict: bool, more: str = "") -> None:
    """Name what was left out on stderr, the first ``_NAMED`` one by one.

    Args:
        problems: a line for every damaged record.
        strict: fail instead.
        more: ends the sentence that counts them.

    Raises:
        StoreError: ``strict``, and there is a damaged record.
    """
    from dabench.board.tables.markup import plain

    if strict and problems:
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StoreError(problems[0] + others)
    for problem in problems[:_NAMED]:
        print(f"warning: {plain(problem)}", file=sys.stderr)
    if problems:
        print(f"warning: {len(problems)} records left out{more}", file=sys.stderr)


def show_results(
    results: Sequence[RunResult], store: Store, as_json: bool, *, several: bool
) -> None:
    """Print the end of ``dabench run``: one JSON value, or a table and where things lie."""
    if as_json:
        objects = [
            {"run_id": r.run_id, "record": str(r.path), "scores": score_map(r.record)}
            for r in results
        ]
        print(json.dumps(objects if several else objects[0], ensure_ascii=False))
        return
    print_columns(_result_rows(results, store))
    for result in results:
        seed = f"seed {result.record['spec']['seed']} " if several else ""
        there = " (was already there; --force runs again)" if result.existed else ""
        print(f"{seed}record: {result.path}{there}")
        print(f"{seed}tensorboard: {result.board_dir}")


def _result_rows(results: Sequence[RunResult], store: Store) -> list[list[str]]:
    """Return the table: metric, mean over the seeds, and the paired mean against ``source``."""
    from dabench.board.tables.leaderboard import baseline

    spec = results[0].record["spec"]
    known = [record for _, record in store.all(spec["protocol"], spec["dataset"])]
    is_source = spec["method"] == "source" and spec["init"] == "source"
    pairs = [
        (score_map(r.record), None if is_source else _scores(baseline(known, r.record["spec"])))
        for r in results
    ]
    compared = [(ours, base) for ours, base in pairs if base]
    values = "value" if len(results) == 1 else f"mean of {len(results)} seeds"
    against = "against source"
    if compared and len(compared) < len(results):
        against += f" ({len(compared)} seeds)"
    rows = [["metric", values, *([against] if compared else [])]]
    for name in pairs[0][0]:
        row = [name, number(_mean([ours.get(name) for ours, _ in pairs]))]
        if compared:
            row.append(
                number(_mean([_minus(o.get(name), b.get(name)) for o, b in compared]), signed=True)
            )
        rows.append(row)
    return rows


def _scores(record: Record | None) -> dict[str, float | None] | None:
    return None if record is None else score_map(record)


def _minus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left - right


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; a hole in one value is a hole."""
    kept = [value for value in values if value is not None]
    return math.fsum(kept) / len(kept) if kept and len(kept) == len(values) else None


def show_record(path: Path, record: Record, as_json: bool) -> None:
    """Print a run: what it was, where it ran, what came out."""
    if as_json:
        print(json.dumps(record, indent=1, ensure_ascii=False))
        return
    print(f"run {record['run_id']}\nrecord: {path}")
    if record.get("failed"):
        print(f"FAILED\n{record.get('traceback', '')}")
    for title in ("spec", "ids", "versions", "environment", "cost"):
        part = record.get(title) or {}
        if part:
            print(f"{title}:")
            print_columns([[f"  {name}", _plain(value)] for name, value in part.items()])
    if record.get("scores"):
        print("scores:")
        rows = [[f"  {key}", number(value)] for key, value in score_map(record).items()]
        print_columns(rows)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={item}" for name, item in value.items()) or "-"
    return str(value)


def show_table(frame: pd.DataFrame) -> None:
    """Print the metric that ranks, a block for each column of the leaderboard."""
    for title, shown in _blocks(frame):
        print(f"\n{title}")
        rows = [["method", "mean", "sd", "n", f"against {frame.iloc[0]['against']} [95 %]", ""]]
        rows += [_table_row(line) for _, line in shown.iterrows()]
        width = shutil.get_terminal_size((120, 24)).columns
        print_columns([[*row[:5], row[5][:width]] for row in rows])


def show_rules(frame: pd.DataFrame, rules: Sequence[str]) -> None:
    """Print the mean of the metric that ranks by rule of selection, a block for each column."""
    for title, shown in _blocks(frame):
        if not shown["mean"].notna().any():
            continue
        by_row: dict[str, dict[str, float]] = {}
        for line in shown.to_dict("records"):
            by_row.setdefault(_row_name(line), {})[line["selection"]] = line["mean"]
        print(f"\n{title}")
        rows = [["method", *rules]]
        rows += [[name, *(number(found.get(r)) for r in rules)] for name, found in by_row.items()]
        print_columns(rows)
    print()
    for reason in sorted({*frame.loc[frame["n"] == 0, "note"]} - {""}):
        print(f"a hole: {reason}")
    if "oracle" in rules:
        print("oracle: the target's labels chose the epoch; an optimistic bound, no result")


def _blocks(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield title and lines of the metric that ranks, by column."""
    from dabench.registry import primary_metric

    for (protocol, _), block in frame.groupby(["protocol", "column"], sort=False):
        head = block.iloc[0]
        metric = primary_metric(str(protocol), str(head["dataset"]))
        where = short(f"{head['dataset']} {head['task']}", 120)
        title = f"{protocol} · {where} · {metric} ({_budget(head)})"
        yield title, block[block["metric"] == metric]


def _budget(head: pd.Series[Any]) -> str:
    """Return all that tells a column from others of its data."""
    parts = [f"{head['image_size']} px", head["backbone"], f"weights {head['weights']}"]
    parts += [f"{name.replace('_', ' ')} {head[name]}" for name in ("epochs", "batch_size")]
    parts += [f"source epochs {head['source_epochs']}"]
    parts += [f"freeze {head['freeze']}"] if head["freeze"] else []
    parts += [head[name] for name in ("protocol_options", "source_options") if head[name]]
    return ", ".join(map(str, parts))


def _row_name(line: Mapping[Any, Any] | pd.Series[Any]) -> str:
    name = short(f"{line['method']} {line['variant']}".strip())
    return name + (" (reconstruction)" if line["reconstruction"] else "")


def _table_row(line: pd.Series[Any]) -> list[str]:
    difference = number(line["diff_mean"], signed=True)
    if number(line["diff_low"]) != "-":
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
