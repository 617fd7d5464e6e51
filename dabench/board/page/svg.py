"""Small pictures as inline SVG: marks with tooltips, coloured by the page's style sheet.

Marks carry class names and no colours, so that one picture serves light and dark. All text and all
attributes are escaped here; what ``Picture.markup`` returns is safe to stand in a page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from markupsafe import Markup

Point = tuple[float, float]
Axis = Callable[[float], float]


class Picture:
    """A picture of ``width`` × ``height`` units, which the page scales to the room there is.

    Args:
        width: in units; text is set for one unit = one pixel.
        height: in units.
        label: what a screen reader says of it.
    """

    def __init__(self, width: float, height: float, label: str) -> None:
        self.width, self.height, self.label = width, height, label
        self._parts: list[str] = []

    def mark(self, tag: str, title: str = "", **attributes: object) -> None:
        """Add an element; ``title`` is its tooltip, and ``css`` stands for ``class``."""
        inside = f"<title>{escape(title)}</title>" if title else ""
        self._parts.append(f"<{tag}{_attributes(attributes)}>{inside}</{tag}>")

    def text(self, x: float, y: float, content: str, title: str = "", **attributes: object) -> None:
        """Add text whose base line begins at (x, y)."""
        inside = f"<title>{escape(title)}</title>" if title else ""
        place = _attributes({"x": x, "y": y, **attributes})
        self._parts.append(f"<text{place}>{escape(content)}{inside}</text>")

    def line(self, start: Point, end: Point, css: str, title: str = "") -> None:
        """Add a straight line."""
        ends = {"x1": start[0], "y1": start[1], "x2": end[0], "y2": end[1]}
        self.mark("line", title, css=css, **ends)

    def path(self, points: Sequence[Point], css: str, title: str = "", **more: object) -> None:
        """Add a line through points."""
        steps = "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
        self.mark("path", title, d=f"M{steps}", css=css, **more)

    @property
    def markup(self) -> Markup:
        """The picture as an ``<svg>`` element."""
        box = f'viewBox="0 0 {coordinate(self.width)} {coordinate(self.height)}"'
        # width and height reserve the room before any style is known
        size = f'width="{coordinate(self.width)}" height="{coordinate(self.height)}"'
        head = f'<svg {box} {size} role="img" aria-label="{escape(self.label)}">'
        return Markup(head + "".join(self._parts) + "</svg>")


def scale(low: float, high: float, start: float, end: float) -> Axis:
    """Return the map of [low, high] onto [start, end]; what lies outside is held at the rim."""
    span = high - low or 1.0
    return lambda value: start + (min(max(value, low), high) - low) / span * (end - start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers from ``low`` to ``high`` (high > low)."""
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def axis_ceiling(value: float) -> float:
    """Return the end of an axis of fractions that holds ``value``: .2, .4 … 1 at most."""
    return min(1.0, max(0.2, math.ceil(value * 5 - 1e-9) / 5))


def coordinate(value: float) -> str:
    """Return a coordinate with one digit at most."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def tick_label(value: float) -> str:
    """Return an axis' number without idle digits."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def clipped(text: str, most: int) -> str:
    """Return text of ``most`` characters at most, its end replaced by an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _attributes(given: dict[str, object]) -> str:
    found = ""
    for name, value in given.items():
        name = "class" if name == "css" else name.replace("_", "-")
        found += (
            f' {name}="{coordinate(value) if isinstance(value, float) else escape(str(value))}"'
        )
    return found
