"""What a method gains against what it costs: a point a line, with names where there is room."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dabench.board.page import texts
from dabench.board.page.bars import WIDTH, tooltip
from dabench.board.page.blocks import Block
from dabench.board.page.lines import MIB, Line
from dabench.board.page.svg import Axis, Picture, Point, scale, tick_label, ticks

#: most names in the cloud
MOST_NAMES = 24
_HEIGHT, _LEFT, _BASE, _TOP = 290, 40, 246, 14
_ADVANCE = 6.6
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CostMeasure:
    """A cost of a line: what it is called, in full and in short, and how it is read and said."""

    title: str
    short: str
    of: Callable[[Line], float | None]
    said: Callable[[float], str]


#: what a metric is drawn against
MEASURES = (
    CostMeasure(
        "images forwarded + backwarded, for each image of the target",
        "cost",
        lambda line: line.passes,
        lambda value: f"{tick_label(value)} passes an image",
    ),
    CostMeasure(
        "seconds of adaptation", "time, as recorded", lambda line: line.seconds, texts.seconds
    ),
    CostMeasure(
        "peak memory of the steps, MiB",
        "memory of its steps",
        lambda line: line.memory,
        lambda value: texts.size(value * MIB),
    ),
)


def cost_scatter(block: Block, measure: CostMeasure) -> Picture | None:
    """Return the metric against a cost; None where fewer than two lines have any."""
    read = {line.number: measure.of(line) for line in block.lines if block.metric in line.values}
    costs = {number: value for number, value in read.items() if value is not None}
    known = [line for line in block.lines if line.number in costs]
    if sum(value > 0 for value in costs.values()) < 2:
        return None
    means = {line.number: line.values[block.metric].mean for line in known}
    picture = Picture(WIDTH, _HEIGHT, f"{block.metric} against {measure.title}, {block.title}")
    x, marks = _log_axis(list(costs.values()))
    low, high = _rim(list(means.values()))
    y = scale(low, high, _BASE - 6, _TOP)
    _axes(picture, y, ticks(low, high, 5), marks, measure.title)
    points = {line.number: (x(costs[line.number]), y(means[line.number])) for line in known}
    ranked = [line for line in block.ranked if line.number in costs]
    best = frontier({ln.number: (costs[ln.number], block.score(ln)) for ln in ranked})
    if len(best) > 1:
        title = "on the line: no other row is as good for so little"
        picture.path(_steps([points[number] for number in best]), css="front", title=title)
    for line in sorted(known, key=lambda line: line.main):
        said = measure.said(costs[line.number])
        tip = f"{tooltip(line, line.values[block.metric])}; {said}"
        _point(picture, line, tip, points[line.number])
    _label(picture, [line for line in known if line.main], points)
    return picture


def frontier(rows: Mapping[int, tuple[float, float]]) -> list[int]:
    """Return the rows that are better than every one that costs as much or less, cheapest first.

    Args:
        rows: number -> (cost, value); larger values are better.
    """
    found: list[int] = []
    best = -math.inf
    for number in sorted(rows, key=lambda number: (rows[number][0], -rows[number][1], number)):
        if rows[number][1] > best:
            best = rows[number][1]
            found.append(number)
    return found


def _steps(corners: Sequence[Point]) -> list[Point]:
    """Return a stair through points from left to right: level until the next, then up."""
    path = [corners[0]]
    for at in corners[1:]:
        path += [(at[0], path[-1][1]), at]
    return path


def _axes(
    picture: Picture,
    y: Axis,
    levels: Sequence[float],
    marks: Sequence[tuple[float, str]],
    title: str,
) -> None:
    for level in levels:
        picture.line((_LEFT, y(level)), (WIDTH - 4, y(level)), "grid")
        picture.text(_LEFT - 6, y(level) + 4, tick_label(level), css="tick end")
    for at, text in marks:
        picture.line((at, _BASE), (at, _BASE + 4), "axis")
        picture.text(at, _BASE + 17, text, css="tick mid")
    picture.line((_LEFT, _BASE), (WIDTH - 4, _BASE), "axis")
    picture.text(WIDTH / 2 + 18, _HEIGHT - 6, title, css="tick mid")


def _point(picture: Picture, line: Line, tip: str, at: Point) -> None:
    css = f"point {line.kind}" + ("" if line.main else " minor")
    if line.kind == "method":
        picture.mark("circle", tip, css=css, cx=at[0], cy=at[1], r=5 if line.main else 3)
    else:
        picture.mark("rect", tip, css=css, x=at[0] - 5, y=at[1] - 5, width=10, height=10)


def _label(picture: Picture, lines: Sequence[Line], points: dict[int, Point]) -> None:
    """Write names where there is room: beside the point, above, below, or not at all."""
    taken: list[Box] = [
        (px - 5, py - 5, px + 5, py + 5) for px, py in (points[line.number] for line in lines)
    ]
    for line in lines[:MOST_NAMES]:
        name = line.short_label(24)
        wide = _ADVANCE * len(name)
        for left, top in _places(points[line.number], wide):
            box = (left, top, left + wide, top + 13)
            fits = left > _LEFT and box[2] < WIDTH and top > 0 and box[3] < _BASE
            if fits and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                picture.text(left, top + 10.5, name, line.label, css="name")
                break


def _places(point: Point, wide: float) -> list[Point]:
    x, y = point
    beside = [(x + 9, y - 6.5), (x - 9 - wide, y - 6.5)]
    stacked = [(x - wide / 2, y - 20), (x - wide / 2, y + 8)]
    return [*beside, *stacked, (x + 5, y - 19), (x + 5, y + 7), (x - 5 - wide, y - 19)]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _log_axis(costs: Sequence[float]) -> tuple[Axis, list[tuple[float, str]]]:
    """Return a logarithmic axis, with a place of its own for 0, and where its numbers stand."""
    positive = [value for value in costs if value > 0]
    free = min(costs) <= 0
    start, end = _LEFT + (44.0 if free else 16.0), WIDTH - 22.0
    low, high = math.log10(min(positive)), math.log10(max(positive))
    if high - low < 0.3:
        low, high = low - 0.15, high + 0.15
    inner = scale(low, high, start, end)

    def axis(value: float) -> float:
        return inner(math.log10(value)) if value > 0 else _LEFT + 14.0

    steps = (1, 2, 5) if high - low < 2 else (1,)
    round_ones = [m * 10.0**p for p in range(math.floor(low), math.ceil(high) + 1) for m in steps]
    shown = [value for value in round_ones if low <= math.log10(value) <= high]
    return axis, [*([(axis(0), "0")] if free else []), *((axis(v), tick_label(v)) for v in shown)]


def _rim(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max(high - low, 0.05) * 0.08
    return max(0.0, low - room), high + room
