"""What holds on a CUDA device: the CPU's floats, runs that repeat, steps that do not wait."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dabench
from dabench.contract.access import TargetBatch, Unlabelled
from dabench.contract.floats import to_float
from dabench.testing import Case

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
DEVICE = "cuda"
#: of these a step reads nothing back: an update reads its loss once, to skip one that is no number
SILENT = ("source", "bn-adapt", "bn-ema")


@pytest.fixture(autouse=True)
def _repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cuBLAS repeat itself; it asks the environment when it starts."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def test_floats_are_those_of_the_cpu() -> None:
    pictures = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    assert torch.equal(to_float(pictures, DEVICE).cpu(), to_float(pictures))
    target = Unlabelled(np.concatenate([pictures, 255 - pictures]), np.arange(2))
    there = target.on(DEVICE).__getitems__([1, 0]).images
    assert there.device.type == DEVICE
    assert torch.equal(there.cpu(), target.__getitems__([1, 0]).images)


def run(method: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Return the record of a short run on the device."""
    given: dict[str, Any] = {"source_epochs": 1, "threads": 1, "device": DEVICE, "results": folder}
    return dabench.run(method, cache_dir=folder.parent / "cache", **given, **more).record


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("tent", {"protocol": "online-tta"}),
        ("aerial", {"protocol": "gradual-weather"}),
        ("shot", {"protocol": "sf-uda", "epochs": 1}),
        ("usd", {"protocol": "sf-osda", "epochs": 1}),
        ("cabb", {"protocol": "bb-uda", "epochs": 1}),
        ("transadapt", {"protocol": "online-seg"}),
    ],
)
def test_a_run_repeats(method: str, more: dict[str, Any], tmp_path: Path) -> None:
    one, two = (run(method, tmp_path / name, **more) for name in "ab")
    assert one["run_id"] == two["run_id"]
    assert one["scores"] == two["scores"]
    assert one["spec"]["device"].startswith(DEVICE)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision(precision: str, tmp_path: Path) -> None:
    usual = run("tent", tmp_path / "a", protocol="online-tta")
    found = run("tent", tmp_path / "b", protocol="online-tta", precision=precision)
    assert found["ids"]["source"] == usual["ids"]["source"]
    whole = [
        next(s["value"] for s in r["scores"] if s["metric"] == "accuracy") for r in (usual, found)
    ]
    assert whole[1] == pytest.approx(whole[0], abs=0.05)


@pytest.mark.parametrize("name", SILENT)
def test_a_step_does_not_wait(cases: Callable[..., Case], name: str) -> None:
    bench = cases(name, "gradual-weather", brief=True).bench
    seen = []

    def build() -> Any:
        method = cases(name, "gradual-weather", brief=True).build()
        adapt = method.step

        def step(batch: TargetBatch) -> Any:
            moved = batch.to(DEVICE)
            method.to(DEVICE)
            adapt(moved)  # the first time, kernels are chosen
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    answer = adapt(moved)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            seen.extend(str(one.message) for one in caught if "synchroniz" in str(one.message))
            method.to("cpu")
            return answer.cpu()

        object.__setattr__(method, "step", step)
        return method

    bench.run(build)
    assert not seen
