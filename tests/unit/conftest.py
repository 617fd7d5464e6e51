"""What unit tests share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dabench.contract.data import DenseData, Frames
from dabench.contract.protocol import DensePlan
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import IGNORE, Task
from dabench.store.identity import run_digest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="session")
def tables() -> ModuleType:
    """Return ``docs/tables.py``, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("doc_tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(DOCS))  # for its neighbours, as when it is run
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    return module


@pytest.fixture(scope="session")
def fill_classes() -> Callable[[Path, int], None]:
    """Return ``fill_classes(folder, seed)``: ant, bee and cat, 8 pictures of noise each, 32 px."""

    def fill(place: Path, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for name in ("ant", "bee", "cat"):
            (place / name).mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / name / f"{i}.png")

    return fill


@pytest.fixture
def made_run() -> Callable[..., dict[str, Any]]:
    """Return a maker of records: ``made_run("usd", 3, 0.7, target="dslr", scores={"UNK": 0.1})``.

    Names of a spec change it; anything else changes the record. Its id is that of what it holds.
    """

    def make(method: str, seed: int, value: float | None = 0.5, **changes: Any) -> dict[str, Any]:
        spec = {
            "method": method,
            "protocol": "sf-osda",
            "dataset": "digits",
            "source": "print",
            "target": "handwritten",
            "init": "source",
            "backbone": "small-cnn",
            "weights": "none",
            "image_size": 32,
            "epochs": 2,
            "batch_size": 64,
            "source_epochs": 2,
            "freeze": 0,
            "seed": seed,
            "device": "cpu",
            "threads": 1,
            "method_options": changes.pop("options", {}),
            "protocol_options": {"split": "default", "held_out": 0.3},
        }
        spec |= {name: changes.pop(name) for name in list(changes) if name in spec}
        found = {"HOS": value} | changes.pop("scores", {})
        record = {
            "schema": 1,
            "spec": spec,
            "variant": {},
            "ids": {"data": "d", "stream": f"t{seed}", "source": f"s{seed}"},
            "versions": {"method": "1", "protocol": "1", "dabench": "0.1.0"},
            "cost": {"seconds": 10.0 + seed, "peak_memory_bytes": 100.0 * (seed + 1)},
            "scores": [
                {"metric": name, "value": number, "n": 100, "segment": "all", "at": 2}
                for name, number in found.items()
            ],
            "curves": [],
        } | changes
        return {"run_id": run_digest(*(record[n] for n in ("spec", "versions", "ids")))} | record

    return make


def boxes(count: int, value: int) -> Frames:
    """Draw frames of 32 x 48 px: sky, ground and a box; a stripe has no class."""
    rng = np.random.default_rng(value)
    masks = np.zeros((count, 32, 48), dtype=np.uint8)
    for mask in masks:
        horizon, left = rng.integers(12, 24), rng.integers(4, 28)
        mask[horizon:] = 1
        mask[horizon - 8 : horizon + 4, left : left + 14] = 2
        mask[-2:] = IGNORE
    colours = np.array([[200, 210, 230], [90, 80, 70], [180, 40, 40]], dtype=np.int64)
    shades = colours[np.minimum(masks, 2)] + rng.integers(-20, 20, (count, 32, 48, 3))
    return Frames(shades.clip(0, 255).astype(np.uint8), masks, f"boxes-{count}-{value}")


@pytest.fixture(scope="session")
def dense_data() -> DenseData:
    """A data set for segmentation with 3 classes, 16 training frames."""
    classes = ("sky", "ground", "box")
    return DenseData("boxes", "a", "b", classes, 32, 48, boxes(16, 0), boxes(4, 1), boxes(6, 2))


@pytest.fixture(scope="session")
def dense_plan(dense_data: DenseData) -> DensePlan:
    """Its plan: the target frames in order, clear."""
    data = dense_data
    stream = Stream(((Segment("clear", "clear"), np.arange(6)),), 1, 0)
    task = Task("segmentation", data.classes, 32, False, data.flip, 48)
    return DensePlan(task, data.source_train, data.source_val, data.target_all, stream)
