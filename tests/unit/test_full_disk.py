"""A disk that fills while weights are written is named, and no half of a file keeps it full."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from dabench.contract.cost import Cost
from dabench.contract.protocol import Resume
from dabench.engine.resume.checkpoint import Checkpoint
from dabench.errors import CacheError, explain
from dabench.source_models.artefacts import load_or_make


@pytest.fixture
def full() -> Iterator[None]:
    """Let no file grow beyond 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_source_model(full: None, tmp_path: Path) -> None:
    def make() -> dict[str, Any]:
        return {"state_dict": {"weight": torch.zeros(100_000)}}

    with pytest.raises(CacheError, match=r"source model cannot be written.*free some space"):
        load_or_make("source model", tmp_path / "s/model.pt", "key", make, lambda found: found)
    assert not list((tmp_path / "s").iterdir())


def test_checkpoint(full: None, tmp_path: Path) -> None:
    resume = Resume(tmp_path / "run.pt", "id", 1, False)
    progress: Any = SimpleNamespace(steps=1, log=[1])
    with pytest.raises(OSError, match="too large") as caught:
        Checkpoint(resume, Cost()).save(nn.Linear(200, 200), progress)
    text, bug = explain(caught.value)
    assert text.startswith(f"{resume.draft}: ")
    assert not bug
    assert not resume.draft.exists()
