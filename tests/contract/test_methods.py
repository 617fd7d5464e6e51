"""What every registered method owes under every protocol that it serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dabench import registry
from dabench.contract.access import Online
from dabench.engine import loops
from dabench.errors import AccessError
from dabench.protocols.upper_bound import UpperBound

SERVED = [(name, entry.protocols) for name, entry in registry.METHODS.items()]
PAIRS = [(name, protocol) for name, protocols in SERVED for protocol in protocols]
SEEING = [(n, p) for n, p in PAIRS if issubclass(registry.method(n), UpperBound)]
BLIND = [pair for pair in PAIRS if pair not in SEEING]
Fitted = Callable[[str, str], tuple[Any, Any]]


@pytest.fixture(scope="module")
def fitted(bench: Any) -> Fitted:
    """Return (method after its run, outcome), each pair run once."""
    made: dict[tuple[str, str], tuple[Any, Any]] = {}

    def get(name: str, protocol: str) -> tuple[Any, Any]:
        if (name, protocol) not in made:
            method = registry.method(name)()
            made[name, protocol] = (method, bench(protocol).run(lambda: method))
        return made[name, protocol]

    return get


def images_of(bench: Any, count: int = 8) -> torch.Tensor:
    """Return the first target images."""
    return bench.plan.parts["adapt"].__getitems__(list(range(count))).images


@pytest.mark.parametrize(("name", "protocol"), BLIND)
def test_labels_do_not_matter(bench: Any, name: str, protocol: str) -> None:
    assert not bench(protocol).sees_labels(registry.method(name))


@pytest.mark.parametrize(("name", "protocol"), SEEING)
def test_the_checker_catches_a_method_that_sees_labels(
    bench: Any, name: str, protocol: str
) -> None:
    assert bench(protocol).sees_labels(registry.method(name))


@pytest.mark.parametrize(("name", "protocol"), PAIRS)
def test_same_seed_same_bytes(
    bench: Any, fitted: Fitted, answers: Any, name: str, protocol: str
) -> None:
    torch.manual_seed(12345)  # whatever was drawn before must not matter
    np.random.seed(999)  # noqa: NPY002
    again = bench(protocol).run(registry.method(name))
    assert answers(again) == answers(fitted(name, protocol)[1])
    assert again.scores == fitted(name, protocol)[1].scores


@pytest.mark.parametrize(("name", "protocol"), PAIRS)
def test_predict_changes_nothing(bench: Any, fitted: Fitted, name: str, protocol: str) -> None:
    method, _ = fitted(name, protocol)
    here = bench(protocol)
    method.train()
    state = {key: value.clone() for key, value in method.state_dict().items()}
    modes = {key: module.training for key, module in method.named_modules()}
    drawn = torch.random.get_rng_state()
    counted = method.access.source_model.cost.forward
    first = loops.predict_all(method, here.plan.parts["adapt"], "cpu", False)
    second = loops.predict_all(method, here.plan.parts["adapt"], "cpu", False)
    assert all(torch.equal(state[key], value) for key, value in method.state_dict().items())
    assert modes == {key: module.training for key, module in method.named_modules()}
    assert torch.equal(drawn, torch.random.get_rng_state())
    assert counted == method.access.source_model.cost.forward
    np.testing.assert_array_equal(first.confidence, second.confidence)
    method.eval()
    with torch.no_grad():
        method.predict(images_of(here))
    assert all(torch.equal(state[key], value) for key, value in method.state_dict().items())
    assert not any(module.training for module in method.modules())


@pytest.mark.parametrize(("name", "protocol"), PAIRS)
def test_answers_have_their_form(bench: Any, fitted: Fitted, name: str, protocol: str) -> None:
    method, outcome = fitted(name, protocol)
    here = bench(protocol)
    method.eval()
    with torch.no_grad():
        answer = method.predict(images_of(here))
    assert answer.logits.shape == (8, here.plan.task.num_classes)
    assert torch.isfinite(answer.logits).all()
    for part in here.plan.parts:
        for key in ("confidence", "unknown_score"):
            assert np.isfinite(outcome.arrays.get(f"{part}.{key}", np.zeros(1))).all()
    if here.plan.task.open_set:
        assert answer.unknown_score.shape == answer.is_unknown.shape == (8,)
        assert torch.isfinite(answer.unknown_score).all()
        assert answer.is_unknown.dtype == torch.bool
        assert {"adapt.unknown_score", "held-out.unknown_score"} <= set(outcome.arrays)
    else:
        assert answer.unknown_score is None
        assert answer.is_unknown is None
    assert here.protocol.primary in {score.metric for score in outcome.scores}
    assert all(0 <= s.value <= 1 for s in outcome.scores if s.value is not None)


@pytest.mark.parametrize(("name", "protocol"), PAIRS)
def test_the_source_model_stays_as_it_was(bench: Any, name: str, protocol: str) -> None:
    here = bench(protocol)
    before = {key: value.clone() for key, value in here.network.state_dict().items()}
    here.run(registry.method(name))
    assert all(torch.equal(before[k], v) for k, v in here.network.state_dict().items())


@pytest.mark.parametrize(("name", "protocol"), PAIRS)
@pytest.mark.parametrize(
    "wish", [{"grant": Online}, {"extras": frozenset({"source-images"})}], ids=["grant", "extras"]
)
def test_a_wrong_grant_is_refused_before_any_work(
    bench: Any, name: str, protocol: str, wish: dict[str, Any]
) -> None:
    begun: list[Any] = []
    cls = registry.method(name)
    greedy = type("Greedy", (cls,), {**wish, "begin": lambda self, access: begun.append(access)})
    with pytest.raises(AccessError, match="Greedy"):
        bench(protocol).run(greedy)
    assert not begun


TRAINED = [pair for pair in PAIRS if registry.method(pair[0]).trains]


@pytest.mark.parametrize(("name", "protocol"), TRAINED)
def test_batchnorm_learns_while_training(
    bench: Any, fitted: Fitted, name: str, protocol: str
) -> None:
    """Lightning keeps the mode that it finds, and source models arrive in eval mode."""
    method, _ = fitted(name, protocol)
    key = "bottleneck.1.num_batches_tracked"
    before = bench(protocol).network.state_dict()[key]
    assert method.access.source_model.state_dict()[key] > before


def test_usd_classifies_a_single_image(bench: Any, fitted: Fitted) -> None:
    method, _ = fitted("usd", "sf-osda")
    images = images_of(bench("sf-osda"), 6)
    method.eval()
    with torch.no_grad():
        together = method.predict(images)
        alone = [method.predict(image[None]) for image in images]
    for field in ("logits", "unknown_score", "is_unknown"):
        single = torch.cat([getattr(answer, field) for answer in alone])
        torch.testing.assert_close(single, getattr(together, field), rtol=1e-4, atol=1e-5)
