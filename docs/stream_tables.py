"""Tables of streams, for ``tables.py``.

Kinds, with the parameters ``methods=``, ``norms=`` and ``with=`` of ``stream_rows.rows_of``:
    stream     one line a row: ``common=lr,replay`` (told below the table where a method has one
               value), ``rows=ROW,ROW`` (exact: ``conda~grad_norm=clip~lr=0.01``), ``against=ROW``;
               ``collapsed`` is a column only where a run collapsed
    passes     what the rows of such a table cost, with the same parameters
    rates      ``row=METHOD``: a line a norm of the gradient, a column a learning rate
    unstable   ``row=METHOD``: a line a norm and learning rate, with the evidence that runs fell;
               ``reference=bn-adapt``: held against a row that does not learn, too

``seeds=0,1,2`` are those that should be there; without it, all that are met in the table.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

import pandas as pd
from stream_rows import RANKED, RecordTables, Row, lines_of, rows_of, short_names
from table_cells import UPPER_BOUND, Params, difference, listed, markdown, number

from dabench.board.statistics.seeds import MIN_PAIRS
from dabench.registry.method_info import row_marks
from dabench.store.records import Record, score_map

COMPARED = "none,clip,unit-global"
_WORST = "accuracy/worst-window"
_COLLAPSED = "collapsed"
_MEANS = (RANKED, "accuracy", _WORST, "forgetting", _COLLAPSED)


def stream(tables: RecordTables, params: Params) -> str:
    """One line a row: scores, and the difference from the source model."""
    against = params.get("against", "source")
    rows, frame = _wanted(tables, params, against)
    seeds = _seeds(params, rows)
    names, caption = short_names(rows, listed(params, "common"))
    judged = max(len(row.runs) for row in rows) >= MIN_PAIRS
    fell = any(row.diverged or any(row.values(_COLLAPSED)) for row in rows)
    means = [metric for metric in _MEANS if fell or metric != _COLLAPSED]
    head = ["row", "n", RANKED, "sd" if judged else "range", *means[1:]]
    table = [[*head, f"{RANKED} − `{against}`"]]
    for row in rows:
        count = str(len(seeds)) if len(row.runs) == len(seeds) else _ended(row, seeds)
        cells = _scores(lines_of(frame, row), judged, means)
        table.append([f"`{names[row.name]}`{_marks(row)}", count, *cells])
    told = [_left_out(caption), "" if fell else "No run collapsed.", _broken_off(rows)]
    return "\n\n".join([markdown(table), " ".join(t for t in told if t)]).strip()


def passes(tables: RecordTables, params: Params) -> str:
    """One line a row: images passed forward and backward, for each image of the stream."""
    rows, _ = _wanted(tables, params)
    names, caption = short_names(rows, listed(params, "common"))
    table = [["row", "forwards", "backwards"]]
    for row in rows:
        cells = [_passes(row, cost) for cost in ("images_forward", "images_backward")]
        table.append([f"`{names[row.name]}`{_marks(row)}", *cells])
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


def rates(tables: RecordTables, params: Params) -> str:
    """Mean ± sd by norm and learning rate, and the shares of the runs that fell in three senses."""
    grid = rate_grid(tables, params)
    seeds = _seeds(params, grid.values())
    steps = sorted({rate for _, rate in grid})
    head = [f"{RANKED} of `{params['row']}` at lr", *(f"{rate:g}" for rate in steps)]
    table = [[*head, *_FALLEN]]
    for norm in listed(params, "norms", COMPARED):
        cells = [grid.get((norm, rate)) for rate in steps]
        shown = [rate_cell(cell, seeds) for cell in cells]
        table.append([norm, *shown, *(_share(cells, len(seeds), f) for f in _FALLEN.values())])
    told = f"Mean ± sd over seeds {', '.join(map(str, sorted(seeds)))}."
    broken = _broken_off(grid.values())
    return "\n\n".join([markdown(table), f"{told} {broken}".strip()])


#: ways for a run to have fallen; one that diverged fell in all of them
_FALLEN: dict[str, Callable[[Row], set[int]]] = {
    "collapsed": lambda row: row.collapsed,
    "below `source`": lambda row: row.fallen(lambda run: bool(score_map(run)["below_source"])),
    "few classes": lambda row: row.fallen(_few_classes),
}


def unstable(tables: RecordTables, params: Params) -> str:
    """One line a norm and learning rate: by how much its runs fell, and how many of them.

    A run is *unstable* where it diverged, or its accuracy collapsed, or it is below the source
    model over the whole stream (or below the row ``reference=``: it would have done better without
    learning), or its last answers spread over few classes. Beside it stand the least accuracy over
    a window and the classes that are answered, each of the worst seed.
    """
    grid = rate_grid(tables, params)
    seeds = _seeds(params, grid.values())
    ways = _FALLEN | _below(tables, params)
    head = [f"`{params['row']}`: norm", "lr", RANKED, "accuracy", "worst window", "classes"]
    table = [[*head, *ways, "unstable"]]
    norms = listed(params, "norms", COMPARED)
    for norm, rate in sorted(grid, key=lambda place: (norms.index(place[0]), place[1])):
        row = grid[norm, rate]
        fallen = set().union(*(told(row) for told in ways.values()))
        classes = [share for run in row.runs.values() if (share := _class_share(run)) is not None]
        least = [min(found, default=None) for found in (row.values(_WORST), classes)]
        whole = row.values("accuracy")
        cells = [norm, f"{rate:g}", rate_cell(row, seeds)]
        cells += [number(statistics.fmean(whole) if whole else None), *map(number, least)]
        shares = [_share([row], len(seeds), told) for told in ways.values()]
        table.append([*cells, *shares, _share([row], len(seeds), lambda _, f=fallen: f)])
    told = f"{RANKED}: mean ± sd, accuracy: mean over seeds {', '.join(map(str, sorted(seeds)))}; "
    told += "worst window and classes (effective number in the last window, as a share of all): "
    told += "of the worst seed."
    return "\n\n".join([markdown(table), f"{told} {_broken_off(grid.values())}".strip()])


def _below(tables: RecordTables, params: Params) -> dict[str, Callable[[Row], set[int]]]:
    """Return what tells the seeds that are below ``reference=`` in accuracy over the stream."""
    name = params.get("reference", "")
    if not name:
        return {}
    wanted = {n: value for n, value in params.items() if n not in {"with", "norms"}}
    found = [row for row in rows_of(tables, wanted)[0] if row.name == name]
    if not found:
        raise ValueError(f"{params}: no row {name}")
    theirs = {seed: score_map(run)["accuracy"] for seed, run in found[0].runs.items()}

    def told(row: Row) -> set[int]:
        own = {seed: score_map(run)["accuracy"] for seed, run in row.runs.items()}
        return row.diverged | {s for s in own.keys() & theirs.keys() if own[s] < theirs[s]}

    return {f"below `{name}`": told}


def _class_share(run: Record) -> float | None:
    """Return exp(H(mean p)) / K in the last window, the twin of a collapse that needs no label."""
    curve = [row for row in run["curves"] if row["metric"] == "effective_classes"]
    return float(max(curve, key=lambda row: int(row["at"]))["value"]) if curve else None


def _few_classes(run: Record) -> bool:
    """Return whether the last answers spread over fewer than a quarter of the classes."""
    share = _class_share(run)
    return share is not None and share < 0.25


def rate_grid(tables: RecordTables, params: Params) -> dict[tuple[str, float], Row]:
    """Return (norm, learning rate) -> row of the method ``row=``.

    Raises:
        ValueError: none is there, or two rows differ in more than norm and rate.
    """
    label = params["row"]
    chosen = {**params, "methods": label, "norms": params.get("norms", COMPARED)}
    grid: dict[tuple[str, float], Row] = {}
    for row in rows_of(tables, chosen)[0]:
        if not {"grad_norm", "lr"} <= set(row.options):
            raise ValueError(f"`{label}` has no options grad_norm and lr")
        place = (str(row.options["grad_norm"]), float(row.options["lr"]))
        if place in grid:
            other = grid[place].options
            names = sorted(n for n in row.options if row.options[n] != other.get(n))
            raise ValueError(f"`{label}`: rows differ in {', '.join(names)}; set with=NAME=VALUE")
        grid[place] = row
    if not grid:
        raise ValueError(f"{params}: no run of `{label}` fits")
    return grid


def rate_cell(row: Row | None, seeds: set[int]) -> str:
    """Return mean ± sd; in brackets how many seeds ended where not all did, and how many lack."""
    if row is None or not row.seeds:
        return f"– ({len(seeds)} missing)"
    values = row.values(RANKED)
    text = number(statistics.fmean(values)) if values else "–"
    text += f" ± {number(statistics.stdev(values))}" if len(values) > 1 else ""
    return text if len(row.runs) == len(seeds) else f"{text} ({_ended(row, seeds)})"


def _share(cells: Sequence[Row | None], seeds: int, fallen: Callable[[Row], set[int]]) -> str:
    """Return the share of the runs that fell, and how many of how many."""
    there = [cell for cell in cells if cell is not None]
    runs = sum(len(cell.seeds) for cell in there)
    fell = sum(len(fallen(cell)) for cell in there)
    missing = len(cells) * seeds - runs
    lack = f"; {missing} missing" if missing else ""
    return f"{fell / runs:.2f} ({fell} of {runs}{lack})" if runs else f"– ({missing} missing)"


def _seeds(params: Params, rows: Iterable[Row]) -> set[int]:
    """Return the seeds that every row should have."""
    named = {int(seed) for seed in listed(params, "seeds")}
    met = {seed for row in rows for seed in row.seeds}
    return named or met


def _ended(row: Row, seeds: set[int]) -> str:
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


def _marks(row: Row) -> str:
    """Return what a reader must know beside a name."""
    run = next(iter(row.runs.values()), {})
    kind = {"reconstruction": bool(run.get("reconstruction")), "bound": row.label == UPPER_BOUND}
    marks = row_marks(run.get("extras", []), **kind)
    return f" ({', '.join(marks)})" if marks else ""


def _broken_off(rows: Iterable[Row]) -> str:
    if not any(row.diverged for row in rows):
        return ""
    return (
        '"k of n": k runs ended; unless called missing, the others diverged (logits not finite), '
        "have no scores, and count as collapsed."
    )
