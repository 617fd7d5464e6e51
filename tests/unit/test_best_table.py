"""The table of the front page: which row stands for a protocol, and over which tasks."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pandas as pd

from dabench import registry

NAN = float("nan")


def line(method: str, task: str, gap: float, **changed: Any) -> dict[str, Any]:
    """Return a line of the leaderboard; every task has the source model at .5."""
    found = {"method": method, "variant": "", "column": task, "metric": "HOS", "version": "1/1"}
    found |= {"mean": 0.5 + gap, "diff_mean": gap, "diff_low": gap - 0.1, "diff_high": gap + 0.1}
    found |= {"oracle": False, "note": "", "weights": "pretrained", "reconstruction": False}
    found |= {"extras": "", "target_tuned": False, "n": 5}
    if method.startswith("source"):
        found["diff_mean"] = NAN
    return found | changed


def chosen(tables: ModuleType, *lines: dict[str, Any]) -> Any:
    sources = [line("source", task, 0.0) for task in "abc"]
    return tables.best_table.best_method(pd.DataFrame([*sources, *lines]))


def gaps(found: Any) -> list[float]:
    return [line["diff_mean"] for line in found[1]]


def test_the_best_mean_difference_over_tasks_wins(tables: ModuleType) -> None:
    steady = [line("usd", task, 0.2) for task in "abc"]
    other = [line("shot", task, gap) for task, gap in (("a", 0.5), ("b", -0.1), ("c", 0.0))]
    name, lines = chosen(tables, *other, *steady)
    assert (name, len(lines)) == ("usd", 3)


def test_one_easy_task_of_three_is_not_enough(tables: ModuleType) -> None:
    two = [line("shot", task, 0.1) for task in "ab"]
    assert chosen(tables, line("usd", "a", 0.9), *two)[0] == "shot"


def test_half_of_the_tasks_is_not_enough_and_source_models_are_no_tasks(
    tables: ModuleType,
) -> None:
    """A method that ran on the hard half has more to gain there."""
    same, easy = "p/d/" + "1" * 16, "p/d/" + "2" * 16  # what follows tells the source model
    columns = [f"{same}{model}" for model in ("a", "b", "c")]
    sources = [line("source", column, 0.0) for column in (*columns, easy)]
    hard = [line("shot", column, gap) for column, gap in zip(columns, (0.3, 0.4, 0.5), strict=True)]
    both = [line("usd", column, 0.1) for column in (*columns, easy)]
    best = tables.best_table
    assert best.best_method(pd.DataFrame([*sources, *hard, *both]))[0] == "usd"
    name, lines = best.best_method(pd.DataFrame([*sources[:3], *hard]))
    assert best._line("sf-osda", name, lines)[-2:] == [
        "+0.400 (+0.300 to +0.500)",
        "1, range of 3 columns",
    ]


def test_one_lucky_run_is_not_the_best(tables: ModuleType) -> None:
    rows = [line("shot", task, 0.1) for task in "abc"]
    lucky = [line("usd", task, 0.4, n=1) for task in "abc"]
    assert chosen(tables, *rows, *lucky)[0] == "shot"
    source = [line("source", "a", 0.0, n=1)]
    few = pd.DataFrame([*source, line("shot", "a", 0.1, n=1), line("usd", "a", 0.4, n=1)])
    assert tables.best_table.best_method(few)[0] == "usd"  # where nobody has more


def test_ablations_bounds_and_refused_rows_are_left_out(tables: ModuleType) -> None:
    rows = [
        *(line("shot", task, 0.1) for task in "abc"),
        *(line("shot", task, 0.4, variant="epochs=2") for task in "abc"),
        *(line("target-supervised", task, 0.4, oracle=True) for task in "abc"),
        *(line("usd", task, 0.4, note="refused; data id differs") for task in "abc"),
        *(line("t3a", task, 0.4, extras="answers-after") for task in "abc"),
        *(line("nrc", task, 0.4, target_tuned=True) for task in "abc"),
    ]
    name, lines = chosen(tables, *rows)
    assert (name, gaps((name, lines))) == ("shot", [0.1] * 3)
    only = [line("aad", task, 0.3, variant="lr=0.1") for task in "abc"]
    assert chosen(tables, *rows, *only)[0] == "aad lr=0.1"


def test_a_method_stands_at_its_usual_start_in_its_newest_version(tables: ModuleType) -> None:
    found = chosen(
        tables,
        line("usd", "a", 0.2),
        line("usd+bn", "a", 0.4),  # a pretrained network keeps its statistics
        line("usd", "b", 0.3, version="9/1"),
        line("usd", "b", 0.4, version="10/1"),
        line("usd+bn", "c", 0.1, weights="none"),
    )
    assert sorted(gaps(found)) == [0.1, 0.2, 0.4]


def test_what_is_shown(tables: ModuleType) -> None:
    shown = tables.best_table._line(
        "sf-osda", *chosen(tables, line("shot", "a", 0.2), line("shot", "b", -0.1))
    )
    assert shown[3:5] == ["0.500", "0.550"]
    assert shown[5] == "+0.050 (-0.100 to +0.200)"  # two tasks are too few for an interval
    assert shown[6] == "2, below `source` in 1, range"


def test_settings_and_starts_are_named(tables: ModuleType) -> None:
    shown = tables.best_table._line(
        "sf-osda", *chosen(tables, *(line("usd", t, 0.2) for t in "ab"))
    )
    assert (shown[0], shown[1]) == ("source-free, open set (`sf-osda`)", "`usd`")
    scratch = line("usd+bn", "b", 0.3, weights="none")
    shown = tables.best_table._line("sf-osda", *chosen(tables, line("usd", "a", 0.2), scratch))
    assert (shown[1], shown[3]) == ("`usd` / `usd+bn`", "0.500 (`source` / `source+bn`)")
    only = [line("usd+bn", task, 0.3, weights="none", variant="lr=0.1") for task in "ab"]
    shown = tables.best_table._line("sf-osda", *chosen(tables, *only))
    assert (shown[1], shown[3]) == ("`usd+bn lr=0.1`", "0.500 (`source+bn`)")
    assert set(tables.best_table.WORDS) == set(registry.PROTOCOLS)


def test_five_tasks_have_an_interval(tables: ModuleType) -> None:
    gains = {"a": 0.2, "b": -0.1, "c": 0.1, "d": 0.0, "e": 0.05}
    found = chosen(tables, *(line("shot", task, gain) for task, gain in gains.items()))
    shown = tables.best_table._line("sf-osda", *found)
    assert shown[5] == "+0.050 [-0.089, +0.189]"  # t = 2.776 with four degrees of freedom
    assert shown[6] == "5, below `source` in 1, not told apart"


def test_what_was_granted_beyond_the_protocol_is_named(tables: ModuleType) -> None:
    lines = [
        line("aerial", task, 0.2 + at / 100, extras=extras, reconstruction=True)
        for at, (task, extras) in enumerate({"a": "buffer", "b": "", "c": "source-parts"}.items())
    ]
    shown = tables.best_table._line("gradual-weather", *chosen(tables, *lines))
    assert shown[1] == "`aerial` `+buffer` `+source-parts` (reconstruction)"
    assert shown[6] == "3, range"


def test_one_task_has_the_interval_over_its_seeds(tables: ModuleType) -> None:
    frame = pd.DataFrame([line("source", "a", 0.0), line("shot", "a", 0.2)])
    shown = tables.best_table._line("sf-osda", *tables.best_table.best_method(frame))
    assert shown[5:] == ["+0.200 [+0.100, +0.300]", "1"]


def test_one_seed_is_no_verdict(tables: ModuleType) -> None:
    few = {"n": 1, "diff_low": NAN, "diff_high": NAN}
    frame = pd.DataFrame([line("source", "a", 0.0), line("shot", "a", 0.2, **few)])
    shown = tables.best_table._line("sf-osda", *tables.best_table.best_method(frame))
    assert shown[5:] == ["+0.200", "1, 1 seed: no verdict"]


def test_without_a_difference_there_is_no_line(tables: ModuleType) -> None:
    assert tables.best_table.best_method(pd.DataFrame([line("source", "a", 0.0)])) is None
