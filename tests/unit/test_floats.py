"""Pictures become floats on the device that takes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dabench.contract import access
from dabench.contract.access import Unlabelled
from dabench.contract.floats import resident, to_float

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
ROWS = np.array([0, 2, 3, 5])


def test_a_number_of_the_device_divides_as_one_of_the_host() -> None:
    every = torch.arange(256, dtype=torch.float32)
    assert torch.equal(every / 255.0, every / torch.full((), 255.0))


def test_pictures_that_are_kept_give_the_same_floats() -> None:
    batch = resident(PICTURES, torch.device("cpu"))
    places = np.array([4, 1])
    assert torch.equal(batch(places), to_float(PICTURES[places]))
    assert batch(places).stride() == to_float(PICTURES[places]).stride()


@pytest.mark.parametrize("free", [0, 10**6])
def test_batches_are_made_where_they_are_used(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """``meta`` stands for an accelerator: it knows shapes and no values."""
    asked = []
    monkeypatch.setattr(access, "free_memory", lambda device: free)
    monkeypatch.setattr(access, "resident", lambda *given: asked.append(1) or resident(*given))
    target = Unlabelled(PICTURES, ROWS)
    assert target.on("cpu") is target
    there = target.on("meta")
    assert len(asked) == (1 if free else 0)
    batch = there.__getitems__([3, 0])
    assert (batch.images.device.type, batch.images.shape) == ("meta", (2, 3, 8, 8))
    assert batch.index.tolist() == [3, 0]
    assert target.__getitems__([3]).images.device.type == "cpu"
