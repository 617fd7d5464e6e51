"""Tables of learning rates against norms of the gradient on streams, for ``tables.py``.

Kinds, with the parameters of ``stream_tables.py``:
    rates      ``row=METHOD``: a line a norm of the gradient, a column a learning rate
    unstable   ``row=METHOD``: a line a norm and learning rate, with the evidence that runs fell;
               ``reference=bn-adapt``: held against a row that does not learn, too
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from stream_rows import RANKED, RecordTables, Row, rows_of
from stream_tables import WORST, broken_off, ended, seeds_of
from table_cells import Params, listed, markdown, number

from dabench.store.records import Record, score_map

COMPARED = "none,clip,unit-global"


def rates(tables: RecordTables, params: Params) -> str:
    """Mean ± sd by norm and learning rate, and the shares of the runs that fell in three senses."""
    grid = rate_grid(tables, params)
    seeds = seeds_of(params, grid.values())
    steps = sorted({rate for _, rate in grid})
    head = [f"{RANKED} of `{params['row']}` at lr", *(f"{rate:g}" for rate in steps)]
    table = [[*head, *_FALLEN]]
    for norm in listed(params, "norms", COMPARED):
        cells = [grid.get((norm, rate)) for rate in steps]
        shown = [rate_cell(cell, seeds) for cell in cells]
        table.append([norm, *shown, *(_share(cells, len(seeds), f) for f in _FALLEN.values())])
    told = f"Mean ± sd over seeds {', '.join(map(str, sorted(seeds)))}."
    broken = broken_off(grid.values())
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
    seeds = seeds_of(params, grid.values())
    ways = _FALLEN | _below(tables, params)
    head = [f"`{params['row']}`: norm", "lr", RANKED, "accuracy", "worst window", "classes"]
    table = [[*head, *ways, "unstable"]]
    norms = listed(params, "norms", COMPARED)
    for norm, rate in sorted(grid, key=lambda place: (norms.index(place[0]), place[1])):
        row = grid[norm, rate]
        fallen = set().union(*(told(row) for told in ways.values()))
        classes = [share for run in row.runs.values() if (share := _class_share(run)) is not None]
        least = [min(found, default=None) for found in (row.values(WORST), classes)]
        whole = row.values("accuracy")
        cells = [norm, f"{rate:g}", rate_cell(row, seeds)]
        cells += [number(statistics.fmean(whole) if whole else None), *map(number, least)]
        shares = [_share([row], len(seeds), told) for told in ways.values()]
        table.append([*cells, *shares, _share([row], len(seeds), lambda _, f=fallen: f)])
    told = f"{RANKED}: mean ± sd, accuracy: mean over seeds {', '.join(map(str, sorted(seeds)))}; "
    told += "worst window and classes (effective number in the last window, as a share of all): "
    told += "of the worst seed."
    return "\n\n".join([markdown(table), f"{told} {broken_off(grid.values())}".strip()])


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
    return text if len(row.runs) == len(seeds) else f"{text} ({ended(row, seeds)})"


def _share(cells: Sequence[Row | None], seeds: int, fallen: Callable[[Row], set[int]]) -> str:
    """Return the share of the runs that fell, and how many of how many."""
    there = [cell for cell in cells if cell is not None]
    runs = sum(len(cell.seeds) for cell in there)
    fell = sum(len(fallen(cell)) for cell in there)
    missing = len(cells) * seeds - runs
    lack = f"; {missing} missing" if missing else ""
    return f"{fell / runs:.2f} ({fell} of {runs}{lack})" if runs else f"– ({missing} missing)"
