"""The critical-difference picture, as SVG text that stands alone or in a page (no torch).

Lines and text take the colour of the text around them, so it fits a dark page too.
"""

from __future__ import annotations

import math
from html import escape

from dabench.board.statistics.ranks import Ranking

WIDTH = 800
_LEFT, _RIGHT, _AXIS, _STEP = 280, 520, 64, 22
_LONGEST = 40


def rank_svg(found: Ranking) -> str:
    """Return the picture: an axis of mean ranks, a bar through rows that are not told apart.

    Without a ranking its text says why.
    """
    title = f"{found.protocol}: mean ranks over {len(found.tasks)} tasks"
    if found.note or found.difference is None:
        text = f"{found.protocol}: no ranks, {found.note}"
        return _svg(48, text, [_text(WIDTH / 2, 28, text, "middle")])
    last = max(2, math.ceil(max(found.ranks)))
    half = (len(found.rows) + 1) // 2
    top = _AXIS + 14 + 8 * len(found.groups)
    parts = [*_axis(last), *_difference(found.difference, last)]
    for number, (first, end) in enumerate(found.groups):
        y = _AXIS + 12 + 8 * number
        ends = _x(found.ranks[first], last) - 3, _x(found.ranks[end], last) + 3
        parts.append(_line(ends[0], y, ends[1], y, 3))
    for place, (row, rank) in enumerate(zip(found.rows, found.ranks, strict=True)):
        left = place < half
        y = top + _STEP * (place if left else len(found.rows) - 1 - place) + 10
        parts += _row(found.marked(row), rank, _x(rank, last), y, left)
    return _svg(top + _STEP * half + 12, title, parts)


def _x(rank: float, last: int) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (rank - 1) / (last - 1)


def _axis(last: int) -> list[str]:
    step = max(1, last // 8)
    ticks = range(1, last + 1, step)
    parts = [_line(_LEFT, _AXIS, _RIGHT, _AXIS)]
    parts += [_line(_x(t, last), _AXIS - 6, _x(t, last), _AXIS) for t in ticks]
    return parts + [_text(_x(t, last), _AXIS - 10, str(t), "middle") for t in ticks]


def _difference(difference: float, last: int) -> list[str]:
    """Return the measure of the critical difference, above the axis."""
    end = _LEFT + (_RIGHT - _LEFT) * difference / (last - 1)
    y = 26
    parts = [_line(_LEFT, y, end, y), _line(_LEFT, y - 4, _LEFT, y + 4)]
    parts.append(_line(end, y - 4, end, y + 4))
    return [*parts, _text(_LEFT, 16, f"critical difference {difference:.2f}", "start")]


def _row(row: str, rank: float, x: float, y: float, left: bool) -> list[str]:
    end = _LEFT - 12 if left else _RIGHT + 12
    name = row if len(row) <= _LONGEST else row[: _LONGEST - 1] + "…"
    text = f"{name} {rank:.2f}" if left else f"{rank:.2f} {name}"
    where, anchor = (end - 4, "end") if left else (end + 4, "start")
    return [_line(x, _AXIS, x, y), _line(x, y, end, y), _text(where, y + 4, text, anchor, row)]


def _line(x1: float, y1: float, x2: float, y2: float, width: float = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="currentColor" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, anchor: str, title: str = "") -> str:
    whole = f"<title>{escape(title)}</title>" if title else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="currentColor">{whole}{escape(text)}</text>'


def _svg(height: float, title: str, parts: list[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    font = 'font-family="system-ui, sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", *parts, "</svg>\n"])
