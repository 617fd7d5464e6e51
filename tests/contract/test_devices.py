"""Methods compute where a run says: on a pretended device they give the answers of the CPU.

``tests/gpu`` asks CUDA itself, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretended_device import pretended_device
from torch import Tensor, nn

import dabench
from dabench import registry
from dabench.contract.data import DomainData
from dabench.testing import Case
from dabench.testing.case import answers_of

#: one protocol of each kind: what differs between others is not the methods' own
PAIRS = [
    (name, protocol)
    for name, entry in registry.METHODS.items()
    for protocol in {registry.kind_of(each): each for each in reversed(entry.protocols)}.values()
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "protocol"), PAIRS)
def test_answers_are_those_of_the_cpu(cases: Callable[..., Case], name: str, protocol: str) -> None:
    case = cases(name, protocol, brief=protocol in registry.ONLINE)
    with pretended_device():
        there = case.bench.run(case.build, device="cuda")
    assert answers_of(there) == answers_of(case.first[1])


def test_a_tensor_says_where_it_lies() -> None:
    with pretended_device():
        net = nn.Linear(3, 2).to("cuda")
        images = torch.ones(4, 3, device=net.weight.device)
        loss = net(images).square().mean()
        loss.backward()
        assert net.weight.grad is not None
        for tensor in (images, net.weight, net.weight.grad, loss, images[:, 0].double().exp()):
            assert (tensor.device.type, tensor.is_cuda) == ("cuda", True)
        assert not images.cpu().is_cuda
    assert images.device.type == "cpu"


REFUSED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "a sum": lambda here, there: here + there,
    "a list": lambda here, there: torch.cat([there, here]),
    "in place": lambda here, there: there.mul_(here),
    "a layer": lambda here, there: nn.Linear(3, 2).to("cuda")(here),
    "an index": lambda here, there: here[there.argmax(1)],
    "a mask": lambda here, there: here[there > 0],
    "a value": lambda here, there: there.__setitem__(slice(0, 3), here),
    "NumPy": lambda here, there: there.numpy(),
    "a generator": lambda here, there: torch.rand(3, device="cuda", generator=torch.Generator()),
    "an order": lambda here, there: torch.randperm(
        3, generator=torch.Generator("cuda").manual_seed(0)
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_device_refuses(case: str) -> None:
    with pretended_device():
        here = torch.ones(3, 3)
        with pytest.raises((RuntimeError, TypeError)):
            REFUSED[case](here, here.to("cuda"))


def test_what_a_device_takes() -> None:
    with pretended_device():
        here = torch.arange(9.0).reshape(3, 3)
        there = here.to("cuda")
        there[here.argmax(1)] = 0.0  # indices of the host
        there.copy_(here)
        assert torch.equal((there * torch.tensor(2.0)).cpu(), here * 2)  # a number of the host


def run(folder: Path, device: str, method: str, **more: Any) -> dict[str, Any]:
    """Return scores and curves of a short run."""
    given: dict[str, Any] = {"source_epochs": 1, "threads": 1, "device": device, "progress": False}
    given |= {"results": folder, "cache_dir": folder / "cache"}
    record = dabench.run(method, **given, **more).record
    assert record["spec"]["device"] == device
    return {"scores": record["scores"], "curves": record["curves"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("usd", {"protocol": "sf-osda", "epochs": 1}),
        ("cabb", {"protocol": "bb-uda", "epochs": 1, "protocol.oracle": "in-process"}),
        (
            "max-squares",
            {"protocol": "online-seg", "image_size": 48, "protocol.conditions": "fog:3"},
        ),
    ],
)
def test_a_whole_run(
    tmp_path: Path,
    method: str,
    more: dict[str, Any],
    tiny: DomainData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Source training, adaptation, scores and curves."""
    monkeypatch.setattr(registry.dataset("digits"), "load", lambda self, request: tiny)
    usual = run(tmp_path / "here", "cpu", method, **more)
    with pretended_device():
        assert run(tmp_path / "there", "cuda", method, **more) == usual
