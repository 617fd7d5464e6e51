"""The tables in README.md and docs are those of the committed records."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dabench.board.tables.csv_file import write_csv
from dabench.board.tables.leaderboard import table
from dabench.board.tables.markup import to_latex
from dabench.board.tables.wide import wide_tables
from dabench.registry.method_info import registered_info
from dabench.store.arrays import SHARED

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_pages_show_what_the_records_say(tables: ModuleType) -> None:
    assert tables.main(["--check"]) == 0, "run python docs/tables.py"


def test_what_the_runs_of_a_stream_share_is_committed_with_them() -> None:
    records = ROOT / "results" / "records"
    found = [p for p in records.glob("*/*/*.npz") if p.parent.parent.name != SHARED]
    missing = {}
    for path in found:
        with np.load(path) as arrays:
            name = str(arrays[SHARED]) if SHARED in arrays else ""
        if name and not (records / SHARED / f"{name}.npz").is_file():
            missing[path.stem] = name
    assert found
    assert not missing, "their predictions cannot be read; add the shared files"


@pytest.mark.slow
def test_the_committed_leaderboard_is_that_of_the_records(
    committed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Figures to nine digits: the last ones may differ between versions of numpy."""
    fresh = tmp_path / "leaderboard.csv"
    write_csv(table(committed, "source", registered_info()), fresh)
    there = ROOT / "results" / "leaderboard" / "leaderboard.csv.gz"
    command = "dabench leaderboard --csv results/leaderboard/leaderboard.csv.gz"
    assert there.is_file(), f"run '{command}'"
    # stale: run it again where results/records holds the committed runs alone
    pd.testing.assert_frame_equal(pd.read_csv(there), pd.read_csv(fresh), rtol=1e-9)


def test_the_latex_that_is_shown_is_what_the_records_give(
    committed: list[dict[str, Any]],
) -> None:
    page = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    (shown,) = re.findall(
        r"^```latex\n( +\\begin\{tabular\}.*?)```", page, re.DOTALL | re.MULTILINE
    )
    records = [r for r in committed if r["spec"]["dataset"] == "office31"]
    made = wide_tables(table(records, "source", registered_info()), registered_info())
    assert any(shown in to_latex(one) for one in made), "run dabench leaderboard --latex DIR"


def test_a_changed_figure_is_noticed(tables: ModuleType, committed: list[dict[str, Any]]) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    tampered = page.replace("| HOS | 0.", "| HOS | 1.", 1)
    assert tampered != page
    assert tables.fill(tampered, tables.Tables(committed)) == page


def test_an_ambiguous_selection_is_refused(
    tables: ModuleType, committed: list[dict[str, Any]]
) -> None:
    with pytest.raises(ValueError, match="columns fit, expected one"):
        tables.Tables(committed).rows({"dataset": "digits", "metrics": "HOS"})


def test_what_labels_of_the_target_chose_is_marked(
    tables: ModuleType, made_run: Callable[..., dict[str, Any]]
) -> None:
    records = [made_run("source", 0), made_run("usd", 0, 0.7, target_tuned=True)]
    shown = tables.Tables(records).rows({"metrics": "HOS"}).splitlines()
    assert shown[-1].startswith("| `usd` (target-tuned) | 1 | ")


def test_a_hole_is_no_zero_among_the_seeds(
    tables: ModuleType, made_run: Callable[..., dict[str, Any]]
) -> None:
    def shown(hole: float | None) -> list[str]:
        records = [made_run("usd", seed, 0.5) for seed in (4, 5)]
        records += [made_run("usd", seed, 0.5) for seed in (5, 5)]
        for record, seeds in zip(records[2:], ((4, 5), (5, 4)), strict=True):
            record["spec"] |= {"seed": seeds[0], "source_seed": seeds[1]}
        records[-1]["scores"][0]["value"] = hole
        return tables.Tables(records).seeds(params).splitlines()[2:]

    params = {"metrics": "HOS", "row": "usd", "dataset": "digits", "split": "default", "fixed": "5"}

    both, adaptation, source = shown(None)
    assert both == "| both | 2 | 0.500 | 0.000 |"
    assert adaptation == "| adaptation | 2 | 0.500 | 0.000 |"
    assert source == "| source | 2 | – | – |"
    assert shown(0.5)[2] == "| source | 2 | 0.500 | 0.000 |"
    other = made_run("usd", 6, 0.5)
    other["spec"]["epochs"] += 1
    with pytest.raises(ValueError, match="2 columns fit, expected one"):
        tables.Tables([made_run("usd", 5, 0.5), other]).seeds(params)
