"""The notebooks are committed without outputs; the test of the site runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest

import dabench

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_no_outputs_are_committed(name: str) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}


def test_streams_of_the_analysis_are_of_one_column() -> None:
    """Two data sets have the same weather: their means would be of neither."""
    matplotlib.use("agg")
    cells = nbformat.read(FOLDER / "analysis.ipynb", as_version=4).cells
    code = {cell.id: cell.source for cell in cells if cell.cell_type == "code"}
    known: dict[str, Any] = {"RESULTS": ROOT / "results", "dabench": dabench, "pd": pd, "plt": plt}
    options = ["protocol.weather"]
    known["results"] = known["usual"] = dabench.load_results(
        ROOT / "results", protocol="gradual-weather", options=options
    )
    for name in ("cell-21", "cell-22"):
        exec(compile(code[name], name, "exec"), known)
    plt.close("all")
    for name in ("stream", "weather"):
        assert set(known[name]["dataset"]) == {"aid"}
        assert known[name]["column"].nunique() == 1
