"""Methods go through where the passes of networks are computed in a lower precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dabench import registry
from dabench.contract.network import Network
from dabench.networks.precision import PRECISIONS
from dabench.testing import Case
from dabench.testing.case import answers_of

pytestmark = pytest.mark.slow
#: a linear probe is the class of source; one protocol each, since all pass through the same layers
ONE_EACH = [
    (name, entry.protocols[0]) for name, entry in registry.METHODS.items() if not entry.frozen_trunk
]
#: one of each kind: float16 has passes of its own, and offline no method changes layers
FEW = ("tent", "note", "aerial", "shot", "usd", "cabb", "transadapt")
CASES = [
    *(("bf16", *pair) for pair in ONE_EACH if pair[0] in FEW or pair[1] in registry.ONLINE),
    *(("fp16", *pair) for pair in ONE_EACH if pair[0] in FEW),
]


@pytest.mark.parametrize(("precision", "name", "protocol"), CASES)
def test_scores_are_numbers(
    cases: Callable[..., Case],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    name: str,
    protocol: str,
) -> None:
    monkeypatch.setattr(Network, "precision", PRECISIONS[precision])
    case = cases(name, protocol, brief=protocol in registry.ONLINE)
    outcome = case.bench.run(case.build)
    found = {score.metric: score.value for score in outcome.scores if score.segment == "all"}
    assert any(value is not None and 0 <= value <= 1 for value in found.values()), found
    monkeypatch.undo()
    assert answers_of(outcome) != answers_of(case.bench.run(case.build)), "no pass was rounded"
    if outcome.network is not None:
        state = outcome.network.state_dict().values()
        assert {v.dtype for v in state if v.is_floating_point()} == {torch.float32}
        assert all(bool(torch.isfinite(v).all()) for v in state)
