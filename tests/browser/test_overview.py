"""The overview of the leaderboard page, permalinks and comparisons, in a real Chromium."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dabench.board.page.build import leaderboard_page
from dabench.board.page.page_records import PageRecords, RecordReducer
from dabench.board.tables.leaderboard import table
from dabench.registry.method_info import registered_info

Open = Callable[..., Any]
HOSTILE = "<img src=x onerror=alert(2)>/#"
LEVELS = {"source": 0.5, "usd": 0.6, "shot": 0.45, HOSTILE: 0.55}
#: shown as 20 min and 50 s: their texts sort the other way
SECONDS = {"usd": 1200.0, "shot": 50.0}
TASKS, SEEDS = 9, 5


def records() -> list[dict[str, Any]]:
    """Return runs of two protocols: one over nine tasks with holes and gaps, one over two."""
    draw = random.Random(3)
    found = [
        record(protocol, f"t{task}", method, seed, level + draw.uniform(-0.06, 0.06))
        for protocol, tasks in (("sf-osda", TASKS), ("sf-uda", 2))
        for task in range(tasks)
        for method, level in LEVELS.items()
        for seed in range(3 if task == 5 else SEEDS)
        if (task, method, seed) != (3, "shot", 4)
    ]
    for one in found:
        place = (one["spec"]["target"], one["spec"]["method"], one["spec"]["seed"])
        if place in (("t4", "usd", 2), ("t6", "shot", 1)):
            one["scores"][0]["value"] = None
        if place[:2] == ("t2", "usd"):  # equal on every seed
            one["scores"][0]["value"] = 0.4 + place[2] / 100
        if place[:2] == ("t2", "shot"):
            one["scores"][0]["value"] = 0.4 + place[2] / 100
    more = [record("sf-osda", "t0", "usd", seed, 0.65, criterion="ce") for seed in range(SEEDS)]
    return found + more


def record(
    protocol: str, target: str, method: str, seed: int, value: float, **options: Any
) -> dict[str, Any]:
    metric = "HOS" if protocol == "sf-osda" else "accuracy"
    return {
        "run_id": f"{protocol}-{target}-{method}-{seed}-{len(options)}",
        "spec": {
            **{"method": method, "protocol": protocol, "dataset": "digits", "init": "source"},
            **{"source": "print", "target": target, "backbone": "small-cnn"},
            **{"weights": "none", "image_size": 32, "epochs": 1, "batch_size": 64},
            **{"source_epochs": 2, "freeze": 0, "seed": seed, "device": "cpu", "threads": 1},
            **{"method_options": options, "protocol_options": {"held_out": 0.3}},
        },
        "variant": options,
        "ids": {"data": "d", "stream": f"t{seed}", "source": f"s{seed}"},
        "versions": {"method": "1", "protocol": "1"},
        "environment": {"git_commit": "0123456789ab"},
        "cost": {
            **{"images_forward": 640.0, "images_backward": 64.0},
            "adapt_seconds": SECONDS.get(method, 9.0),
        },
        "scores": [{"metric": metric, "value": value, "n": 64, "segment": "all", "at": 1}],
        "curves": [],
    }


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    reader = RecordReducer(registered_info())
    content = leaderboard_page(
        PageRecords([reader.reduced(one) for one in records()]), "source", registered_info()
    )
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_bytes(content)
    return path.as_uri()


def heads(table: Any) -> list[str]:
    return [" ".join(text.split()) for text in table.locator("tbody th").all_inner_texts()]


def heads_of(table: Any) -> list[str]:
    return [text.strip("↕↑↓ ") for text in table.locator("thead th").all_inner_texts()]


def test_the_overview_is_first_and_open(open_page: Open, address: str) -> None:
    page = open_page(address)
    assert page.locator("[role=tab]").first.inner_text() == "overview"
    assert page.locator(".tab:visible").get_attribute("id") == "p-overview"
    tables = page.locator(".standings")
    assert tables.count() == 2
    assert heads(tables.first)[0] == "usd"  # the best mean rank
    assert page.locator(".ranks svg").count() == 1
    assert "too few tasks (2 of 6)" in page.locator(".standing").nth(1).inner_text()
    tables.first.locator("thead button", has_text="worst task").focus()
    page.keyboard.press("Enter")
    assert heads(tables.first)[-1] == "source"  # held against itself it has none
    assert page.locator("main img").count() == 0


def test_times_are_sorted_by_seconds_and_not_by_their_text(open_page: Open, address: str) -> None:
    table = open_page(address).locator(".standings").first
    place = heads_of(table).index("time")
    table.locator("thead button").nth(place).click()
    times = table.locator(f"tbody td:nth-child({place + 1})").all_inner_texts()
    assert times == ["20 min", "50 s", "9.0 s", "9.0 s"]
    table.locator("thead button").nth(place).click()
    again = table.locator(f"tbody td:nth-child({place + 1})").all_inner_texts()
    assert again == times[::-1]


def test_the_overview_fits_a_desktop(open_page: Open, address: str) -> None:
    page = open_page(address)
    assert page.locator("#p-overview .scroll.more").count() == 0
    row = page.locator(".standings tbody tr", has=page.locator("th", has_text="shot")).first
    worst = row.locator("td.worst")
    assert worst.locator("i").inner_text() == worst.get_attribute("title")[-2:]
    assert row.bounding_box()["height"] < 40  # one line


def test_links_show_and_mark_a_row_and_go_back(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.locator(".standings").first.locator("a", has_text="usd").click()
    assert page.url.endswith("#sf-osda/usd")
    panel = page.locator(".tab:visible")
    assert panel.get_attribute("id") == "p-1"
    marked = panel.locator("tr.marked")
    assert marked.count() == 1 + TASKS
    assert marked.first.locator("th").inner_text() == "usd"
    assert page.evaluate("document.activeElement.closest('tr').matches('.marked')")
    assert marked.first.bounding_box()["y"] < 900
    page.go_back()
    assert page.locator(".tab:visible").get_attribute("id") == "p-overview"
    assert page.locator("tr.marked").count() == 0
    page.locator("#tab-2").click()
    assert page.url.endswith("#sf-uda")
    page.go_back()
    page.go_back()
    page.go_forward()
    assert page.locator(".tab:visible").get_attribute("id") == "p-overview"


def test_links_of_ablations_and_hostile_names(open_page: Open, address: str) -> None:
    page = open_page(f"{address}#sf-osda/usd%20criterion%3Dce")
    assert page.locator("tr.marked:visible").count() == 1
    page.locator("tr.marked button.cell").first.click()
    page.locator("dialog a", has_text="link to this row").click()
    assert page.locator("dialog[open]").count() == 0
    page.goto(f"{address}#overview")
    page.locator(".standings").first.locator("a", has_text="onerror").click()
    assert page.locator("tr.marked th").first.inner_text() == HOSTILE
    page.goto(f"{address}#sf-osda/%3Cimg%20src=x%20onerror=alert(3)%3E%E0%A4%A")
    assert page.locator("tr.marked").count() == 0
    assert "no row %3Cimg" in page.locator("#p-1 .found").inner_text()
    assert page.locator("main img, dialog img").count() == 0


def test_a_link_by_the_methods_name_marks_all_its_rows(open_page: Open, tmp_path: Path) -> None:
    """Rows with options stand under more than the method's name, which is what people type."""
    found = [
        record("sf-osda", target, name, seed, value, **options)
        for target, name, value, options in (
            *(("t0", "source", 0.5, {}), ("t1", "source", 0.5, {}), ("t2", "source", 0.5, {})),
            *(("t0", "usd", 0.6, {"lr": 1}), ("t1", "usd", 0.6, {"lr": 2})),
            *(("t2", "usd", 0.7, {"lr": 2}), ("t1", "usd-like", 0.7, {})),
        )
        for seed in range(SEEDS)
    ]
    reader = RecordReducer(registered_info())
    kept = PageRecords([reader.reduced(one) for one in found])
    path = tmp_path / "index.html"
    path.write_bytes(leaderboard_page(kept, "source", registered_info()))
    page = open_page(f"{path.as_uri()}#sf-osda/usd")
    assert page.locator("tr.marked").count() == 2 + 3  # of the heat map, and of columns
    assert page.locator("#p-1 .found").inner_text() == "the rows of usd"
    page.goto(f"{path.as_uri()}#sf-osda/usd%20lr%3D1")
    assert page.locator("tr.marked").count() == 2
    page.goto(f"{path.as_uri()}#sf-osda/usd/source")
    assert "usd lr=2 against source over 2 shared tasks" in page.inner_text("#p-1 .summary")
    page.goto(f"{path.as_uri()}#sf-osda/us/source")
    assert page.locator("#p-1 .found").inner_text() == "no row us to compare here"


def test_a_link_to_a_protocol_without_records_says_so(open_page: Open, address: str) -> None:
    page = open_page(f"{address}#sf-pda/usd")
    assert page.locator(".tab:visible").get_attribute("id") == "p-overview"
    assert page.locator(".lost").inner_text() == "no records of sf-pda"
    page.locator("#tab-1").click()
    assert page.locator(".lost").inner_text() == ""
    page.goto(f"{address}#%3Cimg%20src=x%3E")
    assert page.locator(".lost").inner_text() == "no records of <img src=x>"


def shown(value: float, sign: bool = False) -> str:
    return (f"{value:+.3f}" if sign else f"{value:.3f}").replace("-", "−")


def expected(ours: str, theirs: str) -> dict[str, tuple[str, str, str]]:
    """Return what the leaderboard's table says of a pair: task -> difference, interval, verdict."""
    info = registered_info()
    frame = table(records(), theirs, info)
    lines = frame[(frame["protocol"] == "sf-osda") & (frame["method"] == ours)]
    return {
        row.task.partition("→")[2]: (
            shown(row.diff_mean, True),
            f"[{shown(row.diff_low, True)}, {shown(row.diff_high, True)}]",
            row.verdict,
        )
        for row in lines[lines["variant"] == ""].itertuples()
        if not math.isnan(row.diff_mean)
    }


@pytest.mark.parametrize(("ours", "theirs"), [("usd", "shot"), ("shot", "usd"), ("usd", "source")])
def test_two_rows_are_compared_as_the_table_does(
    open_page: Open, address: str, ours: str, theirs: str
) -> None:
    page = open_page(f"{address}#sf-osda/{ours}/{theirs}")
    rows = page.locator("#p-1 .pairs tbody tr")
    found = {}
    for row in rows.all():
        cells = [cell.inner_text() for cell in row.locator("th, td").all()]
        if cells[3] != "–":
            found[cells[0].rpartition("→ ")[2]] = (cells[3], cells[4], cells[7].strip("▲▼= "))
    wanted = expected(ours, theirs)
    assert set(found) == set(wanted)
    assert {task: (one[0], one[2]) for task, one in found.items()} == {
        task: (one[0], one[2]) for task, one in wanted.items()
    }
    with_interval = [task for task, one in wanted.items() if "no verdict" not in one[2]]
    assert with_interval
    assert all(found[task][1] == wanted[task][1] for task in with_interval)
    assert " – " in found["t5"][1]  # three seeds: the range
    assert rows.count() == TASKS


def test_source_models_of_one_task_are_one_task_of_a_comparison(
    open_page: Open, tmp_path: Path
) -> None:
    """A win and a loss within one task are a tie; another version of the protocol is not paired."""
    levels = {("t0", 0): 0.7, ("t0", 1): 0.4, ("t1", 0): 0.8, ("t2", 0): 0.9}
    found = []
    for (target, model), level in levels.items():
        for seed in range(SEEDS):
            for name, value in (("source", 0.5), ("usd", level + 0.01 * seed)):
                one = record("sf-osda", target, name, seed, value)
                one["spec"]["source_seed"] = model
                if (target, name) == ("t2", "source"):
                    one["versions"]["protocol"] = "2"
                found.append(one)
    reader = RecordReducer(registered_info())
    kept = PageRecords([reader.reduced(one) for one in found])
    path = tmp_path / "index.html"
    path.write_bytes(leaderboard_page(kept, "source", registered_info()))
    page = open_page(f"{path.as_uri()}#sf-osda/usd/source")
    said = page.locator("#p-1 .compare .summary").inner_text()
    columns = "(3 columns: those of a task differ in their source seed, and are averaged)"
    assert (
        f"over 2 shared tasks {columns}: ▲ 1 win, = 1 tie, ▼ 0 losses; mean difference +0.195."
        in said
    )
    assert page.locator("#p-1 .pairs tbody tr").count() == 4
    assert page.locator("#p-1 .pairs tbody td", has_text="other version").count() == 1


def test_a_comparison_is_chosen_by_keyboard_and_has_a_link(open_page: Open, address: str) -> None:
    page = open_page(f"{address}#sf-osda")
    select = page.locator("#p-1 select.ours")
    assert page.locator("#p-1 .pairs tbody tr").count() == TASKS
    select.focus()
    select.press("End")
    assert page.url.endswith("#sf-osda/usd%20criterion%3Dce/source")
    assert page.locator("#p-1 .pairs tbody tr").count() == 1
    assert "▲ 1 win, = 0 ties" in page.locator("#p-1 .summary").inner_text()
    select.select_option(label=HOSTILE)
    assert page.locator("#p-1 .pairs thead th").nth(1).inner_text() == HOSTILE
    assert HOSTILE in page.locator("#p-1 .summary").inner_text()
    assert page.locator("main img").count() == 0
    page.locator("#p-1 .pairs tbody a").first.click()
    assert page.locator("#p-1 details.block[open]").count() >= 1


def test_the_heat_map_is_shaded_and_leads_to_the_runs(open_page: Open, address: str) -> None:
    page = open_page(f"{address}#sf-osda")
    rows = page.locator("#p-1 .heatmap tbody tr")
    assert page.locator("#p-1 .heatmap thead th").count() == 1 + TASKS
    row = rows.filter(has=page.locator("th", has_text="usd"))
    shaded, plain = row.locator("td.up3").first, rows.filter(has_text="source").locator("td").first
    back = "cell => getComputedStyle(cell).backgroundColor"
    assert shaded.evaluate(back) != plain.evaluate(back)
    row.locator("button.cell").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog h2").inner_text() == "usd"
    page.keyboard.press("Escape")
    hostile = rows.filter(has=page.locator("th", has_text="onerror")).locator("button.cell").first
    hostile.click()
    assert page.locator("dialog h2").inner_text() == HOSTILE
    assert page.locator("dialog p.meta").inner_text().startswith("digits · print → t")
    page.keyboard.press("Escape")
    page.locator("#p-1 .heatmap thead button").nth(1).click()
    figures = page.locator("#p-1 .heatmap tbody td:nth-child(2)").all_inner_texts()
    values = [float(text.strip("▲▼=")) for text in figures]
    assert values == sorted(values, reverse=True)
    assert page.locator("main img, dialog img").count() == 0


def test_what_is_wider_than_a_phone_says_so(open_page: Open, address: str) -> None:
    page = open_page(f"{address}#sf-osda", phone=True, dark=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator("#p-1 .scroll", has=page.locator(".heatmap"))
    hint = "box => getComputedStyle(box.querySelector('th'), '::after').content"
    assert box.evaluate("box => box.matches('.more:not(.less)')")
    assert box.evaluate(hint) == '"scroll →"'
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("box => box.matches('.more.less')", arg=box.element_handle())
    head = box.locator("tbody th").first.bounding_box()
    assert head is not None
    assert head["x"] < 40  # the first column stays
    box.evaluate("box => { box.scrollLeft = box.scrollWidth }")
    page.wait_for_function("box => !box.matches('.more')", arg=box.element_handle())
    assert box.evaluate(hint) == "none"
    page.locator("#tab-1").press("Home")
    assert page.locator(".tab:visible").get_attribute("id") == "p-overview"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.set_viewport_size({"width": 660, "height": 844})  # a phone has no room for the picture
    ranks = page.locator("figure .scroll", has=page.locator("svg")).first
    page.wait_for_function("box => box.matches('.more')", arg=ranks.element_handle())
    hint = "box => getComputedStyle(box, '::before').content"
    assert ranks.evaluate(hint) == '"scroll →"'
    ranks.evaluate("box => { box.scrollLeft = box.scrollWidth }")
    page.wait_for_function("box => !box.matches('.more')", arg=ranks.element_handle())
    assert ranks.evaluate(hint) == "none"


def test_a_phone_shows_the_figures_that_matter_most(open_page: Open, address: str) -> None:
    page = open_page(address, phone=True)
    assert page.locator(".ranks svg:visible").count() == 0
    assert "differ by less than" in page.locator(".ranks figcaption").inner_text()
    row = page.locator(".standings tbody tr").first
    for place in (0, 1):  # mean − source, mean rank
        box = row.locator("td").nth(place).bounding_box()
        assert box["x"] + box["width"] < 360
    page.goto(f"{address}#sf-osda")
    assert "best usd" in page.locator("#p-1 details.block .sub:visible").first.inner_text()


def test_heads_of_the_heat_map_are_whole(open_page: Open, tmp_path: Path) -> None:
    found = []
    for stream in ("recurring:images=500,visits=5,and-some-more=words", "r10", "r9", ""):
        for name in ("source", "usd"):
            one = record("sf-osda", "t", name, 0, 0.5)
            one["spec"]["protocol_options"] |= {"stream": stream} if stream else {}
            found.append(one)
    reader = RecordReducer(registered_info())
    kept = PageRecords([reader.reduced(one) for one in found])
    path = tmp_path / "index.html"
    path.write_bytes(leaderboard_page(kept, "source", registered_info()))
    buttons = open_page(f"{path.as_uri()}#sf-osda").locator("#p-1 .heatmap thead button")
    heads = buttons.all_inner_texts()[1:]
    assert heads[:3] == ["digits · print → t · stream default", "stream r9", "stream r10"]
    assert buttons.nth(2).get_attribute("aria-label") == "digits · print → t · stream r9"
    for button in buttons.all():
        assert button.evaluate("one => one.scrollHeight <= one.clientHeight + 1")


def test_what_fits_has_no_hint(open_page: Open, address: str) -> None:
    page = open_page(f"{address}#sf-uda")
    assert page.locator("#p-2 .scroll.more:visible").count() == 0
