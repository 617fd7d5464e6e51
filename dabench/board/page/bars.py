"""Bars of a task with their intervals, and the strip of a table's cell."""

from __future__ import annotations

from collections.abc import Sequence

from dabench.board.page import texts
from dabench.board.page.blocks import Block
from dabench.board.page.lines import Line
from dabench.board.page.svg import Axis, Picture, axis_ceiling, scale, tick_label, ticks
from dabench.board.page.values import Value

#: most bars in a chart
MOST = 16
WIDTH = 400
_ROW, _NAME, _NUMBER = 24, 142, 62


def bar_chart(block: Block, end: float) -> Picture:
    """Return a bar a line with its interval; a dashed rule stands where ``source`` ends.

    Args:
        block: its lines without ablations are drawn, the best and ``source``.
        end: of the axis, which begins at 0.
    """
    found = [line for line in block.main if block.metric in line.values]
    source = [line for line in found if line.name == "source"]
    others = [line for line in found if line.name != "source"][: MOST - len(source)]
    lines = sorted([*source, *others], key=lambda line: (-block.score(line), line.name))
    said = f"{len(lines)} of {len(found)}" if len(lines) < len(found) else f"{len(found)}"
    label = f"{block.metric} of {said} methods, {block.title}"
    picture = Picture(WIDTH, len(lines) * _ROW + 26, label)
    x = scale(0, end, _NAME, WIDTH - _NUMBER)
    _grid(picture, [(x(tick), tick_label(tick)) for tick in ticks(0, end, 4)], len(lines))
    for place, line in enumerate(lines):
        _bar(picture, line, line.values[block.metric], x, place * _ROW + 4.0)
    if len(lines) < len(found):
        picture.text(_NAME - 8, len(lines) * _ROW + 19, said, css="tick end")
    for line in source:
        at = x(line.values[block.metric].mean)
        picture.line((at, 2), (at, len(lines) * _ROW + 4), "reference", "source")
    return picture


def interval_strip(value: Value, end: float) -> Picture:
    """Return a table's small picture of a mean in its interval, on an axis from 0 to ``end``."""
    picture = Picture(90, 14, "")
    x = scale(0, end, 3, 87)
    if value.low is not None and value.high is not None:
        picture.path([(x(value.low), 7), (x(value.high), 7)], whisker(value))
    picture.mark("circle", css="dot", cx=x(value.mean), cy=7, r=3)
    return picture


def tooltip(line: Line, value: Value) -> str:
    """Return a mark's figures in words."""
    spread = f" ± {texts.number(value.sd)} (sd)" if value.sd is not None else ""
    kind = "range" if value.is_range else "95 % interval"
    interval = f", {kind} {value.interval}" if value.interval else ""
    return f"{line.label}: {texts.number(value.mean)}{spread}, n = {value.n}{interval}"


def axis_end(found: Sequence[Block]) -> float:
    """Return one end of the axis for all bars of a tab."""
    lines = [(block.metric, line) for block in found for line in block.main]
    return axis_ceiling(max([ln.values[m].mean for m, ln in lines if m in ln.values], default=1.0))


def whisker(value: Value) -> str:
    """Return how an interval is drawn: a range is dotted."""
    return "range" if value.is_range else "whisker"


def _grid(picture: Picture, marks: Sequence[tuple[float, str]], rows: int) -> None:
    base = rows * _ROW + 4
    for at, text in marks:
        picture.line((at, 2), (at, base), "grid")
        picture.text(at, base + 15, text, css="tick mid")


def _bar(picture: Picture, line: Line, value: Value, x: Axis, top: float) -> None:
    middle, tip = top + _ROW / 2 - 2, tooltip(line, value)
    picture.text(_NAME - 8, middle + 4, line.short_label(21), line.label, css="name end")
    box = {"x": x(0), "y": top + 1, "width": max(x(value.mean) - x(0), 1.0), "height": _ROW - 6}
    picture.mark("rect", tip, css=f"bar {line.kind}", rx=2, **box)
    if value.low is not None and value.high is not None:
        picture.line((x(value.low), middle), (x(value.high), middle), whisker(value), tip)
    text = texts.number(value.mean)
    picture.text(WIDTH - _NUMBER + 8, middle + 4, text, tip, css="number")
    sign, verdict = line.diff.sign, line.diff.verdict
    if sign:
        picture.text(WIDTH - 4, middle + 4, sign, verdict, css=f"end {verdict}")
