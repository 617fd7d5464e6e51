"""What ``dabench run`` and ``dabench show`` print of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dabench.board.statistics.holes import mean_of_all
from dabench.cli.output import number, print_columns, say, say_json, say_lines
from dabench.store.records import Record, score_map
from dabench.store.store import Store

if TYPE_CHECKING:
    from dabench.engine.run import RunResult


def show_results(
    results: Sequence[RunResult], store: Store, as_json: bool, *, several: bool
) -> None:
    """Print the end of ``dabench run``: one JSON value, or a table and where things lie."""
    if as_json:
        objects = [
            {"run_id": r.run_id, "record": str(r.path), "scores": score_map(r.record)}
            | ({"model": str(r.model)} if r.model is not None else {})
            for r in results
        ]
        say_json(objects if several else objects[0])
        return
    print_columns(_result_rows(results, store))
    for result in results:
        seed = f"seed {result.record['spec']['seed']} " if several else ""
        there = " (was already there; --force runs again)" if result.existed else ""
        say(f"{seed}record: {result.path}{there}")
        say(f"{seed}tensorboard: {result.board_dir}")
        if result.model is not None:
            say(f"{seed}model: {result.model} (dabench.load_model reads it)")


def never_learned(record: Record) -> bool:
    """Say whether a method with a learning rate made no update in the whole run."""
    trains = "lr" in record["spec"]["method_options"]
    return trains and record.get("cost", {}).get("images_backward") == 0


def _result_rows(results: Sequence[RunResult], store: Store) -> list[list[str]]:
    """Return the table: metric, mean over the seeds, and the paired mean against ``source``."""
    from dabench.board.tables.source_run import source_run

    spec = results[0].record["spec"]
    known = [record for _, record in store.all(spec["protocol"], spec["dataset"])]
    is_source = spec["method"] == "source" and spec["init"] == "source"
    pairs = [
        (score_map(r.record), None if is_source else _scores(source_run(known, r.record)))
        for r in results
    ]
    compared = [(ours, base) for ours, base in pairs if base]
    values = "value" if len(results) == 1 else f"mean of {len(results)} seeds"
    against = "against source"
    if compared and len(compared) < len(results):
        against += f" ({len(compared)} seeds)"
    rows = [["metric", values, *([against] if compared else [])]]
    for name in pairs[0][0]:
        row = [name, number(mean_of_all([ours.get(name) for ours, _ in pairs]))]
        if compared:
            row.append(
                number(
                    mean_of_all([_minus(o.get(name), b.get(name)) for o, b in compared]),
                    signed=True,
                )
            )
        rows.append(row)
    return rows


def _scores(record: Record | None) -> dict[str, float | None] | None:
    return None if record is None else score_map(record)


def _minus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left - right


def show_record(path: Path, record: Record, as_json: bool) -> None:
    """Print a run: what it was, where it ran, what came out."""
    if as_json:
        say_json(record, indent=1)
        return
    say(f"run {record['run_id']}")
    say(f"record: {path}")
    if record.get("failed"):
        say("FAILED")
        say_lines(str(record.get("traceback", "")))
    for title in ("spec", "ids", "versions", "environment", "cost"):
        part = record.get(title) or {}
        if part:
            say(f"{title}:")
            print_columns([[f"  {name}", _plain(value)] for name, value in part.items()])
    if record.get("scores"):
        say("scores:")
        rows = [[f"  {key}", number(value)] for key, value in score_map(record).items()]
        print_columns(rows)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={item}" for name, item in value.items()) or "-"
    return str(value)
