"""Lines along a stream: running accuracy of the methods, with the levels of the weather."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dabench.board.page.blocks import Block
from dabench.board.page.lines import Line
from dabench.board.page.page_records import Curve
from dabench.board.page.svg import Picture, clipped, scale, tick_label, ticks
from dabench.store.records import Record

#: colours there are for lines; later ones begin hidden, and have other strokes
COLOURS = 8
#: most points of a drawn line
POINTS = 240
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BASE = 1140, 360, 40, 1132, 26, 322


@dataclass(frozen=True)
class Legend:
    """An entry of a chart's legend: ``css`` names the line that its switch shows or hides.

    ``minor`` entries are those of ablations, which the page shows on demand.
    """

    name: str
    css: str
    shown: bool
    minor: bool = False


@dataclass(frozen=True)
class StreamChart:
    """A chart and its legend."""

    picture: Picture
    legend: list[Legend]


def stream_chart(block: Block) -> StreamChart | None:
    """Return the running figure of every line that has one and stands, averaged over seeds."""
    standing = [line for line in block.lines if not line.note]
    lines = sorted(standing, key=lambda line: (not line.main, line.kind == "baseline"))
    found = [(line, mean_curve(line.runs)) for line in lines if line.name != "source"]
    drawn = [(line, curve) for line, curve in found if curve is not None]
    source = _source(standing)
    if not drawn and source is None:
        return None
    entries = [
        Legend(line.label, _style(place), line.main and place < COLOURS, not line.main)
        for place, (line, _) in enumerate(drawn)
    ]
    curves = [curve for _, curve in drawn]
    if source is not None:
        entries.append(Legend("source", "line source", True))
        curves.append(source)
    orders = [stream_segments(run) for run in standing[0].runs]
    same = all(order == orders[0] for order in orders)
    marks = orders[0] if same else [(0, "every seed has the shifts in another order")]
    return StreamChart(
        draw_curves(curves, entries, marks, f"running {block.metric}, {block.title}"), entries
    )


def draw_curves(
    curves: Sequence[Curve], entries: Sequence[Legend], marks: Sequence[tuple[int, str]], label: str
) -> Picture:
    """Return curves over the steps of a stream.

    Args:
        curves: in the order of ``entries``, which say how they are drawn.
        entries: of the legend.
        marks: (first step, name) of the stream's segments.
        label: for screen readers.
    """
    picture = Picture(_WIDTH, _HEIGHT, label)
    first = min(int(curve.at[0]) for curve in curves)
    last = max(int(curve.at[-1]) for curve in curves)
    top = max(float(curve.value.max()) for curve in curves)
    low = min(float(curve.value.min()) for curve in curves)
    floor = 0.0 if low < 0.4 else math.floor(low * 10) / 10
    x, y = scale(first, last, _LEFT, _RIGHT), scale(floor, max(top, floor + 0.1), _BASE, _TOP)
    for tick in ticks(floor, max(top, floor + 0.1), 5):
        picture.line((_LEFT, y(tick)), (_RIGHT, y(tick)), "grid")
        picture.text(_LEFT - 6, y(tick) + 4, tick_label(tick), css="tick end")
    for place, (step, name) in enumerate(marks):
        after = marks[place + 1][0] if place + 1 < len(marks) else last
        room = int((x(after) - x(step)) / 6.4)
        picture.line((x(step), _TOP - 16), (x(step), _BASE), "level")
        if room > 3:
            picture.text(x(step) + 4, _TOP - 8, clipped(name, room), name, css="tick")
    for tick in ticks(first, last, 8):
        picture.text(x(tick), _BASE + 17, tick_label(tick), css="tick mid")
    picture.text((_LEFT + _RIGHT) / 2, _HEIGHT - 2, "step", css="tick mid")
    for number, (curve, entry) in enumerate(zip(curves, entries, strict=True)):
        css = entry.css + ("" if entry.shown else " off")
        steps = list(zip(curve.at.tolist(), curve.value.tolist(), strict=True))
        points = [(x(at), y(value)) for at, value in _thinned(steps)]
        picture.path(points, css, entry.name, data_line=number)
    return picture


def mean_curve(runs: Sequence[Record], name: str = "") -> Curve | None:
    """Return the mean over runs of their curve of that name, at the steps that all have."""
    found = [curve for run in runs for curve in run["curves"] if curve.name == name]
    if not found or len(found) < len(runs):
        return None
    at = found[0].at
    for curve in found[1:]:
        at = np.intersect1d(at, curve.at)
    if len(at) < 2:
        return None
    values = [curve.value[np.searchsorted(curve.at, at)] for curve in found]
    return Curve(name, at, np.mean(values, axis=0))


def stream_segments(run: Record) -> list[tuple[int, str]]:
    """Return (first step, name) of the stream's segments, where the scores tell them.

    They do where the segments' images, in batches, fill the stream exactly, or where conditions,
    one after the other, have the same frames.
    """
    whole = [row for row in run["scores"] if row["metric"] in ("accuracy", "mIoU")]
    steps = max((row["at"] for row in whole), default=0)
    begin, found = 0, []
    for row in whole:
        special = row["segment"].startswith("held-out") or row["segment"] in _OVER_ALL
        if not special and row["n"] and begin < steps:
            found.append((begin, row["segment"]))
            begin += math.ceil(row["n"] / int(run["spec"]["batch_size"]))
    return found if begin == steps else _equal_conditions(run, whole, steps)


def _equal_conditions(run: Record, whole: Sequence[Record], steps: int) -> list[tuple[int, str]]:
    """Return the segments of a stream of frames; its scores count labelled pixels, not frames."""
    if run["spec"]["protocol_options"].get("schedule") not in ("constant", "ramp"):
        return []
    found = [row for row in whole if "/" not in row["segment"] and row["segment"] not in _OVER_ALL]
    pixels = {row["n"] for row in found}
    total = {row["n"] for row in whole if row["segment"] == "all"}
    if len(pixels) != 1 or total != {len(found) * max(pixels)} or steps % len(found):
        return []
    return [(place * steps // len(found), row["segment"]) for place, row in enumerate(found)]


def _style(place: int) -> str:
    """Return the classes of a line: where colours come again, strokes differ."""
    again = ("", " again", " further")[min(place // COLOURS, 2)]
    return f"line s{place % COLOURS}{again}"


_OVER_ALL = frozenset(
    {"all", "final", "worst-window", "mean-conditions", "worst-condition", "before", "after"}
)


def _source(lines: Sequence[Line]) -> Curve | None:
    """Return the source model's curve: its own run's, or what others noted of it."""
    own = [mean_curve(line.runs) for line in lines if line.name == "source"]
    others = (mean_curve(line.runs, "source") for line in lines)
    return next((curve for curve in (*own, *others) if curve is not None), None)


def _thinned(steps: list[tuple[int, float]]) -> list[tuple[int, float]]:
    every = math.ceil(len(steps) / POINTS)
    kept = steps[::every]
    return kept if kept[-1] == steps[-1] else [*kept, steps[-1]]
