"""Pictures of streams, for ``python docs/tables.py --figures``.

Kinds, with the parameters that select a column, ``methods=``, ``norms=``, ``with=`` and ``seeds=``:
    stability  ``rows=conda,ucl-gv`` (a panel each): accuracy against learning rate, a line a norm;
               ``reference=bn-adapt,tent``: the best of these is shown beside the source model
    streams    running accuracy of ``rows=``: ``tent`` is its best row, ``tent~lr=0.01`` that one;
               ``common=lr,replay`` are left out of names where a method has one value
    visits     accuracy of ``rows=`` (as of streams) at every visit of a recurring stream, with the
               seeds' sd as a band
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from rate_tables import COMPARED, rate_grid
from stream_rows import RANKED, RecordTables, Row, rows_of, short_names
from table_cells import Params, listed

from dabench import registry
from dabench.store.records import Record, score_map

#: Okabe and Ito's colours (2008): apart for colour-blind readers too
INK, GREY = "#000000", "#777777"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", (0, (6, 1.5)), (0, (3, 1, 1, 1)), (0, (1, 1)))
MARKERS = "os^D"
WIDTH, DPI = 9.6, 100


def stability(tables: RecordTables, params: Params, path: Path) -> None:
    """Draw final accuracy against learning rate; every run that collapsed is a cross."""
    labels = listed(params, "rows", "conda,ucl-gv")
    fixed = _fixed_lines(tables, params)
    figure, axes = _figure(len(labels), 4.2)
    fell = False
    for axis, label in zip(axes, labels, strict=True):
        grid = rate_grid(tables, {**params, "row": label})
        for number, norm in enumerate(listed(params, "norms", COMPARED)):
            cells = {rate: row for (name, rate), row in sorted(grid.items()) if name == norm}
            _norm_line(axis, norm, cells, number)
        for (name, value), style in zip(fixed.items(), ("--", "-."), strict=False):
            axis.axhline(value, color=GREY, linestyle=style, linewidth=1.4, label=name)
        axis.set(title=label, xlabel="learning rate", xscale="log")
        axis.grid(alpha=0.25)
        fell |= any(row.collapsed for row in grid.values())
    if fell:
        axes[0].plot([], [], "x", color=INK, label="collapsed run (at 0: diverged)")
    axes[0].set_ylabel("accuracy over the last level,\nmean and sd over seeds")
    axes[0].set_ylim(bottom=-0.02)
    _save(figure, axes[0], path, columns=3)


def streams(tables: RecordTables, params: Params, path: Path) -> None:
    """Draw running accuracy, mean over seeds, over a stream's steps; lines where levels change."""
    rows = _named_rows(
        rows_of(tables, params)[0],
        listed(params, "rows", "source,bn-adapt,tent,cotta,conda,ucl-gv"),
    )
    names, _ = short_names(rows, listed(params, "common"))
    figure, (axis,) = _figure(1, 4.6)
    coloured = [row.name for row in rows if row.label != "source"]
    for row in rows:
        seeds = [curve(row.runs[seed], "running_accuracy", "all") for seed in sorted(row.runs)]
        mean = np.array(seeds).mean(axis=0)
        grey = row.label == "source"
        look: dict[str, Any] = {"color": GREY, "linestyle": STYLES[-1], "linewidth": 1.8}
        if not grey:
            turn, number = divmod(coloured.index(row.name), len(COLOURS))
            look |= {"color": COLOURS[number], "linestyle": STYLES[turn]}
        if not grey and registry.METHODS[row.label.removesuffix("+bn")].baseline:
            # on top and broken: what learns little lies upon it, and is seen in the gaps
            look |= {"linestyle": (0, (4, 4)), "zorder": 3}
        axis.plot(range(1, len(mean) + 1), mean, label=names[row.name], **look)
    shown = next(iter(rows[0].runs.values()))
    _mark_levels(axis, shown)
    window = next(s["n"] for s in shown["curves"] if s["metric"] == "running_accuracy")
    axis.set(xlabel="step of the stream")
    axis.set_ylabel(f"accuracy over the last {window} images,\n{_seed_count(rows)}")
    axis.set_ylim(bottom=0)
    axis.margins(x=0)
    _save(figure, axis, path, columns=3)


def visits(tables: RecordTables, params: Params, path: Path) -> None:
    """Draw accuracy at every visit of a recurring stream: mean and sd over seeds."""
    rows = _named_rows(
        rows_of(tables, params)[0], listed(params, "rows", "source,tent,rdumb"), "visits"
    )
    names, _ = short_names(rows, listed(params, "common"))
    figure, (axis,) = _figure(1, 4.2)
    for number, row in enumerate(rows):
        seeds = np.array([_by_visit(row, seed) for seed in sorted(row.runs)])
        mean, sd = seeds.mean(axis=0), seeds.std(axis=0, ddof=1 if len(seeds) > 1 else 0)
        look = {"color": GREY if row.label == "source" else COLOURS[number % len(COLOURS)]}
        order = range(1, len(mean) + 1)
        axis.fill_between(order, mean - sd, mean + sd, **look, alpha=0.15, linewidth=0)
        axis.plot(order, mean, **look, marker=MARKERS[number % len(MARKERS)], label=names[row.name])
    axis.set(xlabel="visit", ylabel="accuracy over the visit", xticks=order)
    axis.grid(alpha=0.25)
    _save(figure, axis, path, columns=4)


def _seed_count(rows: Sequence[Row]) -> str:
    """Return over how many seeds the lines are means."""
    least, most = (f({len(row.runs) for row in rows}) for f in (min, max))
    return f"mean of {least} seeds" if least == most else f"mean of {least} to {most} seeds"


def _by_visit(row: Row, seed: int) -> list[float]:
    """Return a run's accuracy at every visit, the first one first."""
    scores, found = score_map(row.runs[seed]), []
    while (name := f"accuracy/round-{len(found) + 1}") in scores:
        found.append(scores[name])
    if not found:
        raise ValueError(f"visits: seed {seed} of `{row.name}` is not of a recurring stream")
    return found


def _fixed_lines(tables: RecordTables, params: Params) -> dict[str, float]:
    """Return name -> mean final accuracy of source and of the best reference, where there."""
    kept = {name: value for name, value in params.items() if name not in {"methods", "norms"}}
    rows, _ = rows_of(tables, kept)
    sources = [row for row in rows if row.name == "source" and row.values(RANKED)]
    labels = listed(params, "reference", "bn-adapt,tent")
    others = [row for row in rows if row.label in labels and row.values(RANKED)]
    shown = sources + sorted(others, key=_mean)[-1:]
    return {row.name: _mean(row) for row in shown}


def _named_rows(rows: Sequence[Row], wanted: Sequence[str], kind: str = "streams") -> list[Row]:
    """Return the rows that are named exactly, or else a label's best one."""
    found = []
    for name in wanted:
        fitting = [row for row in rows if row.values(RANKED)]
        fitting = [row for row in fitting if name == (row.name if " " in name else row.label)]
        if not fitting:
            raise ValueError(f"{kind}: no run of `{name}` ended; known: {[r.name for r in rows]}")
        found.append(max(fitting, key=_mean))
    return found


def _mean(row: Row) -> float:
    return statistics.fmean(row.values(RANKED))


def _norm_line(axis: Any, norm: str, cells: dict[float, Row], number: int) -> None:
    """Draw mean and sd over the rates where a run ended, and crosses for those that collapsed."""
    colour, style = COLOURS[number], STYLES[number % len(STYLES)]
    values = {rate: row.values(RANKED) for rate, row in cells.items() if row.values(RANKED)}
    rates = list(values)
    mean = np.array([statistics.fmean(found) for found in values.values()])
    sd = np.array([statistics.stdev(v) if len(v) > 1 else 0.0 for v in values.values()])
    look = {"color": colour, "linestyle": style, "marker": MARKERS[number % len(MARKERS)]}
    axis.plot(rates, mean, markersize=5, label=f"grad_norm={norm}", **look)
    axis.fill_between(rates, mean - sd, mean + sd, color=colour, alpha=0.15, linewidth=0)
    crosses = [
        (rate, 0.0 if seed in row.diverged else score_map(row.runs[seed])[RANKED])
        for rate, row in cells.items()
        for seed in sorted(row.collapsed)
    ]
    for rate, height in crosses:
        # a little apart: at 0 the norms would lie upon each other
        axis.plot(rate * 1.08 ** (number - 1), height, "x", color=colour, markersize=8, mew=2)


def curve(record: Record, metric: str, segment: str) -> list[float]:
    rows = [s for s in record["curves"] if (s["metric"], s["segment"]) == (metric, segment)]
    return [s["value"] for s in sorted(rows, key=lambda s: int(s["at"]))]


def _mark_levels(axis: Any, record: Record) -> None:
    """Draw a line where a level begins, with the level's name; probes are made at each end."""
    ends = sorted(s["at"] for s in record["curves"] if s["segment"] == "held-out-clear")
    parts = [s["segment"] for s in record["scores"] if s["metric"] == "accuracy"]
    names = [n for n in parts if not n.startswith("held-out") and "/" not in n]
    names = [n for n in names if n not in {"all", "final", "worst-window"}]
    across = axis.get_xaxis_transform()
    for name, first, last in zip(names, ends, ends[1:], strict=False):
        if first:
            axis.axvline(first + 0.5, color=GREY, linewidth=0.8, alpha=0.6)
        middle = (first + last) / 2
        axis.text(middle, 1.01, name, transform=across, ha="center", fontsize=9, color=INK)


def _figure(panels: int, height: float) -> tuple[Any, Sequence[Any]]:
    figure, axes = plt.subplots(
        1,
        panels,
        figsize=(WIDTH, height),
        sharey=True,
        squeeze=False,
        layout="constrained",
        facecolor="white",
    )
    return figure, list(axes[0])


def _save(figure: Any, axis: Any, path: Path, columns: int) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    # a page may be dark: the picture brings its own white
    figure.savefig(path, dpi=DPI, facecolor="white", metadata={"Software": None})
    plt.close(figure)
