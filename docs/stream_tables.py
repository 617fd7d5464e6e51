"""Tables of streams, for ``tables.py``.

Kinds, with the parameters ``methods=``, ``norms=`` and ``with=`` of ``stream_rows.rows_of``:
    stream     one line a row: ``common=lr,replay`` (told below the table where a method has one
               value), ``rows=ROW,ROW`` (exact: ``conda~grad_norm=clip~lr=0.01``), ``against=ROW``;
               ``collapsed`` is a column only where a run collapsed
    passes     what the rows of such a table cost, with the same parameters

``seeds=0,1,2`` are those that should be there; without it, all that are met in the table.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import pandas as pd
from record_tables import below_source, marked
from stream_rows import RANKED, RecordTables, Row, lines_of, rows_of, short_names
from table_cells import UPPER_BOUND, Params, difference, listed, markdown, number

from dabench.board.statistics.seeds import MIN_PAIRS
from dabench.registry.method_info import row_marks
from dabench.store.records import Record, score_map

WORST = "accuracy/worst-window"
_COLLAPSED = "collapsed"
_MEANS = (RANKED, "accuracy", WORST, "forgetting", _COLLAPSED)


def stream(tables: RecordTables, params: Params) -> str:
    """One line a row: scores, and the difference from the source model."""
    against = params.get("against", "source")
    rows, frame = _wanted(tables, params, against)
    seeds = seeds_of(params, rows)
    names, caption = short_names(rows, listed(params, "common"))
    judged = max(len(row.runs) for row in rows) >= MIN_PAIRS
    fell = any(row.diverged or any(row.values(_COLLAPSED)) for row in rows)
    means = [metric for metric in _MEANS if fell or metric != _COLLAPSED]
    head = ["row", "n", RANKED, "sd" if judged else "range", *means[1:]]
    table = [[*head, f"{RANKED} − `{against}`"]]
    for row in rows:
        count = str(len(seeds)) if len(row.runs) == len(seeds) else ended(row, seeds)
        lines = lines_of(frame, row)
        cells = _scores(lines, judged, means)
        below = [] if lines.empty else below_source(lines.T[RANKED])
        table.append([marked(names[row.name], [*_marks(row), *below]), count, *cells])
    told = [_left_out(caption), "" if fell else "No run collapsed.", broken_off(rows)]
    return "\n\n".join([markdown(table), " ".join(t for t in told if t)]).strip()


def passes(tables: RecordTables, params: Params) -> str:
    """One line a row: images passed forward and backward, for each image of the stream."""
    rows, _ = _wanted(tables, params)
    names, caption = short_names(rows, listed(params, "common"))
    table = [["row", "forwards", "backwards"]]
    for row in rows:
        cells = [_passes(row, cost) for cost in ("images_forward", "images_backward")]
        table.append([marked(names[row.name], _marks(row)), *cells])
    return "\n\n".join([markdown(table), _left_out(caption)]).strip()


def _wanted(
    tables: RecordTables, params: Params, against: str = "source"
) -> tuple[list[Row], pd.DataFrame]:
    """Return the rows of a table, of ``rows=`` where it names some, and the leaderboard."""
    rows, frame = rows_of(tables, params, against)
    wanted = listed(params, "rows")
    unknown = sorted(set(wanted) - {row.name for row in rows})
    if unknown or not rows:
        raise ValueError(f"{params}: no row {', '.join(unknown) or 'fits'}")
    return [row for row in rows if not wanted or row.name in wanted], frame


def _left_out(caption: str) -> str:
    return f"Options left out of the names: {caption}." if caption else ""


def seeds_of(params: Params, rows: Iterable[Row]) -> set[int]:
    """Return the seeds that every row should have."""
    named = {int(seed) for seed in listed(params, "seeds")}
    met = {seed for row in rows for seed in row.seeds}
    return named or met


def ended(row: Row, seeds: set[int]) -> str:
    """Return how many runs ended, and how many are neither among these nor diverged."""
    missing = len(seeds - row.seeds)
    return f"{len(row.runs)} of {len(seeds)}" + (f"; {missing} missing" if missing else "")


def _scores(lines: pd.DataFrame, judged: bool, metrics: Sequence[str]) -> list[str]:
    """Return the scores' cells (the ranked one's spread after it) and the difference."""
    if lines.empty:
        return ["–"] * (len(metrics) + 2)
    head, means = lines.T.to_dict()[RANKED], lines["mean"].to_dict()
    spread = number(head["sd"]) if judged else f"{number(head['min'])}–{number(head['max'])}"
    first, *others = (number(means.get(metric)) for metric in metrics)
    return [first, spread, *others, difference(head)]


def _passes(row: Row, cost: str) -> str:
    """Return the images passed for each image of the stream, mean over runs."""
    found = [run["cost"][cost] / _images(run) for run in row.runs.values()]
    return f"{statistics.fmean(found):.2f}" if found else "–"


def _images(run: Record) -> int:
    if "accuracy" not in score_map(run):
        raise ValueError(f"run {run['run_id']} has no accuracy over its stream")
    return next(
        int(s["n"]) for s in run["scores"] if (s["metric"], s["segment"]) == ("accuracy", "all")
    )


def _marks(row: Row) -> list[str]:
    """Return what a reader must know beside a name."""
    run = next(iter(row.runs.values()), {})
    kind = {"reconstruction": bool(run.get("reconstruction")), "bound": row.label == UPPER_BOUND}
    kind["target_tuned"] = any(own.get("target_tuned") for own in row.runs.values())
    return row_marks(run.get("extras", []), **kind)


def broken_off(rows: Iterable[Row]) -> str:
    """Say what "k of n" means, where runs diverged."""
    if not any(row.diverged for row in rows):
        return ""
    return (
        '"k of n": k runs ended; unless called missing, the others diverged (logits not finite), '
        "have no scores, and count as collapsed."
    )
