"""Tests over tasks and ranks against scipy, scikit-posthocs 0.17.1 and hand-worked examples."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from dabench.board.statistics.rank_figure import rank_svg
from dabench.board.statistics.ranks import (
    Ranking,
    critical_difference,
    describe_tasks,
    indistinguishable_groups,
    ranking,
    rankings,
)
from dabench.board.statistics.tasks import TaskGrid, holm, signed_rank, task_grid, task_tests
from dabench.board.tables.leaderboard import table
from dabench.cli.main import main
from dabench.registry.method_info import MethodInfo
from dabench.store.store import Store

Make = Callable[..., dict[str, Any]]
ROSTER = MethodInfo(primary=lambda protocol, dataset: "HOS")
SCORES = {
    "a": [0.61, 0.70, 0.55, 0.81, 0.66, 0.73, 0.52],
    "b": [0.65, 0.72, 0.61, 0.80, 0.71, 0.78, 0.60],
    "c": [0.70, 0.75, 0.66, 0.88, 0.70, 0.81, 0.58],
    "d": [0.58, 0.71, 0.50, 0.79, 0.60, 0.70, 0.49],
}


def grid(scores: dict[str, list[float]]) -> TaskGrid:
    values = {name: {f"t{i}": v for i, v in enumerate(own)} for name, own in scores.items()}
    return TaskGrid("p", values, {})


def test_signed_rank_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    for n in (6, 7, 12, 30):
        differences = rng.normal(0.3, 1, n)
        expected = stats.wilcoxon(differences, method="exact")
        plus, p = signed_rank(differences)
        assert min(plus, n * (n + 1) / 2 - plus) == expected.statistic
        assert p == pytest.approx(expected.pvalue)


def test_signed_rank_with_ties_counts_every_sign() -> None:
    differences = [0.1, 0.1, 0.2, -0.1, 0.3, 0.3, 0.0]
    ranks = stats.rankdata([0.1, 0.1, 0.2, 0.1, 0.3, 0.3])
    sums = [sum(ranks[list(kept)]) for kept in _subsets(6)]
    observed = sum(ranks[[0, 1, 2, 4, 5]])
    above = np.mean([total >= observed - 1e-9 for total in sums])
    below = np.mean([total <= observed + 1e-9 for total in sums])
    assert signed_rank(differences) == (observed, pytest.approx(min(1, 2 * min(above, below))))


def _subsets(n: int) -> list[tuple[int, ...]]:
    return [kept for size in range(n + 1) for kept in itertools.combinations(range(n), size)]


def test_six_wins_in_six_by_hand() -> None:
    assert signed_rank([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == (21.0, 2 / 64)
    assert signed_rank([0.0] * 6) == (0.0, 1.0)


def test_holm_by_hand() -> None:
    # statsmodels' multipletests(method="holm") gives the same
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_rows_against_one_over_tasks() -> None:
    found = {test.row: test for test in task_tests(grid(SCORES), "a")}
    assert set(found) == {"b", "c", "d"}
    assert found["c"].p == pytest.approx(0.015625)
    assert found["c"].p_holm == pytest.approx(3 * 0.015625)
    assert (found["c"].verdict, found["b"].verdict) == ("win", "tie")
    assert found["b"].mean == pytest.approx(np.mean(np.subtract(SCORES["b"], SCORES["a"])))
    turned = {test.row: test for test in task_tests(grid(SCORES), "c")}
    assert turned["a"].verdict == "loss"


def test_tasks_that_can_never_tell_so_many_rows_apart_say_so() -> None:
    """The least p of 6 tasks is 1 / 32, and the correction makes it .0625 with two rows."""

    def verdicts(rows: int, tasks: int) -> set[str]:
        better = {f"m{row}": [row + t / 100 for t in range(tasks)] for row in range(1, rows)}
        return {test.verdict for test in task_tests(grid({"a": [0.0] * tasks, **better}), "a")}

    assert verdicts(2, 6) == {"win"}
    assert verdicts(3, 6) == {"6 tasks cannot tell 3 rows apart"}
    assert verdicts(4, 7) == {"win"}  # 3 / 64
    assert verdicts(5, 7) == {"7 tasks cannot tell 5 rows apart"}
    # of rows with other numbers of tasks, those that can be told apart are
    mixed = grid({"a": [0.0] * 12, "b": [1.0] * 12, "c": [1.0] * 6})
    found = {test.row: test.verdict for test in task_tests(mixed, "a")}
    assert found == {"b": "win", "c": "win"}  # once b is decided, c is alone
    mixed = grid({"a": [0.0] * 12, "b": [1.0] * 12, "c": [1.0] * 6, "d": [1.0] * 6})
    found = {test.row: test.verdict for test in task_tests(mixed, "a")}
    told = "6 tasks cannot tell 4 rows apart"
    assert found == {"b": "win", "c": told, "d": told}


def test_too_few_tasks_say_so() -> None:
    few = grid({name: own[:5] for name, own in SCORES.items()})
    assert {test.verdict for test in task_tests(few, "a")} == {"too few tasks (5 of 6)"}
    assert all(test.p is None and test.p_holm is None for test in task_tests(few, "a"))
    assert ranking(few).note == "too few tasks (5 of 6)"
    assert ranking(few).rows == ()
    assert ranking(TaskGrid("p", {}, {})).note == "too few tasks (0 of 6)"


def test_rows_with_few_tasks_give_way_to_six_in_common() -> None:
    places = [f"p/d/{i}/x" for i in range(13)]
    own = {"many": range(13), "first": range(6), "last": range(6, 13), "most": range(3, 13)}
    values = {
        name: {places[i]: i / 20 + row / 100 for i in where}
        for row, (name, where) in enumerate(own.items())
    }
    found = ranking(TaskGrid("p", values, {}))
    assert found.tasks == tuple(sorted(places[6:]))
    assert set(found.rows) == {"many", "last", "most"}
    assert found.left_out == {"first": "shares too few of its 6 tasks with the others"}
    # their scores have no part in it
    values["first"] = {place: 1.0 for place in values["first"]}
    assert ranking(TaskGrid("p", values, {})).tasks == found.tasks
    apart = {name: values[name] for name in ("first", "last")}
    assert ranking(TaskGrid("p", apart, {})).note == "too few tasks (0 of 6) with all rows"


def test_rows_left_out_for_other_tasks_are_ranked_apart() -> None:
    places = [f"p/d/{i}/x" for i in range(13)]
    own = {"many": range(13), "more": range(13), "last": range(6, 13), "other": range(6, 13)}
    own |= {"first": range(6), "early": range(6)}
    values = {
        name: {places[i]: row + i / 20 for i in where}
        for row, (name, where) in enumerate(own.items())
    }
    main, apart = rankings(TaskGrid("p", values, {}, {"first": " (marked)"}))
    assert main.rows == ("other", "last", "more", "many")
    assert set(main.left_out) == {"first", "early"}
    assert main.left_out["first"] == "shares too few of its 6 tasks with the others: ranked apart"
    assert apart.rows == ("early", "first", "more", "many")
    assert apart.tasks == tuple(sorted(places[:6]))
    assert apart.marked("first") == "first (marked)"
    assert apart.left_out == {}
    # nor is there a second where there is no first
    apart = {name: found for name, found in values.items() if name in ("last", "first", "early")}
    assert (
        len(rankings(TaskGrid("p", apart | {"other": {f"p/e/{i}/x": 1.0 for i in range(9)}}, {})))
        == 1
    )
    # one row is no ranking, and five tasks are none
    alone = {name: found for name, found in values.items() if name != "early"}
    assert [found.tasks for found in rankings(TaskGrid("p", alone, {}))] == [main.tasks]
    del values["early"][places[0]], values["early"][places[1]]
    assert len(rankings(TaskGrid("p", values, {}))) == 1


def test_ranks_agree_with_scikit_posthocs() -> None:
    found = ranking(grid(SCORES))
    assert found.rows == ("c", "b", "a", "d")
    # posthoc_nemenyi_friedman's p is the level at which a difference becomes critical
    rank = dict(zip(found.rows, found.ranks, strict=True))
    for (one, other), p in {
        ("a", "b"): 0.347174,
        ("b", "d"): 0.019635,
        ("a", "c"): 0.062368,
    }.items():
        gap = abs(rank[one] - rank[other])
        assert critical_difference(4, 7, p) == pytest.approx(gap, abs=1e-4)
    assert found.groups == ((0, 2), (2, 3))


def test_the_critical_difference_of_demsars_example() -> None:
    # four trees on 14 data sets: q = 2.569, CD = 1.25, and the post-hoc test finds nothing
    difference = critical_difference(4, 14)
    assert difference == pytest.approx(1.25, abs=0.005)
    assert indistinguishable_groups([1.964, 2.0, 2.893, 3.143], difference) == ((0, 3),)
    published = {2: 1.960, 3: 2.343, 5: 2.728, 10: 3.164}
    for rows, q in published.items():
        assert critical_difference(rows, 6) == pytest.approx(
            q * (rows * (rows + 1) / 36) ** 0.5, abs=2e-3
        )


def test_groups_are_the_longest_stretches() -> None:
    assert indistinguishable_groups([1.0, 1.5, 2.0, 4.0], 1.0) == ((0, 2),)
    assert indistinguishable_groups([1.0, 3.0], 1.0) == ()
    assert indistinguishable_groups([1.0, 1.9, 2.8], 1.0) == ((0, 1), (1, 2))


def runs(made: Make, method: str, values: list[float], **changes: Any) -> list[dict[str, Any]]:
    return [
        made(method, seed, value + seed / 1000, target=f"t{i}", **changes)
        for i, value in enumerate(values)
        for seed in range(2)
    ]


def test_a_row_a_method_and_no_upper_bound(made_run: Make) -> None:
    base = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    records = runs(made_run, "source", base) + runs(made_run, "target-supervised", base)
    records += runs(made_run, "usd", [v + 0.1 for v in base])
    records += runs(made_run, "usd", base, variant={"criterion": "ce"})
    for lr in (1, 2):
        records += runs(made_run, "tent", base, variant={"lr": lr}, options={"lr": lr})
    found = task_grid(table(records, info=ROSTER), ROSTER, "sf-osda")
    assert set(found.values) == {"source", "usd"}
    assert found.left_out == {
        "target-supervised": "upper bound",
        "tent": "2 settings and none with the defaults",
    }
    assert found.values["usd"][min(found.values["usd"])] in [
        pytest.approx(v + 0.1005) for v in base
    ]


def test_streams_are_ranked_by_the_whole_stream_too(
    made_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    for method, last, whole in (("source", 0.1, 0.5), ("tent", 0.3, 0.4)):
        for target in "abcdef":
            made = made_run(method, 0, whole, protocol="gradual-weather", target=target)
            score = made["scores"][0] | {"metric": "accuracy"}
            made["scores"] = [score, score | {"value": last, "segment": "final"}]
            store.write(made)
    assert main(["leaderboard", "--results", str(tmp_path), "--ranks", str(tmp_path / "out")]) == 0
    first, second = capsys.readouterr().out.split("gradual-weather · ranks over tasks")[1:]
    assert first.index("tent") < first.index("source")
    assert second.startswith(", by accuracy\n")
    assert second.index("source") < second.index("tent")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"ranks-gradual-weather.svg", "ranks-gradual-weather-accuracy.svg"}


def test_less_is_better_by_some_metrics(made_run: Make) -> None:
    records = [
        made_run(method, 0, target=f"t{i}", scores={"FPR95": value})
        for method, value in (("source", 0.3), ("usd", 0.2))
        for i in range(6)
    ]
    found = task_grid(table(records, info=ROSTER), ROSTER, "sf-osda", "FPR95")
    assert ranking(found).rows == ("usd", "source")
    assert task_tests(found, "source")[0].verdict == "win"


def test_of_two_versions_the_last_counts(made_run: Make) -> None:
    old = runs(made_run, "usd", [0.1], versions={"method": "9", "protocol": "1"})
    new = runs(made_run, "usd", [0.9], versions={"method": "10", "protocol": "1"})
    found = task_grid(table(new + old, info=ROSTER), ROSTER, "sf-osda")
    assert list(found.values["usd"].values()) == [pytest.approx(0.9005)]


def test_a_hole_of_the_last_version_is_not_filled_by_an_older_one(made_run: Make) -> None:
    old = runs(made_run, "usd", [0.1], versions={"method": "1", "protocol": "1"})
    new = made_run("usd", 0, None, target="t0", versions={"method": "2", "protocol": "1"})
    found = task_grid(table([*old, new], info=ROSTER), ROSTER, "sf-osda")
    assert found.values == {"usd": {}}


def test_the_picture_is_sound_xml_and_holds_every_name() -> None:
    scores = SCORES | {"<script>alert(1)</script>": SCORES["a"], "x" * 300: SCORES["b"]}
    text = rank_svg(ranking(grid(scores)))
    words = " ".join(ElementTree.fromstring(text).itertext())
    assert "<script" not in text
    assert "<script>alert(1)</script>" in words
    assert "x" * 300 in words
    assert "critical difference" in words
    empty = rank_svg(Ranking("p", note="too few tasks (2 of 6)"))
    assert "too few tasks (2 of 6)" in "".join(ElementTree.fromstring(empty).itertext())


def test_source_models_of_one_task_are_one_task() -> None:
    """Twelve columns of six tasks, two budgets each: differences within one, then their mean."""
    values = {
        name: {
            f"p/d/a-b/{task:06x}{seed:08x}-s{seed}": own[task] + seed
            for task in range(6)
            for seed in (0, 1)
        }
        for name, own in SCORES.items()
    }
    del values["b"]["p/d/a-b/00000000000001-s1"]  # its other source model is 1 better
    twice, once = TaskGrid("p", values, {}), grid({n: own[:6] for n, own in SCORES.items()})
    for found, expected in zip(task_tests(twice, "a"), task_tests(once, "a"), strict=True):
        assert (found.tasks, found.p_holm) == (6, expected.p_holm)
        assert found.mean == pytest.approx(expected.mean)
    assert ranking(twice).ranks == ranking(once).ranks
    assert len(ranking(twice).tasks) == 6
    five = {
        name: {c: v for c, v in own.items() if "/000005" not in c} for name, own in values.items()
    }
    assert ranking(TaskGrid("p", five, {})).note == "too few tasks (5 of 6)"


def test_answers_after_the_update_are_not_ranked_among_those_before(made_run: Make) -> None:
    base = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    records = runs(made_run, "source", base) + runs(made_run, "tent", [v + 0.1 for v in base])
    records += runs(made_run, "t3a", [v + 0.2 for v in base], extras=["answers-after"])
    frame = table(records, info=ROSTER)
    found = ranking(task_grid(frame, ROSTER, "sf-osda"))
    assert found.rows == ("tent", "source")
    assert found.left_out == {"t3a": "answers after its update"}


def test_another_version_of_the_protocol_is_another_task(made_run: Make) -> None:
    base = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    old, new = {"method": "1", "protocol": "1"}, {"method": "1", "protocol": "2"}
    records = runs(made_run, "source", base, versions=old) + runs(made_run, "usd", base)
    records += runs(made_run, "source", base, versions=new)
    found = task_grid(table(records, info=ROSTER), ROSTER, "sf-osda")
    assert set(found.values) == {"source"}  # usd was run on the tasks as they were


def test_the_newest_version_says_whether_a_row_is_ranked(made_run: Make) -> None:
    old = runs(made_run, "usd", [0.1], versions={"method": "1", "protocol": "1"})
    for record in old:
        record["extras"] = ["answers-after"]
    new = runs(made_run, "usd", [0.9], versions={"method": "2", "protocol": "1"})
    found = task_grid(table(old + new, info=ROSTER), ROSTER, "sf-osda")
    assert set(found.values) == {"usd"}
    assert not found.left_out


def test_names_say_what_a_row_was_granted(made_run: Make) -> None:
    base = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    ours = runs(made_run, "usd", [v + 0.1 for v in base])
    for record in ours:
        record |= {"extras": ["buffer"], "reconstruction": True}
    records = runs(made_run, "source", base) + ours
    ranks = ranking(task_grid(table(records, info=ROSTER), ROSTER, "sf-osda"))
    assert [ranks.marked(row) for row in ranks.rows] == ["usd (reconstruction, +buffer)", "source"]
    assert "usd (reconstruction, +buffer) 1.00" in rank_svg(ranks)


def test_tasks_of_one_data_set_share_images() -> None:
    tasks = ("p/office/a-d/1", "p/office/w-d/2", "p/digits/x-y/3")
    assert describe_tasks(tasks) == "3 tasks; not independent: 2 of office share images"


def test_what_labels_of_the_target_chose_is_not_ranked(made_run: Make) -> None:
    """Nor where they did so on one of its tasks."""
    base = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    records = runs(made_run, "source", base) + runs(made_run, "tent", [v + 0.1 for v in base])
    ours = runs(made_run, "usd", [v + 0.2 for v in base])
    for record in ours[:2]:
        record["target_tuned"] = True
    found = task_grid(table(records + ours, info=ROSTER), ROSTER, "sf-osda")
    assert set(found.values) == {"source", "tent"}
    assert found.left_out == {"usd": "target-tuned"}
