"""What attributes, closures, partials and bound methods of a black-box grant lead to."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dabench.contract.access import Budget, Recorder
from dabench.contract.method import OfflineMethod
from dabench.contract.protocol import Run
from dabench.contract.types import Prediction
from dabench.errors import TrainingError
from dabench.oracle import open as opening
from dabench.oracle.in_process import InProcess

LEAVES = (str, bytes, int, float, bool, type, types.ModuleType, np.ndarray, torch.Tensor)


def children(value: Any) -> Iterator[Any]:
    """Yield what one step from a value reaches: no frames, no garbage collector, no globals."""
    if isinstance(value, dict):
        yield from (*value.keys(), *value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    if isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    if isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    if isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            yield cell.cell_contents
        yield from (value.__defaults__, value.__kwdefaults__)
    yield getattr(value, "__dict__", None)
    for cls in type(value).__mro__:
        for slot in getattr(cls, "__slots__", ()):
            yield getattr(value, slot, None) if isinstance(slot, str) else None


def reached(start: Any) -> dict[int, Any]:
    """Return every object that a chain of attributes reaches, by id."""
    found: dict[int, Any] = {}
    waiting = [start]
    while waiting:
        value = waiting.pop()
        if value is None or id(value) in found:
            continue
        found[id(value)] = value
        if not isinstance(value, LEAVES):
            waiting += list(children(value))
    return found


@pytest.fixture
def opened(bench: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Open an oracle as a run does, but for the source model, which is the bench's."""
    made = bench("bb-uda")
    probe = made.remote.oracle(SimpleNamespace(paused=False))
    answerer = probe._answerer
    assert isinstance(answerer, InProcess)
    monkeypatch.setattr(opening, "_in_process", lambda *a: answerer)
    protocol = made.protocol
    monkeypatch.setattr(protocol, "oracle", "in-process")
    spec = SimpleNamespace(
        device="cpu", threads=1, backbone="small-cnn", weights="none", freeze=0, seed=0
    )
    settings = SimpleNamespace(cache_dir=None, oracle_url=None)
    remote = opening.open_source(spec, settings, protocol, made.plan, None, 0).remote  # type: ignore[arg-type]
    run = Run("source", Budget(1, 32), 0, "cpu", Recorder(), False)
    grant = protocol.make_grant(made.plan, remote, run, Recorder())
    return SimpleNamespace(grant=grant, plan=made.plan, spec=spec, settings=settings, remote=remote)


def test_a_black_box_grant_reaches_no_truth_no_source_data_no_settings(
    opened: SimpleNamespace,
) -> None:
    found = reached(opened.grant)
    assert id(opened.grant.target) in found
    assert id(opened.grant.oracle) in found
    plan = opened.plan
    forbidden = {
        "the plan": plan,
        **{f"truth of {name}": truth for name, truth in plan.truth.items()},
        "source data": plan.source,
        "source labels": plan.source.labels,
        "source images": plan.source.images,
        "the spec": opened.spec,
        "settings": opened.settings,
    }
    assert [name for name, value in forbidden.items() if id(value) in found] == []


@pytest.mark.parametrize("way", ["closure", "partial", "bound method", "attribute", "default"])
def test_a_planted_leak_is_found(way: str) -> None:
    secret = np.arange(5)

    class Holder:
        def __init__(self) -> None:
            self.kept = secret

        def ask(self) -> None: ...

    leaks: dict[str, Any] = {
        "closure": lambda: secret,
        "partial": functools.partial(print, secret),
        "bound method": Holder().ask,
        "attribute": Holder(),
        "default": lambda x=secret: x,
    }
    assert id(secret) in reached(SimpleNamespace(new_network=leaks[way]))


WRONG: dict[str, Callable[[int], Any]] = {
    "too few classes": lambda n: Prediction(torch.zeros(n, 3)),
    "too few rows": lambda n: Prediction(torch.zeros(n - 1, 10)),
    "not finite": lambda n: Prediction(torch.full((n, 10), torch.nan)),
    "no prediction": lambda n: torch.zeros(n, 10),
    "decisions as numbers": lambda n: Prediction(
        torch.zeros(n, 10), torch.zeros(n), torch.full((n,), 0.2)
    ),
    "scores of another length": lambda n: Prediction(torch.zeros(n, 10), torch.zeros(n + 1)),
}


@pytest.mark.parametrize("fault", WRONG)
def test_answers_that_do_not_fit_are_refused_by_the_methods_name(
    fault: str, bench: Callable[[str], Any]
) -> None:
    class Odd(OfflineMethod):
        trains = False

        def predict(self, images: torch.Tensor) -> Prediction:
            answer: Prediction = WRONG[fault](len(images))
            return answer

    with pytest.raises(TrainingError, match="Odd"):
        bench("sf-uda").run(Odd)
