"""The overview of the leaderboard page, permalinks and comparisons, in a real Chromium."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from dabench.board.page.build import leaderboard_page
from dabench.board.page.page_records import PageRecords, RecordReducer
from dabench.registry.method_info import registered_info

Open = Callable[..., Any]
HOSTILE = "<img src=x onerror=alert(2)>/#"
LEVELS = {"source": 0.5, "usd": 0.6, "shot": 0.45, HOSTILE: 0.55}
TASKS, SEEDS = 7, 5


def records() -> list[dict[str, Any]]:
    """Return runs of two protocols: one over seven tasks, one over two."""
    draw = random.Random(3)
    return [
        record(protocol, f"t{task}", method, seed, level + draw.uniform(-0.06, 0.06))
        for protocol, tasks in (("sf-osda", TASKS), ("sf-uda", 2))
        for task in range(tasks)
        for method, level in LEVELS.items()
        for seed in range(SEEDS)
    ]


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
        "cost": {"images_forward": 640.0, "images_backward": 64.0, "adapt_seconds": 9.0},
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
