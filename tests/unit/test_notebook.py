"""The analysis notebook runs on the committed records, and is committed without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
PATH = ROOT / "notebooks" / "analysis.ipynb"


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(PATH, as_version=4)


def test_no_outputs_are_committed(notebook: Any) -> None:
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert {cell.execution_count for cell in code} == {None}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_runs(notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # outside the repository's root: there a bare "import datasets" would find our folder
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DABENCH_RESULTS", str(ROOT / "results"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    warned = [out.text for out in outputs if out.get("name") == "stderr"]
    assert warned == []
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == 5
    tables = [out.data["text/plain"] for out in outputs if "text/html" in out.get("data", {})]
    assert len(tables) >= 7
    assert any("usd+bn − shot+bn" in text and "win" in text for text in tables)
    assert not any("Empty DataFrame" in text for text in tables)
