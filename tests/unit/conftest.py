"""What unit tests share."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dabench.cli.main import main
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
def fill_classes() -> Callable[..., None]:
    """Return ``fill_classes(folder, seed, count=8)``: noise of ant, bee and cat, 32 px."""

    def fill(place: Path, seed: int, count: int = 8) -> None:
        rng = np.random.default_rng(seed)
        for name in ("ant", "bee", "cat"):
            (place / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / name / f"{i}.png")

    return fill


@pytest.fixture(scope="session")
def committed(tables: ModuleType) -> list[dict[str, Any]]:
    """Return the committed records, which take seconds to read; nobody changes them."""
    found: list[dict[str, Any]] = tables.committed()
    return found


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


OWN_MODEL = """
    from torch import nn

    def build():
        conv, norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        pool = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(conv, norm, pool, nn.Linear(8, 3))
"""


class TwoDomains:
    """A folder with a model file and its weights, beside images of two domains."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        (root / "net.py").write_text(textwrap.dedent(OWN_MODEL))
        scope: dict[str, Any] = {}
        exec(textwrap.dedent(OWN_MODEL), scope)
        torch.manual_seed(3)
        self.model = scope["build"]().eval()
        torch.save(self.model.state_dict(), root / "net.pt")

    def given(self, **more: Any) -> dict[str, Any]:
        own: dict[str, Any] = {"method": "source", "protocol": "bb-uda", "dataset": "image-folder"}
        own |= {"data-root": str(self.root / "data"), "source": "a", "target": "b", "threads": 1}
        own |= {"image-size": 32, "batch-size": 6, "device": "cpu", "epochs": 1}
        own |= {"backbone": "small-cnn", "weights": "none"}
        own |= {"source-model": f"{self.root / 'net.py'}:build"}
        own |= {"source-checkpoint": str(self.root / "net.pt")}
        own |= {"results": str(self.root / "results"), "cache-dir": str(self.root / "cache")}
        own |= {name.replace("_", "-"): value for name, value in more.items()}
        return {name: value for name, value in own.items() if value is not None}

    def words(self, *more: str, **named: Any) -> list[str]:
        pairs = [[f"--{name}", str(value)] for name, value in self.given(**named).items()]
        return ["run", "--json", "--no-progress", *(word for pair in pairs for word in pair), *more]

    def run(self, *more: str, **named: Any) -> dict[str, Any]:
        code = main(self.words(*more, **named))
        out, err = self.capsys.readouterr()
        assert code == 0, err
        record: dict[str, Any] = json.loads(Path(json.loads(out)["record"]).read_text())
        return record

    def adapt(self, *more: Any, method: str = "dine", out: str = "out") -> list[str]:
        words: list[Any] = ["adapt", "--method", method, "--images", self.root / "data/b"]
        words += ["--out", self.root / out, "--batch-size", 6, "--device", "cpu", *more]
        if "--oracle-url" not in more:
            words += ["--source-model", f"{self.root / 'net.py'}:build", "--image-size", 32]
            words += ["--source-checkpoint", self.root / "net.pt"]
        return [str(word) for word in [*words, "--no-progress"]]

    def rows(self, out: str = "out") -> list[dict[str, str]]:
        with (self.root / out / "predictions.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def images(self) -> torch.Tensor:
        files = sorted((self.root / "data/b").glob("*/*.png"))
        pixels = np.stack([np.asarray(Image.open(path)) for path in files])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


@pytest.fixture
def place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fill_classes: Callable[..., None]
) -> TwoDomains:
    """Return a folder to run in; files with a fixture of this name have their own."""
    for seed, domain in enumerate("ab"):
        fill_classes(tmp_path / "data" / domain, seed, count=6)
    return TwoDomains(tmp_path, capsys)
