"""The committed tables of streams: what is tuned, what is run, and what their heads declare."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dabench import registry
from dabench.sweep import grid
from dabench.sweep.grid import expand
from dabench.sweep.tuning import _without_tuned, read_tuning_grid

ROOT = Path(__file__).parents[2]
USUAL = {"threads": 1, "device": "cpu"}


def tuned_rows(tree: Any, above: dict[str, Any]) -> set[str]:
    """Return the methods of all blocks whose options a file of ``dabench tune`` gives."""
    here = above | {key: value for key, value in tree.items() if key != "blocks"}
    if "blocks" in tree:
        return set().union(*(tuned_rows(block, here) for block in tree["blocks"]))
    methods = here["method"] if isinstance(here["method"], list) else [here["method"]]
    return set(methods) if "tuned" in here else set()


@pytest.mark.parametrize(
    ("name", "runs", "trials", "tuning_runs"),
    [("cifar10-jpeg", 263, 4, 84), ("aid-new", 310, 3, 36), ("camvid-new", 130, 3, 12)],
)
def test_a_table_and_its_tuning_grid_fit(
    name: str, runs: int, trials: int, tuning_runs: int
) -> None:
    folder = ROOT / "grids"
    tuning_name = "tune-" + name.removesuffix("-new")
    tree = grid.read(folder / f"{name}.yaml")
    assert f"results/tuned/{tuning_name}.yaml" in (folder / f"{name}.yaml").read_text("utf-8")
    tuning = read_tuning_grid(folder / f"{tuning_name}.yaml", USUAL, {})
    assert tuned_rows(tree, {}) == set(tuning.trials)
    assert (tuning.count, len(tuning.grid.specs)) == (trials, tuning_runs)
    found = expand(_without_tuned(tree), name, USUAL, {})  # the file comes with the first tuning
    assert (len(found.specs), found.repeated) == (runs, 0)
    assert {spec.seed for spec in found.specs}.isdisjoint(s.seed for s in tuning.grid.specs)
    assert {spec.protocol for spec in found.specs} >= {tuning.spec.protocol}
    assert {spec.source_checkpoint for spec in found.specs} == {tuning.spec.source_checkpoint}


def test_the_rows_of_cifar10_jpeg_are_those_that_its_head_declares() -> None:
    text = (ROOT / "grids" / "cifar10-jpeg.yaml").read_text("utf-8")
    found = expand(_without_tuned(yaml.safe_load(text)), "cifar10-jpeg.yaml", USUAL, {})
    blocks: dict[str, dict[str, set[int]]] = {}
    for spec in found.specs:
        stream = str(spec.protocol_options.get("stream", "continual")).partition(":")[0]
        name = spec.protocol if spec.protocol == "online-tta" else stream
        label = spec.method + ("+come" if spec.method_options.get("loss") == "come" else "")
        blocks.setdefault(name, {}).setdefault(label, set()).add(spec.seed)
    declared = re.findall(r"^#   ([\w-]+) +(\d+) runs", text, re.MULTILINE)
    assert {name: int(runs) for name, runs in declared} == {
        name: sum(map(len, rows.values())) for name, rows in blocks.items()
    }
    streams = {m for m, e in registry.METHODS.items() if "continual-tta" in e.protocols}
    left_out = {"linear-probe", "rem", "rdumb"}
    assert blocks["continual"].keys() == (streams - left_out) | {
        "tent+come",
        "eata+come",
        "sar+come",
    }
    assert blocks["online-tta"].keys() == streams - left_out - {"memo"}
    assert {len(seeds) for seeds in blocks["continual"].values()} == {1, 5}
    for name in ("correlated", "mixed", "recurring"):
        assert {len(seeds) for seeds in blocks[name].values()} == {5}
    assert "rdumb" in blocks["recurring"]


def test_a_visit_is_as_long_as_rdumb_waits() -> None:
    tuning = read_tuning_grid(ROOT / "grids" / "tune-cifar10-jpeg.yaml", USUAL, {})
    (waits,) = {s.method_options["reset_every"] for s in tuning.grid.specs if s.method == "rdumb"}
    tree = _without_tuned(grid.read(ROOT / "grids" / "cifar10-jpeg.yaml"))
    (spec, *_) = (s for s in expand(tree, "", USUAL, {}).specs if s.method == "rdumb")
    protocol = registry.protocol(spec.protocol)(**spec.protocol_options)
    labels = np.repeat(np.arange(10), 100)  # 1,000 images are the stream (docs/datasets.md)
    stream = protocol.stream_of(np.arange(1000), labels, spec.batch_size, spec.seed)
    batches = sum(math.ceil(len(rows) / spec.batch_size) for _, rows in stream.segments)
    assert batches == 5 * waits
