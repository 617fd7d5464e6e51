"""The page's overview: ranks where tasks suffice, words where they do not, tasks counted right."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dabench.board.page.blocks import Block, blocks, group_runs
from dabench.board.page.build import leaderboard_page
from dabench.board.page.compare_data import compare_data
from dabench.board.page.overview import Overview, Standing, overview, rows_by_task
from dabench.board.page.page_records import PageRecords, RecordReducer
from dabench.board.page.tabs import tabs
from dabench.board.page.texts import fragment
from dabench.board.tables.leaderboard import table
from dabench.registry.method_info import registered_info

Make = Callable[..., dict[str, Any]]
HOSTILE = "<img src=x onerror=alert(1)>/\"'&#"
LEVELS = {"source": 0.5, "usd": 0.7, "shot": 0.3}


def grid(make: Make, tasks: int = 6, seeds: int = 5) -> list[dict[str, Any]]:
    """Return records: usd wins everywhere, and shot loses but in the first task."""
    return [
        make(
            name,
            seed,
            (0.55 if name == "shot" and not task else level) + 0.01 * task + 1e-3 * seed * level,
            target=f"t{task}",
            cost={"images_forward": 100.0 * (task + 1), "images_backward": 0.0},
        )
        for task in range(tasks)
        for name, level in LEVELS.items()
        for seed in range(seeds)
    ]


def found_blocks(records: list[dict[str, Any]]) -> list[Block]:
    info = registered_info()
    kept = [RecordReducer(info).reduced(record) for record in records]
    frame = table(kept, "source", info)
    return blocks(frame, group_runs(kept), info, "source", compact=False)


def found_overview(records: list[dict[str, Any]]) -> Overview:
    info = registered_info()
    frame = table(records, "source", info)
    return overview("sf-osda", found_blocks(records), frame, info, "source")


def standing(found: Overview, name: str) -> Standing:
    return next(one for one in found.standings if one.line.name == name)


def text_of(records: list[dict[str, Any]]) -> str:
    reader = RecordReducer(registered_info())
    kept = PageRecords([reader.reduced(record) for record in records])
    content = leaderboard_page(kept, "source", registered_info()).decode()
    part = content[content.index('id="p-overview"') : content.index('id="p-1"')]
    return " ".join(re.sub(r"<[^>]*>", " ", part).split())


def test_ranks_and_counts_over_tasks(made_run: Make) -> None:
    found = found_overview(grid(made_run))
    assert [(one.line.name, one.rank) for one in found.standings] == [
        ("usd", 1.0),
        ("source", pytest.approx(2 + 1 / 6)),
        ("shot", pytest.approx(3 - 1 / 6)),
    ]
    shot, usd = standing(found, "shot"), standing(found, "usd")
    assert dict(shot.verdicts) == {"win": 1, "loss": 5}
    assert (shot.below, shot.shared, shot.tasks) == (5, 6, 6)
    assert shot.worst is not None
    assert shot.worst[0] == pytest.approx(-0.2 - 2e-3 * 0.2)
    assert shot.mean == pytest.approx((0.05 - 5 * 0.2 - 6 * 2e-3 * 0.2) / 6)
    assert usd.test is not None
    assert usd.test.verdict == "6 tasks cannot tell 3 rows apart"  # p = 0.0625 at best
    assert usd.passes == pytest.approx(3.5)
    source = standing(found, "source")
    assert (source.mean, source.worst, source.shared) == (None, None, 0)


def test_few_tasks_are_said_in_words(made_run: Make) -> None:
    said = text_of(grid(made_run, tasks=5))
    assert (
        "No mean ranks: too few tasks (5 of 6); what there is stands below, by mean − source."
        in said
    )
    assert "Mean ranks over" not in said
    assert "▲ 5" in said.replace("&nbsp;", " ")
    assert "80 % 4 of 5" in said.replace("&nbsp;", " ")


def test_ranks_have_a_picture_with_the_critical_difference(made_run: Make) -> None:
    said = text_of(grid(made_run))
    assert "Mean ranks over 6 tasks; not independent: 6 of digits share images. Rows that" in said
    assert "differ by less than 1.35, under one bar, are not told apart." in said
    assert "critical difference 1.35" in said
    assert "No mean ranks" not in said


def test_a_second_ranking_has_a_picture_of_its_own(made_run: Make) -> None:
    """Seven tasks have source, usd and shot; six others source, aad and lead."""
    rows = {**dict.fromkeys(range(7), ("source", "usd", "shot"))}
    rows |= dict.fromkeys(range(7, 13), ("source", "aad", "lead"))
    level = {"source": 0.5, "usd": 0.7, "shot": 0.3, "aad": 0.6, "lead": 0.4}
    records = [
        made_run(name, 0, level[name] + 0.01 * task, target=f"t{task}")
        for task, names in rows.items()
        for name in names
    ]
    said = text_of(records)
    assert said.count("Mean ranks over 7 tasks") == 1
    assert said.count("Mean ranks of rows with other tasks over 6 tasks") == 1
    assert "aad 1.00, source 2.00, lead 3.00." in said
    assert "aad, lead (shares too few of its 6 tasks with the others: ranked apart)" in said
    first, second = found_overview(records).figures
    assert (first.places[:3], second.left_out) == ("usd", ())


def test_tasks_without_a_verdict_are_counted(made_run: Make) -> None:
    found = found_overview(grid(made_run, seeds=3))
    assert found.undecided
    assert standing(found, "usd").verdicts[""] == 6


def test_the_newest_version_of_a_row_counts(made_run: Make) -> None:
    records = grid(made_run, tasks=2)
    for seed in range(5):
        records.append(
            made_run("usd", seed, 0.1, target="t0", versions={"method": "10", "protocol": "1"})
        )
        records.append(
            made_run("usd", seed, 0.9, target="t0", versions={"method": "9", "protocol": "1"})
        )
    found = found_blocks(records)
    rows = {first.name: lines for first, lines in rows_by_task(found)}
    line = rows["usd"][0]
    assert line is not None
    assert line.row.version == "10/1"


def test_a_row_under_an_older_protocol_is_no_row_of_the_task(made_run: Make) -> None:
    newer = {"versions": {"method": "1", "protocol": "2"}}
    records = [
        made_run(name, seed, level, target="t0", **newer)
        for name, level in LEVELS.items()
        for seed in range(2)
    ]
    older = [made_run("aad", seed, 0.9, target=f"t{task}") for seed in range(2) for task in (0, 1)]
    rows = {first.name: lines for first, lines in rows_by_task(found_blocks(records + older))}
    assert [line and line.row.version for line in rows["aad"]] == [None, "1/1"]
    assert [line and line.row.version for line in rows["usd"]] == ["1/2", None]


def test_several_versions_of_a_row_are_told_apart(made_run: Make) -> None:
    records = grid(made_run, tasks=1)
    records += [
        made_run("usd", seed, 0.1, target="t0", versions={"method": "9", "protocol": "1"})
        for seed in range(5)
    ]
    (block,) = found_blocks(records)
    assert sorted(line.label for line in block.main) == ["shot", "source", "usd v1/1", "usd v9/1"]


def test_a_cost_that_is_a_hole_does_not_drop_the_run(made_run: Make) -> None:
    record = made_run("usd", 0, cost={"images_forward": None, "images_backward": 3.0})
    assert RecordReducer(registered_info()).reduced(record)["cost"] == {"images_backward": 3.0}


def test_rows_without_a_rank_stand_by_their_mean_difference(made_run: Make) -> None:
    levels = {"aad": 0.32, "glc": 0.75, "target-supervised": 0.9}
    more = [
        made_run(name, seed, level, target=f"t{task}")
        for task in range(5)
        for name, level in levels.items()
        for seed in range(2)
    ]
    alone = [made_run("lead", 0, 0.9, target="elsewhere")]
    ranked, few = grid(made_run), grid(made_run, tasks=5)
    names = [
        [one.line.name for one in found_overview([*own, *more, *alone]).standings]
        for own in (ranked, few)
    ]
    others = ["glc", "aad", "lead", "target-supervised"]
    assert names[0] == ["usd", "source", "shot", *others]
    # without ranks the row that all are held against parts those above it from those below
    assert names[1] == ["glc", "usd", "source", "shot", *others[1:]]
    info = registered_info()
    records = [*ranked, *more, *alone]
    (tab,) = tabs(found_blocks(records), table(records, "source", info), info, "source")
    assert [first.name for first, _ in tab.rows] == [n for n in names[0] if n != "lead"]


def test_a_test_says_over_how_many_tasks_it_goes(made_run: Make) -> None:
    said = text_of(grid(made_run, tasks=13))
    assert "▲ p 0.000 , 13 tasks" in said
    assert "For a row's difference to source its signed ranks count" in said
    reader = RecordReducer(registered_info())
    kept = PageRecords([reader.reduced(record) for record in grid(made_run)])
    content = leaderboard_page(kept, "source", registered_info()).decode()
    assert content.count("6 tasks cannot tell 3 rows apart") == 2  # as tooltips
    assert content.count('title="6 tasks cannot tell 3 rows apart">too few tasks</abbr></td>') == 2


def test_a_row_of_several_versions_says_so(made_run: Make) -> None:
    records = grid(made_run, tasks=3)
    for record in records:
        if record["spec"]["method"] == "usd" and record["spec"]["target"] != "t1":
            record["versions"]["method"] = "10" if record["spec"]["target"] == "t0" else "9"
    older = found_overview(records).older
    assert older["usd"] == [("9", "t2"), ("1", "t1")]
    assert older["shot"] == []
    reader = RecordReducer(registered_info())
    kept = PageRecords([reader.reduced(record) for record in records])
    content = leaderboard_page(kept, "source", registered_info()).decode()
    chip = '<span class="chip" tabindex="0" title="version 9: t2">also v9</span>'
    assert content.count(chip) == 2  # in the overview and in the heat map


def test_the_upper_bound_stands_last_and_has_no_rank(made_run: Make) -> None:
    more = [
        made_run("target-supervised", s, 0.9, target=f"t{t}") for t in range(6) for s in range(5)
    ]
    found = found_overview([*grid(made_run), *more])
    assert found.standings[-1].line.kind == "bound"
    assert found.standings[-1].rank is None
    assert found.figures[0].left_out == ("target-supervised (upper bound)",)


def test_links_of_hostile_names_end_nothing(made_run: Make) -> None:
    assert fragment(HOSTILE).isascii()
    assert not set(fragment(HOSTILE)) & set("<>\"'&#/ ")
    assert fragment("a\ud800") == "a%3F"
    records = [made_run(HOSTILE, seed, 0.5, protocol=HOSTILE) for seed in range(2)]
    reader = RecordReducer(registered_info())
    kept = PageRecords([reader.reduced(record) for record in records])
    content = leaderboard_page(kept, "source", registered_info()).decode()
    assert f'href="#{fragment(HOSTILE)}/{fragment(HOSTILE)}"' in content
    assert "<img" not in content


def test_the_data_of_a_comparison_hold_every_digit(made_run: Make) -> None:
    records = grid(made_run, tasks=2)
    lost = next(r for r in records if r["spec"]["method"] == "shot" and r["spec"]["seed"] == 3)
    lost["scores"][0]["value"] = None
    records.remove(next(r for r in records if r["spec"]["method"] == "usd"))
    changed = [made_run("usd", s, 0.6, target="t1", variant={"lr": 1}) for s in range(5)]
    info = registered_info()
    kept = [RecordReducer(info).reduced(record) for record in [*records, *changed]]
    frame = table(kept, "source", info)
    found = blocks(frame, group_runs(kept), info, "source", compact=False)
    shown = tabs(found, frame, info, "source")
    data = compare_data(shown, "source", ablations=True)
    assert data["t"][4] == pytest.approx(2.7764, abs=1e-4)
    mine = data["protocols"]["sf-osda"]
    assert mine["rows"] == ["usd", "source", "shot", "usd lr=1"]
    assert [mine["rows"][place] for place in mine["pair"]] == ["usd", "source"]
    first = next(task for task in mine["tasks"] if task["block"] == found[0].anchor)
    values = np.frombuffer(base64.b64decode(first["values"]), "<f8").reshape(-1, 5)
    rows = dict(zip((mine["rows"][place] for place in first["rows"]), values, strict=True))
    assert rows["source"].tolist() == [0.5 + 1e-3 * seed * 0.5 for seed in range(5)]
    assert math.isnan(rows["shot"][3])
    assert math.isinf(rows["usd"][0])
    few = compare_data(shown, "source", ablations=False)["protocols"]["sf-osda"]
    assert few["rows"] == ["usd", "source", "shot"]


def test_less_is_better_turns_differences_round(made_run: Make) -> None:
    records = [
        made_run(name, seed, scores={"ECE": level + seed / 1e3 * level}, target=f"t{task}")
        for task in range(2)
        for name, level in LEVELS.items()
        for seed in range(5)
    ]
    info = dataclasses.replace(registered_info(), primary=lambda *_: "ECE")
    kept = [RecordReducer(info).reduced(record) for record in records]
    frame = table(kept, "source", info)
    found = blocks(frame, group_runs(kept), info, "source", compact=False)
    shown = tabs(found, frame, info, "source")
    shot = standing(shown[0].overview, "shot")
    assert shot.mean == pytest.approx(0.2, abs=0.01)
    assert (dict(shot.verdicts), shot.below) == ({"win": 2}, 0)
    data = compare_data(shown, "source", ablations=True)
    assert [task["less"] for task in data["protocols"]["sf-osda"]["tasks"]] == [1, 1]


def test_answers_after_the_update_have_no_rank_on_the_page(made_run: Make) -> None:
    after = [
        made_run("t3a", seed, 0.9, target=f"t{task}", extras=["answers-after"])
        for task in range(6)
        for seed in range(5)
    ]
    records = [*grid(made_run), *after]
    assert {block.best.name for block in found_blocks(records) if block.best} == {"usd"}
    found = found_overview(records)
    assert standing(found, "t3a").rank is None
    assert found.figures[0].left_out == ("t3a (answers after its update)",)


def test_a_comparison_knows_tasks_and_versions(made_run: Make) -> None:
    records = []
    for target, model in (("t0", 0), ("t0", 1), ("t1", 0)):
        for name in ("source", "usd"):
            records.append(made_run(name, 0, target=target))
            records[-1]["spec"]["source_seed"] = model
    old = made_run("tent", 0, target="t1", versions={"method": "1", "protocol": "0"})
    old["spec"]["source_seed"] = 0
    records.append(old)
    info = registered_info()
    shown = tabs(found_blocks(records), table(records, "source", info), info, "source")
    mine = compare_data(shown, "source", ablations=True)["protocols"]["sf-osda"]
    assert sorted(task["task"] for task in mine["tasks"]) == [0, 0, 1]
    (apart,) = [task["apart"] for task in mine["tasks"] if "apart" in task]
    names = {frozenset(mine["rows"][place] for place in two) for two in apart}
    assert names == {frozenset({"source", "tent"}), frozenset({"usd", "tent"})}


def test_a_comparison_begins_with_the_best_row_over_most_tasks(made_run: Make) -> None:
    """Without ranks the first name is no choice, and a mean over one easy task is none either."""
    records = grid(made_run, tasks=2)
    records += [made_run("aad", seed, 0.99, target="t1") for seed in range(5)]
    info = registered_info()
    shown = tabs(found_blocks(records), table(records, "source", info), info, "source")
    mine = compare_data(shown, "source", ablations=True)["protocols"]["sf-osda"]
    assert [mine["rows"][place] for place in mine["pair"]] == ["usd", "source"]


@pytest.mark.parametrize(("compact", "drawn"), [(False, 13), (True, 12)])
def test_every_task_is_drawn_where_there_is_room(made_run: Make, compact: bool, drawn: int) -> None:
    records = grid(made_run, tasks=13, seeds=1)
    info = registered_info()
    frame = table(records, "source", info)
    (tab,) = tabs(found_blocks(records), frame, info, "source", compact=compact)
    assert len(tab.panels) == drawn


def test_what_is_left_out_is_said(made_run: Make) -> None:
    records = grid(made_run, tasks=31, seeds=1)
    kept = PageRecords([RecordReducer(registered_info()).reduced(record) for record in records])
    content = leaderboard_page(kept, "source", registered_info()).decode()
    assert content.count("30 of 31 columns: those with most rows") == 2  # heat map and bars
