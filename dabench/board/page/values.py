"""What a row of a page says of a metric: its mean, and its difference to another row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dabench.board.page import texts
from dabench.board.statistics.seeds import MIN_PAIRS

Cell = Mapping[str, Any]
#: differences from which a cell of the overview is shaded, and shaded more
HEAT = (0.02, 0.05, 0.1)


@dataclass(frozen=True)
class Value:
    """A metric of a line over seeds; None = a hole.

    ``low`` and ``high`` are the 95 % interval or, with few seeds (``is_range``), the range.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int
    is_range: bool

    @property
    def interval(self) -> str:
        """The interval in brackets, or the range with a dash between."""
        if self.is_range and self.low is not None:
            return f"{texts.number(self.low)} – {texts.number(self.high)}"
        return texts.span(self.low, self.high)


@dataclass(frozen=True)
class Difference:
    """A paired difference to another row, with its interval and what follows from it."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = ""

    @property
    def sign(self) -> str:
        """The verdict's sign, or nothing where there is no verdict."""
        return texts.SIGNS.get(self.verdict, "")

    @property
    def heat(self) -> str:
        """A class of the page's style: how far above or below, in three steps each."""
        if self.mean is None or abs(self.mean) < HEAT[0]:
            return ""
        step = sum(abs(self.mean) >= least for least in HEAT)
        return f"{'up' if self.mean > 0 else 'down'}{step}"

    @property
    def interval(self) -> str:
        """The interval in brackets."""
        return texts.span(self.low, self.high, sign=True)


def value_of(cell: Cell) -> Value | None:
    """Return a metric of a line; None = a hole."""
    mean, n = number_of(cell["mean"]), int(cell["n"])
    if mean is None:
        return None
    ends = ("min", "max") if n < MIN_PAIRS else ("ci_low", "ci_high")
    low, high = (number_of(cell[name]) if n > 1 else None for name in ends)
    return Value(mean, number_of(cell["sd"]), low, high, n, n < MIN_PAIRS)


def difference_of(cell: Cell, name: str, verdict: Any) -> Difference:
    """Return a difference by the beginning of its fields' names."""
    mean, low, high = (number_of(cell[f"{name}_{end}"]) for end in ("mean", "low", "high"))
    return Difference(mean, low, high, text_of(verdict))


def number_of(value: Any) -> float | None:
    """Return a number of a table; None = a hole."""
    return None if value is None or pd.isna(value) else float(value)


def text_of(value: Any) -> str:
    """Return a text of a table; "" = none."""
    return value if isinstance(value, str) else ""
