"""Rows below the source model, and the shades of the table of all tasks."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from dabench.board.page import figures
from dabench.board.page.blocks import Block, blocks, group_runs
from dabench.board.page.page_records import Curve
from dabench.board.page.render import _environment
from dabench.board.page.scatter import MEASURES, cost_scatter
from dabench.board.page.stream_chart import stream_chart, stream_segments
from dabench.board.page.texts import runs_said
from dabench.board.page.values import Difference
from dabench.board.tables.column import RowResult
from dabench.board.tables.csv_file import write_csv
from dabench.board.tables.leaderboard import table
from dabench.board.tables.markup import to_latex, to_markdown
from dabench.board.tables.wide import wide_tables
from dabench.cli.main import main
from dabench.registry.method_info import MethodInfo
from dabench.store.rows import Row
from dabench.store.store import Store

Make = Callable[..., dict[str, Any]]
ROSTER = MethodInfo(primary=lambda protocol, dataset: "HOS")


def records(made_run: Make, *below: float | None) -> list[dict[str, Any]]:
    """Return a row of a stream with a run for each mark, and the source model's."""
    rows = [made_run("tent", seed, 0.6, scores={"below_source": v}) for seed, v in enumerate(below)]
    return rows + [made_run("source", seed, 0.5) for seed in range(len(below))]


def only_block(found: list[dict[str, Any]]) -> Block:
    for record in found:
        record.update(reconstruction=False, extras=[])
    (block,) = blocks(table(found, info=ROSTER), group_runs(found), ROSTER, "source", compact=False)
    for number, line in enumerate(block.lines):
        line.number = number
    return block


def remark(found: list[dict[str, Any]], method: str = "tent") -> str:
    frame = table(found, info=ROSTER)
    own = frame[(frame["method"] == method) & (frame["metric"] == "HOS")]
    return str(own["remark"].item())


@pytest.mark.parametrize(
    ("below", "marked"),
    [
        *(((1.0,), True), ((0.0,), False), ((None,), False)),
        *(((1.0, 1.0, 0.0), True), ((1.0, 0.0), False)),
    ],
)
def test_a_row_that_loses_to_the_source_model_is_marked(
    below: tuple[float | None, ...], marked: bool, made_run: Make
) -> None:
    found = records(made_run, *below)
    assert remark(found) == ("below source" if marked else "")
    assert remark(found, "source") == ""


def test_the_page_has_a_mark_of_its_own_for_it(made_run: Make) -> None:
    found = records(made_run, 1.0, 1.0)
    for record in found[:2]:
        record["target_tuned"] = True
    for seed in range(2):
        found.append(made_run("pl", seed, 0.4, scores={"below_source": 0.0}))
    lines = {line.name: line for line in only_block(found).lines}
    assert "below source" in lines["tent"].marks
    assert "below source" not in lines["pl"].marks
    assert lines["tent"].remark == "target-tuned"  # what else is to be said stays


def test_a_row_over_several_streams_has_no_mark_of_one(made_run: Make) -> None:
    """Below the source model on the first stream is not below it on all."""
    block = only_block(records(made_run, 1.0, 1.0))
    (line,) = (line for line in block.lines if line.name == "tent")
    assert line.marks == ["below source"]
    assert line.lasting_marks == []
    name = cast(Any, _environment().get_template("table.html.j2").module).name
    assert "below source" in name(line)
    assert "below source" not in name(line, "continual-tta")


@pytest.mark.parametrize("same", [True, False])
def test_segments_are_named_where_all_seeds_have_their_order(made_run: Make, same: bool) -> None:
    """With an order of its own for every seed, a name would stand under another shift's figure."""
    found = []
    for seed in range(2):
        order = ["fog-5", "rain-5"] if same or seed == 0 else ["rain-5", "fog-5"]
        record = made_run("tent", seed, 0.5, protocol="continual-tta")
        size = record["spec"]["batch_size"]
        record["scores"] = [
            {"metric": "accuracy", "segment": segment, "value": 0.5, "n": n * size, "at": 4}
            for segment, n in (("all", 4), *((name, 2) for name in order))
        ]
        record["curves"] = [Curve("", np.arange(4), np.full(4, 0.5))]
        found.append(record)
    block = SimpleNamespace(
        title="t",
        metric="mIoU",
        lines=[_line(found, "tent")],
    )
    chart = stream_chart(cast(Block, block))
    assert chart is not None
    assert ("fog-5" in chart.picture.markup) is same
    assert ("another order" in chart.picture.markup) is not same


def _line(found: list[dict[str, Any]], name: str, note: str = "") -> SimpleNamespace:
    about = {"main": True, "kind": "method", "name": name, "label": name, "note": note}
    return SimpleNamespace(runs=found, **about)


def test_rows_that_are_refused_are_not_drawn(made_run: Make) -> None:
    """They saw another stream: neither their curve, nor what they noted of the source model."""
    flat = Curve("", np.arange(4), np.full(4, 0.5))
    strange = dataclasses.replace(flat, name="source")
    drawn = [made_run("pl", 0, 0.5) | {"curves": [flat]}]
    refused = [made_run("tent", 0, 0.5) | {"curves": [flat, strange]}]
    lines = [_line(refused, "tent", "refused; stream id differs"), _line(drawn, "pl")]
    chart = stream_chart(cast(Block, SimpleNamespace(title="t", metric="mIoU", lines=lines)))
    assert chart is not None
    assert [entry.name for entry in chart.legend] == ["pl"]
    assert (
        stream_chart(cast(Block, SimpleNamespace(title="t", metric="mIoU", lines=lines[:1])))
        is None
    )


def test_calibration_over_time_is_drawn(made_run: Make) -> None:
    record = made_run("tent", 0, 0.5)
    record["curves"] = [
        {"metric": metric, "segment": "all", "value": 0.1 * step, "n": 9, "at": step}
        for metric in ("running_accuracy", "running_ECE")
        for step in range(3)
    ]
    assert [figure.title for figure in figures._curves(record)] == ["running_ECE"]


def test_every_table_says_it(made_run: Make, tmp_path: Path) -> None:
    frame = table(records(made_run, 1.0, 1.0), info=ROSTER)
    (wide,) = wide_tables(frame, ROSTER)
    assert "(1) below source" in to_markdown(wide)
    assert "below source" in to_latex(wide)
    write_csv(frame, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        said = {row["method"]: row["remark"] for row in csv.DictReader(file)}
    assert said == {"tent": "below source", "source": ""}


def test_the_terminal_says_it(
    made_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in records(made_run, 1.0, 1.0):
        Store(tmp_path).write(record, {})
    assert main(["leaderboard", "--results", str(tmp_path)]) == 0
    (tent,) = (line for line in capsys.readouterr().out.splitlines() if "tent" in line)
    assert "below source" in tent


def test_memory_of_the_steps_is_the_third_cost(made_run: Make) -> None:
    """The largest over runs; records of before it was measured have no point."""
    found = []
    for place, method in enumerate(("source", "tent", "pl")):
        for seed in range(2):
            cost = {"seconds": 1.0, "step_memory_bytes": (place + seed + 1) * 2.0**20}
            found.append(made_run(method, seed, 0.5, cost={} if method == "pl" else cost))
    frame, block = table(found, info=ROSTER), only_block(found)
    assert {line.name: line.memory for line in block.lines} == {
        **{"source": 2.0, "tent": 3.0, "pl": None}
    }
    memory = MEASURES[2]
    assert memory.said(3.0) == "3 MiB"
    picture = cost_scatter(block, memory)
    assert picture is not None
    assert picture.markup.count("; 3 MiB") == 1
    assert "peak memory of the steps, MiB" in picture.markup
    shown = {row["method"]: row["step_memory_bytes"] for _, row in frame.iterrows()}
    assert (shown["source"], shown["tent"]) == (2 * 2.0**20, 3 * 2.0**20)
    assert math.isnan(shown["pl"])


@pytest.mark.parametrize(
    ("mean", "shade"),
    [(None, ""), (0.019, ""), (0.02, "up1"), (0.07, "up2"), (-0.03, "down1"), (-0.4, "down3")],
)
def test_shades_by_the_difference(mean: float | None, shade: str) -> None:
    assert Difference(mean).heat == shade


@pytest.mark.parametrize(
    ("schedule", "last", "named"),
    [("constant", 500, True), ("ramp", 500, True), ("cycle", 500, False), ("constant", 499, False)],
)
def test_conditions_of_frames_are_named_where_they_have_the_same_frames(
    made_run: Make, schedule: str, last: int, named: bool
) -> None:
    """Scores of a segmentation count pixels, which do not tell the frames of a condition."""
    record = made_run("tent", 0, 0.5, protocol="online-seg")
    record["spec"]["protocol_options"] = {"schedule": schedule}
    record["spec"]["batch_size"] = 1
    pixels = {"fog-3": 500, "rain-3": 500, "clear": last}
    record["scores"] = [
        {"metric": "mIoU", "segment": segment, "value": 0.5, "n": n, "at": 6}
        for end in ("", "/before")
        for segment, n in (
            *(("all" if not end else "before", sum(pixels.values())),),
            *((name + end, n) for name, n in pixels.items()),
            ("mean-conditions" + end, sum(pixels.values())),
        )
    ]
    wanted = [(0, "fog-3"), (2, "rain-3"), (4, "clear")] if named else []
    assert stream_segments(record) == wanted


def test_lines_of_one_colour_have_different_strokes(made_run: Make) -> None:
    line = _line(
        [made_run("tent", 0, 0.5) | {"curves": [Curve("", np.arange(4), np.full(4, 0.5))]}], "tent"
    )
    chart = stream_chart(cast(Block, SimpleNamespace(title="t", metric="mIoU", lines=[line] * 24)))
    assert chart is not None
    styles = [entry.css for entry in chart.legend]
    assert len(set(styles)) == 24
    assert (styles[1], styles[9], styles[17]) == ("line s1", "line s1 again", "line s1 further")
    assert [entry.shown for entry in chart.legend].count(True) == 8


def test_every_point_of_a_cost_chart_says_its_row(made_run: Make) -> None:
    found = [
        made_run(name, seed, 0.5, cost={"images_forward": 9.0 * (place + 1), "images_backward": 9})
        for place, name in enumerate(("source", "tent", "pl"))
        for seed in range(2)
    ]
    picture = cost_scatter(only_block(found), MEASURES[0])
    assert picture is not None
    points = re.findall(r'<(?:circle|rect)[^>]*class="point[^>]*><title>([^<]*)', picture.markup)
    assert sorted(text.partition(":")[0] for text in points) == ["pl", "source", "tent"]
    assert all("passes an image" in text for text in points)


@pytest.mark.parametrize(
    ("remark", "said"),
    [
        ("", "3"),
        ("3 of 5 seeds", "3 of 5"),
        ("2 of 5 seeds", "3, 2 of 5 seeds"),
        ("hole in 1 of 3 runs; 3 of 5 seeds", "3 of 5, 1 hole"),
        ("hole in 3 of 3 runs", "3, 3 holes"),
        ("tuned (tune.yaml 15b05bd5); target-tuned", "3, tuned, target-tuned"),
        ("other protocol version than source", "3, other protocol version"),
        ("something new", "3, see its runs"),
    ],
)
def test_a_remark_stands_in_few_words_beside_the_number_of_runs(remark: str, said: str) -> None:
    assert runs_said(3, remark) == said


def test_no_remark_of_the_table_is_without_words() -> None:
    """Whatever a row can lack is said, and not hidden behind a tooltip."""
    run = {"tuned": {"file": "t"}, "target_tuned": True, "scores": [], "spec": {"threads": 1}}
    result = RowResult(Row("tent", "source", "", "1"), [run], "", "1 of 2 seeds")
    remark = result.remark(1, "other start version than source")
    assert runs_said(1, remark) == "1 of 2, 1 hole, other start version, tuned, target-tuned"
    runs = [run, {"scores": [], "spec": {"threads": 2}}]
    result = RowResult(Row("tent", "source", "", "1"), runs, "", "")
    remark = result.remark(0, "other machine than source")
    said = "2, other machine, seeds of several machines, tuned, target-tuned"
    assert runs_said(2, remark) == said
