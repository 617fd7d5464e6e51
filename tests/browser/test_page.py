"""The leaderboard page in a real Chromium: sort, filter, open a run, tabs, a hostile name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dabench.board.page.build import leaderboard_page
from dabench.board.page.page_records import PageRecords, RecordReducer
from dabench.board.tables.card_figures import Figure
from dabench.board.tables.cards import read_card
from dabench.registry.method_info import registered_info

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
LEVELS = {"source": 0.5, "usd": 0.7, "shot": 0.3, HOSTILE: 0.6, "target-supervised": 0.95}
FOLDER = Path(__file__).parents[2] / "results" / "cards"
CARDS = [
    (read_card(FOLDER / "source-cifar10-c.yaml"), Figure(45.0, 5, ("a",), False)),
    (read_card(FOLDER / "tent-cifar10-c.yaml"), None),
    (read_card(FOLDER / "bn-cifar10-c.yaml"), Figure(19.0, 5, ("b",), False)),
]


def record(protocol: str, method: str, seed: int, value: float, **options: Any) -> dict[str, Any]:
    metric = "HOS" if protocol == "sf-osda" else "accuracy/final"
    name, _, segment = metric.partition("/")
    return {
        "run_id": f"{protocol}-{method}-{seed}-{len(options)}",
        "spec": {
            **{"method": method, "protocol": protocol, "dataset": "digits", "init": "source"},
            **{"source": "print", "target": "handwritten", "backbone": "small-cnn"},
            **{"weights": "none", "image_size": 32, "epochs": 1, "batch_size": 64},
            **{"source_epochs": 2, "freeze": 0, "seed": seed, "device": "cpu", "threads": 1},
            **{"method_options": options, "protocol_options": {"held_out": 0.3}},
        },
        "variant": options,
        "ids": {"data": "d", "stream": f"t{seed}", "source": f"s{seed}"},
        "versions": {"method": "1", "protocol": "1"},
        "environment": {"git_commit": "0123456789ab"},
        "cost": {"images_forward": 640.0, "images_backward": 64.0 * (seed + 1), "seconds": 9.0},
        "scores": [
            {"metric": name, "value": value, "n": 64, "segment": segment or "all", "at": 1},
            {"metric": "ECE", "value": 0.1, "n": 64, "segment": "all", "at": 1},
        ],
        "curves": [] if protocol == "sf-osda" else _steps(value),
    }


def _steps(value: float) -> list[dict[str, Any]]:
    same = {"metric": "running_accuracy", "n": 64, "segment": "all"}
    return [same | {"at": at, "value": value - at / 40} for at in range(10)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = [
        record(protocol, method, seed, level + 0.001 * seed)
        for protocol in ("sf-osda", "gradual-weather")
        for method, level in LEVELS.items()
        for seed in range(5)
    ]
    found += [record("sf-osda", "usd", seed, 0.65, criterion="ce") for seed in range(5)]
    for one in found:  # a row with a remark
        if (one["spec"]["protocol"], one["spec"]["method"]) == ("gradual-weather", "usd"):
            one["tuned"] = {"file": "tune-digits.yaml", "sha256": "0" * 64}
    reader = RecordReducer(registered_info())
    content = leaderboard_page(
        PageRecords([reader.reduced(one) for one in found]), "source", registered_info(), CARDS
    )
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_bytes(content)
    return path.as_uri()


@pytest.fixture
def page(open_page: Callable[..., Any], address: str) -> Any:
    """The page at a desktop's size, at its first protocol."""
    return open_page(f"{address}#p-1")


def names(page: Any) -> list[str]:
    """Return the visible rows of the first block."""
    heads = page.locator(".tab.on details.block tbody tr:visible th").all_inner_texts()
    return [" ".join(text.split()) for text in heads]


def test_sorting(page: Any) -> None:
    assert names(page)[0] == "target-supervised upper bound"
    head = page.locator(".tab.on details.block th", has_text="HOS").first
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert names(page)[0] == "shot"
    first = page.locator(".tab.on details.block thead button").first
    first.focus()
    page.keyboard.press("Enter")
    assert names(page) == sorted(names(page), key=str.lower, reverse=False)
    head = page.locator(".tab.on details.block thead th").first
    assert head.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert names(page) == sorted(names(page), key=str.lower, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"


def test_what_a_title_tells_is_told_to_keys_and_fingers(
    open_page: Callable[..., Any], address: str
) -> None:
    for phone in (False, True):
        page = open_page(f"{address}#gradual-weather", phone)
        tip, marked = page.locator("#tip"), page.locator(".tab.on tbody abbr[title]").first
        assert not tip.is_visible()
        if phone:
            marked.tap()
            assert page.locator("dialog[open]").count() == 0  # the row's own dialog stays closed
        else:
            marked.focus()
        assert tip.inner_text() == marked.get_attribute("title")
        box, size = tip.bounding_box(), page.viewport_size
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size["width"]
        assert box["y"] + box["height"] <= size["height"]
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        head = page.locator(".tab.on details.block thead button[title]").first
        head.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert tip.inner_text() == head.get_attribute("title")


def test_filtering_and_ablations(page: Any) -> None:
    assert "usd criterion=ce" not in names(page)
    page.fill(".tab.on .filter input", "usd")
    assert names(page) == ["usd"]
    assert page.inner_text(".tab.on .found") == "1 of 5 rows"
    words = "ablations in the tables below: 1 row with changed options"
    assert page.locator(".tab.on .tools label", has_text=words).count() == 1
    page.check(".tab.on .minor-switch")
    assert names(page) == ["usd", "usd criterion=ce"]
    assert page.inner_text(".tab.on .found") == "2 of 6 rows"
    page.fill(".tab.on .filter input", "")
    assert len(names(page)) == 6
    page.uncheck(".tab.on .minor-switch")
    assert len(names(page)) == 5
    page.locator("#tab-2").click()
    assert page.locator(".tab.on .minor-switch").count() == 0  # nothing to ask for


def test_a_run_opens_by_keyboard_and_names_its_command(page: Any) -> None:
    page.check(".tab.on .minor-switch")
    row = page.locator(".tab.on details.block tr", has=page.locator("th", has_text="criterion=ce"))
    row.locator("button.cell").focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    assert dialog.locator("h2").inner_text() == "usd criterion=ce"
    text = dialog.locator("pre").inner_text()
    assert text.startswith("dabench run --method usd --protocol sf-osda --dataset digits")
    assert "--method.criterion ce" in text
    assert text.endswith("--seeds 0,1,2,3,4 --device cpu --threads 1")
    assert "0.6500" in dialog.inner_text()
    assert "0123456789ab" in dialog.inner_text()
    dialog.locator("summary", has_text="Digests").click()
    assert "t3" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_a_hostile_name_stays_text(page: Any) -> None:
    assert HOSTILE in names(page)
    page.locator(".tab.on details.block tr", has_text="onerror").locator("td.n").click()
    assert page.locator("dialog h2").inner_text() == HOSTILE
    assert page.locator("dialog img, dialog script, main img").count() == 0


def test_tabs_and_lines(page: Any) -> None:
    tabs = page.locator("[role=tab]")
    tabs.nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert tabs.nth(2).get_attribute("aria-selected") == "true"
    assert page.locator(".tab.on h2").inner_text() == "gradual-weather"
    assert page.locator(".tab:visible").count() == 1
    switch = page.locator(".tab.on .switches input").first
    line = page.locator(".tab.on path[data-line='0']")
    assert line.is_visible()
    switch.uncheck()
    assert not line.is_visible()
    page.keyboard.press("Home")


def test_cards_sort_filter_and_open(page: Any) -> None:
    page.locator("#tab-cards").click()
    rows = page.locator("#p-cards tbody tr:visible th")
    assert page.locator(".tab:visible").count() == 1
    assert rows.all_inner_texts() == ["source-cifar10-c", "bn-cifar10-c"]  # measured here
    gap = page.locator("#p-cards thead button:visible", has_text="gap")
    gap.click()
    gap.click()
    assert rows.all_inner_texts() == ["bn-cifar10-c", "source-cifar10-c"]
    page.fill("#p-cards .filter input", "tent")
    assert rows.all_inner_texts() == ["tent-cifar10-c"]  # found in what was folded
    assert page.inner_text("#p-cards .found") == "1 of 3 rows"
    rows.locator("a").click()
    card = page.locator("#card-tent-cifar10-c")
    assert card.evaluate("box => box.open")
    assert "--source-model wrn-28-10" in card.inner_text()
    assert page.locator("dialog[open]").count() == 0


def test_a_link_to_a_card_opens_what_it_is_folded_in(page: Any, address: str) -> None:
    page.goto(f"{address}#overview")
    assert page.locator("#card-tent-cifar10-c").is_hidden()
    page.goto(f"{address}#card-tent-cifar10-c")
    assert page.locator("#card-tent-cifar10-c dl").is_visible()


def test_the_chosen_tab_is_seen_on_a_phone(browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": 240, "height": 600})
    page = context.new_page()
    page.goto(f"{address}#card-tent-cifar10-c")
    box = page.locator("#tab-cards").bounding_box()
    assert box is not None
    assert 0 <= box["x"] < 200
    assert page.evaluate("document.documentElement.scrollWidth") == 240
    context.close()


def test_a_phone_scrolls_tables_and_not_the_page(browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.goto(f"{address}#p-1")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide == 390
    table = page.locator(".tab.on details.block .scroll").first
    assert table.evaluate("box => box.scrollWidth > box.clientWidth")
    table.evaluate("box => { box.scrollLeft = 300 }")
    box = table.locator("tbody th").first.bounding_box()
    assert box is not None
    assert box["x"] < 40  # the first column stays
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back != "rgb(247, 247, 245)"
    context.close()


def test_the_first_tab_keeps_its_margin_where_not_all_fit(browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": 1500, "height": 900})
    page = context.new_page()
    page.goto(address)
    wide = "for (const tab of document.querySelectorAll('[role=tab]')) tab.style.minWidth = '800px'"
    page.evaluate(wide)
    bar = page.get_by_role("tablist")
    for place, scrolled in ((-1, True), (0, False)):
        page.get_by_role("tab").nth(place).click()
        assert bar.evaluate("bar => bar.scrollLeft > 0") is scrolled
    context.close()


def test_nothing_moves_while_it_loads(browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    shift = page.evaluate(
        "new Promise(done => { let sum = 0; new PerformanceObserver(list => { for (const e of "
        "list.getEntries()) sum += e.value }).observe({type: 'layout-shift', buffered: true}); "
        "setTimeout(() => done(sum), 300) })"
    )
    assert shift == 0
    context.close()
