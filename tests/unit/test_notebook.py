"""The notebooks run as they are, and are committed without outputs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

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


def outputs_of(name: str, folder: Path, patch: pytest.MonkeyPatch) -> list[Any]:
    """Run a notebook in a folder, as a user whose environment is active; return its outputs."""
    # outside the repository's root: there a bare "import datasets" would find our folder
    patch.setenv("PYTHONPATH", str(ROOT))
    patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("DABENCH_RESULTS", str(ROOT / "results"))
    patch.setenv("IPYTHONDIR", str(folder / "ipython"))
    notebook = nbformat.read(FOLDER / name, as_version=4)
    client = NotebookClient(
        notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    assert [out.text for out in outputs if out.get("name") == "stderr"] == []
    return outputs


def printed(outputs: list[Any]) -> str:
    """Return what was printed and shown, as text."""
    return "\n".join(out.get("text") or out.get("data", {})["text/plain"] for out in outputs)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_analysis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = outputs_of("analysis.ipynb", tmp_path, monkeypatch)
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == 5
    tables = [out.data["text/plain"] for out in outputs if "text/html" in out.get("data", {})]
    assert len(tables) >= 7
    assert any("usd+bn − shot+bn" in text and "win" in text for text in tables)
    assert not any("Empty DataFrame" in text for text in tables)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_adapt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(outputs_of("adapt.ipynb", tmp_path, monkeypatch))
    found = re.search(r"all pictures: ([0-9.]+) before, ([0-9.]+) after", text)
    assert found
    # what the text says has to be true of the numbers beside it
    assert float(found[2]) > float(found[1])


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(outputs_of("method.ipynb", tmp_path, monkeypatch))
    assert "labels do not matter" in text
    assert "BROKEN" not in text
    assert len(list((tmp_path / "results").glob("records/sf-uda/digits/*.json"))) == 6
    lines = (tmp_path / "my_infomax.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 45
