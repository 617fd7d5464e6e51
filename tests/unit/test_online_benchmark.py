"""``benchmarks/online.py``: every method that it lists steps, and bare loops are the methods."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dabench.networks.network import ClassifierNetwork

SIZE, BATCH = 16, 12
FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark_of_online(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("online")
    for name in ("online", "bare_steps"):  # too common a name to stay
        sys.modules.pop(name, None)


def network() -> ClassifierNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        net = ClassifierNetwork(trunk, 8, 10, bottleneck=0, weight_norm=False).eval()
        net.classifier.weight.data *= 12
    return net


def batches(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(BATCH, 3, SIZE, SIZE, generator=generator) for _ in range(count)]


def test_every_method_steps(benchmark_of_online: Any) -> None:
    online = benchmark_of_online
    names = online.stream_methods()
    assert {"petta", "santa", "foa-shift", "eata", "rem"} <= set(names)
    for name in names:
        net = online.vit_tiny(SIZE).eval() if name in online.TRANSFORMERS else network()
        step, _ = online.driven(name, net, SIZE, BATCH)
        assert step(batches(1)[0]).shape == (BATCH, 10), name


@pytest.mark.parametrize("name", ["bn-adapt", "lame", "t3a", "tent", "roid"])
def test_a_bare_loop_answers_as_its_method(name: str, benchmark_of_online: Any) -> None:
    online = benchmark_of_online
    answers = []
    for step in (online.driven(name, network(), SIZE, BATCH)[0], online.BARE[name](network())):
        torch.manual_seed(2)
        answers.append(torch.stack([step(images) for images in batches(4)]))
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-4)


def test_every_bare_loop_is_compared(benchmark_of_online: Any) -> None:
    assert set(benchmark_of_online.BARE) == {"bn-adapt", "lame", "t3a", "tent", "roid"}


def test_memories_are_full_when_the_clock_starts(benchmark_of_online: Any) -> None:
    """An untrained network names one class alone, and RoTTA's memory then has N / K images."""
    online = benchmark_of_online
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.rand(64, 3, SIZE, SIZE)
        net = online.spread(network(), images)
    assert len(net(images).argmax(1).unique()) == len(online.CLASSES)
    step, method = online.driven("rotta", online.counting(net), SIZE, 64)
    for _ in range(online.WARM_UP):
        step(images)
    before = method.access.cost.forward
    step(images)
    assert method.access.cost.forward - before >= 64 + 2 * 60  # of 64 places


def test_a_method_that_fails_costs_no_other_its_figures(
    benchmark_of_online: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    online = benchmark_of_online

    def measure(name: str, source: Any, images: Tensor, given: argparse.Namespace) -> float | None:
        if name == "tent":
            raise AttributeError("no such thing")
        sys.stdout.write(f"| {name} | 1 |\n")
        return 1.01 if name == "lame" else None

    monkeypatch.setattr(online, "measure", measure)
    monkeypatch.setattr(online, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(online, "resnet18_cifar", network)
    monkeypatch.setattr(sys, "argv", ["online.py", "--methods", "tent,lame,t3a"])
    with pytest.raises(SystemExit, match=r"^failed: tent$"):
        online.main()
    out, err = capsys.readouterr()
    assert "| tent | failed" in out
    assert "| t3a | 1 |" in out
    assert "`lame` under `run_stream`" in out
    assert "no such thing" in err
