"""The tables in README and docs are those of the committed records."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("doc_tables", ROOT / "docs" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_pages_show_what_the_records_say(tables: ModuleType) -> None:
    assert tables.main(["--check"]) == 0, "run python docs/tables.py"


def test_a_changed_figure_is_noticed(tables: ModuleType, tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    records = tables.committed()
    tampered = page.replace("| `source` | 5 | 0.", "| `source` | 5 | 1.", 1)
    assert tampered != page
    assert tables.fill(tampered, tables.Tables(records)) == page


def test_an_ambiguous_selection_is_refused(tables: ModuleType) -> None:
    records = tables.committed()
    with pytest.raises(ValueError, match="columns fit, expected one"):
        tables.Tables(records).rows({"dataset": "digits", "metrics": "HOS"})
