"""Rows below the source model, and the shades of the table of all tasks."""

from __future__ import annotations

from typing import Any

import pytest

from dabench.board.page.lines import Difference, Line
from dabench.store.rows import Row


def line(*below: float) -> Line:
    """Return a row of a stream with a run for each mark."""
    rows = [{"metric": "below_source", "segment": "all", "value": value} for value in below]
    runs: list[Any] = [{"scores": [row], "extras": [], "reconstruction": False} for row in rows]
    return Line(0, Row("tent", "source", "", "1"), runs, "method")


@pytest.mark.parametrize(
    ("below", "marked"),
    [((1.0,), True), ((0.0,), False), ((1.0, 1.0, 0.0), True), ((1.0, 0.0), False)],
)
def test_a_row_that_loses_to_the_source_model_is_marked(
    below: tuple[float, ...], marked: bool
) -> None:
    assert ("below source" in line(*below).marks) is marked


def test_rows_without_the_score_are_not_marked() -> None:
    assert line().marks == []


@pytest.mark.parametrize(
    ("mean", "shade"),
    [(None, ""), (0.019, ""), (0.02, "up1"), (0.07, "up2"), (-0.03, "down1"), (-0.4, "down3")],
)
def test_shades_by_the_difference(mean: float | None, shade: str) -> None:
    assert Difference(mean).heat == shade
