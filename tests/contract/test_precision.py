"""Every method goes through where the passes of networks are computed in a lower precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dabench import registry
from dabench.contract.network import Network
from dabench.networks.precision import PRECISIONS
from dabench.testing import Case

pytestmark = pytest.mark.slow
#: a linear probe is the class of source; no protocol's data are enough for all methods
ONE_EACH = [
    (name, protocol)
    for name, entry in registry.METHODS.items()
    if not entry.frozen_trunk
    for protocol in entry.protocols[:1]
]


@pytest.fixture(params=PRECISIONS)
def lowered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let all networks pass images in a lower precision."""
    name: str = request.param
    monkeypatch.setattr(Network, "precision", PRECISIONS[name])
    return name


@pytest.mark.parametrize(("name", "protocol"), ONE_EACH)
def test_scores_are_numbers(
    cases: Callable[..., Case], lowered: str, name: str, protocol: str
) -> None:
    case = cases(name, protocol, brief=protocol in registry.ONLINE)
    outcome = case.bench.run(case.build)
    found = {score.metric: score.value for score in outcome.scores if score.segment == "all"}
    assert any(value is not None and 0 <= value <= 1 for value in found.values()), found
    if outcome.network is not None:
        state = outcome.network.state_dict().values()
        assert {v.dtype for v in state if v.is_floating_point()} == {torch.float32}
        assert all(bool(torch.isfinite(v).all()) for v in state)
