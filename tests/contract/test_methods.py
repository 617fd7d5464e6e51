"""What every registered method owes under every protocol that it serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dabench import registry
from dabench.contract.access import Budget, Recorder, Unlabelled
from dabench.contract.protocol import Run
from dabench.errors import AccessError, ConfigError
from dabench.oracle.answer_forms import AnswerForm
from dabench.oracle.in_process import InProcess
from dabench.protocols.offline.upper_bound import TargetSupervised
from dabench.testing import PROMISES, BrokenPromise, Case

#: linear-probe is the class of source: another network is handed to it, before any of this
METHODS = {name: entry for name, entry in registry.METHODS.items() if not entry.frozen_trunk}
SERVED = [(name, entry.protocols) for name, entry in METHODS.items()]
OFFLINE = [p for p in registry.PROTOCOLS if not getattr(registry.protocol(p), "online", False)]
PAIRS = [(name, protocol) for name, protocols in SERVED for protocol in protocols]
PAIRS = [(name, protocol) for name, protocol in PAIRS if protocol in OFFLINE]
SEEING = [(n, p) for n, p in PAIRS if registry.method(n) is TargetSupervised]
BLIND = [pair for pair in PAIRS if pair not in SEEING]
Fitted = Callable[[str, str], tuple[Any, Any]]


@pytest.fixture(scope="module")
def fitted(cases: Callable[..., Case]) -> Fitted:
    """Return (method after its run, outcome), each pair run once."""
    return lambda name, protocol: cases(name, protocol).first


SEES_LABELS = "labels do not matter"
#: the others' whole runs are slow here: what they share with these is tried on these
QUICK = ("source", "shot", "usd", "dine", "cabb")
#: that labels do not matter is seen by the bytes of two runs with one seed
LONGER = ("LayerNorm", "same seed")
OFFLINE_PROMISES = [title for title, (_, on_streams) in PROMISES.items() if not on_streams]


def quick(promise: str, name: str, protocol: str) -> bool:
    """Return whether a promise is tried in the fast suite: a second run is for a few methods."""
    first = name == "source" or protocol == METHODS[name].protocols[0]
    second_run = promise == SEES_LABELS and name not in QUICK
    return first and not second_run and not promise.startswith(LONGER)


# the promises of a method one after the other: they share a run
@pytest.mark.parametrize(
    ("name", "protocol", "promise"),
    [
        pytest.param(n, p, t, marks=[pytest.mark.slow] * (not quick(t, n, p)))
        for n, p in PAIRS
        for t in OFFLINE_PROMISES
    ],
)
def test_promises(cases: Callable[..., Case], name: str, protocol: str, promise: str) -> None:
    case = cases(name, protocol)
    if promise == SEES_LABELS and (name, protocol) in SEEING:
        with pytest.raises(BrokenPromise, match="labels"):
            PROMISES[promise][0](case)
    else:
        PROMISES[promise][0](case)
    if promise.startswith("outputs"):
        scores = case.first[1].scores
        assert case.bench.protocol.primary in {score.metric for score in scores}
        assert all(0 <= s.value <= 1 for s in scores if s.value is not None)


def at_length(case: Any) -> Any:
    """Mark all but a few methods as slow."""
    name, *rest = (case,) if isinstance(case, str) else case
    return pytest.param(name, *rest, marks=[pytest.mark.slow] * (name not in QUICK))


def images_of(bench: Any, count: int = 8) -> torch.Tensor:
    """Return the first target images."""
    return bench.plan.parts["adapt"].__getitems__(list(range(count))).images


@pytest.mark.slow
@pytest.mark.parametrize(("name", "protocol"), BLIND)
def test_nothing_that_is_not_granted_matters(
    bench: Any, cases: Callable[..., Case], answers: Any, name: str, protocol: str
) -> None:
    """Other labels, source images and held-out pictures: the answers on the adapt set stand."""
    plan, rng = bench(protocol).plan, np.random.default_rng(0)
    pictures = rng.integers(0, 256, (len(plan.parts["held-out"]), 32, 32, 3), dtype=np.uint8)
    shown = rng.integers(0, 256, (len(plan.source.labels), 32, 32, 3), dtype=np.uint8)
    hidden = dataclasses.replace(
        plan,
        truth={part: rng.permutation(values) for part, values in plan.truth.items()},
        source=dataclasses.replace(
            plan.source, images=shown, labels=rng.permutation(plan.source.labels)
        ),
        parts={**plan.parts, "held-out": Unlabelled(pictures, np.arange(len(pictures)))},
    )
    case = cases(name, protocol)
    one = answers(case.first[1])
    two = answers(bench(protocol).run(case.build, hidden))
    assert one["held-out.confidence"] != two["held-out.confidence"]  # something did change
    kept = [key for key in one if key.startswith("adapt.")]
    assert kept
    assert [key for key in kept if one[key] != two[key]] == []


@pytest.mark.parametrize(("name", "protocol"), [at_length(pair) for pair in PAIRS])
def test_the_source_model_stays_as_it_was(
    bench: Any, cases: Callable[..., Case], name: str, protocol: str
) -> None:
    here = bench(protocol)
    before = {key: value.clone() for key, value in here.network.state_dict().items()}
    here.run(cases(name, protocol).build)
    assert all(torch.equal(before[k], v) for k, v in here.network.state_dict().items())


@pytest.mark.parametrize(("name", "protocol"), PAIRS)
def test_an_unknown_extra_is_refused_before_any_work(bench: Any, name: str, protocol: str) -> None:
    begun: list[Any] = []
    own = {"extras": frozenset({"source-images"}), "begin": lambda self, a: begun.append(a)}
    greedy = type("Greedy", (registry.method(name),), own)
    with pytest.raises(AccessError, match="Greedy"):
        bench(protocol).run(greedy)
    assert not begun


TRAINED = [pair for pair in PAIRS if registry.method(pair[0]).trains]


@pytest.mark.parametrize(("name", "protocol"), map(at_length, TRAINED))
def test_batchnorm_learns_while_training(
    bench: Any, fitted: Fitted, name: str, protocol: str
) -> None:
    """Lightning keeps the mode that it finds, and source models arrive in eval mode."""
    method, _ = fitted(name, protocol)
    key = "bottleneck.1.num_batches_tracked"
    fresh = bench(protocol).protocol.black_box
    before = 0 if fresh else int(bench(protocol).network.state_dict()[key])
    counts = [int(v) for k, v in method.state_dict().items() if k.endswith(key)]
    assert max(counts) > before


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"criterion": "cluster-classes"},
        {"criterion": "cluster+neighbours"},
        {"criterion": "jsd"},
        {"criterion": "entropy"},
        {"clusters": "double"},
        {"bank": 0.0},
        {"teacher": False},
        {"curriculum": False},
        {"co_training": "none"},
    ],
    ids=str,
)
def test_switches_of_usd_change_the_run(
    bench: Any, fitted: Fitted, answers: Any, options: dict[str, Any]
) -> None:
    changed = bench("sf-osda").run(lambda: registry.method("usd")(**options))
    assert answers(changed) != answers(fitted("usd", "sf-osda")[1])


BLACK_BOX = [name for name, entry in METHODS.items() if "bb-uda" in entry.protocols]


class Shifted(InProcess):
    """Other weights behind the same answers: a constant is added to every logit."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        with torch.no_grad():
            self._network.classifier.bias += 1.0
        # float addition moves the last bits: answer what the first model answered
        self.first = InProcess(*args)

    def answer(self, images: Any) -> Any:
        return self.first.answer(images)


@pytest.mark.parametrize("name", map(at_length, BLACK_BOX))
def test_only_the_oracles_answers_matter(
    make_bench: Any, fitted: Fitted, answers: Any, name: str
) -> None:
    """Other weights behind the same answers: not a bit of the run changes."""
    here = make_bench(registry.protocol("bb-uda")(), answerer=Shifted)
    again = here.run(registry.method(name))
    assert answers(again) == answers(fitted(name, "bb-uda")[1])


@pytest.mark.parametrize("name", map(at_length, BLACK_BOX))
def test_other_answers_do_matter(make_bench: Any, fitted: Fitted, answers: Any, name: str) -> None:
    """The test above can fail: a method that learns from answers follows other answers."""
    protocol = registry.protocol("bb-uda")()
    there = make_bench(protocol, form=AnswerForm("rounded", decimals=0))
    again = there.run(registry.method(name))
    same = answers(again) == answers(fitted(name, "bb-uda")[1])
    assert same == (registry.method(name) is TargetSupervised)


NEED_PROBABILITIES = ("dine", "beta", "kd", "ls-kd", "sd-shot", "rfc", "seal", "rain")


@pytest.mark.parametrize("name", [*NEED_PROBABILITIES, "prior-correction"])
def test_hard_answers_are_refused_where_probabilities_are_needed(
    make_bench: Any, name: str
) -> None:
    protocol = registry.protocol("bb-uda")(answers="hard")
    with pytest.raises(AccessError, match="needs probabilities"):
        make_bench(protocol, form=AnswerForm("hard")).run(registry.method(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"criterion": "ce"},
        {"criterion": "none"},
        {"branches": "single"},
        {"co_training": False},
        {"curriculum": False},
        {"refine": False},
        {"start": "answers"},
        {"start": "centroids"},
        {"neighbours": 0},
        {"mix_weight": 0.0},
    ],
    ids=str,
)
def test_switches_of_cabb_change_the_run(
    bench: Any, fitted: Fitted, answers: Any, options: dict[str, Any]
) -> None:
    changed = bench("bb-uda").run(lambda: registry.method("cabb")(**options))
    assert answers(changed) != answers(fitted("cabb", "bb-uda")[1])


def test_cabb_works_with_hard_answers(make_bench: Any) -> None:
    protocol = registry.protocol("bb-uda")(answers="hard")
    outcome = make_bench(protocol, form=AnswerForm("hard")).run(registry.method("cabb"))
    # this oracle names one class, so that first labels and neighbours agree everywhere
    first = [s.value for s in outcome.curves if s.metric == "split_share" and s.at == 0]
    assert first == [1.0, 1.0]
    share = [s.value for s in outcome.curves if s.metric == "split_share" and s.at == 1]
    assert len(share) == 2
    assert all(0 < value < 1 for value in share)


def test_a_branch_is_reported_beside_the_ensemble(fitted: Fitted) -> None:
    for name in ("cabb", "beta"):
        _, outcome = fitted(name, "bb-uda")
        assert "single-branch" in {s.segment for s in outcome.scores}
    assert "split_agreement" in {s.metric for s in fitted("cabb", "bb-uda")[1].curves}


def test_queries_are_counted_once(fitted: Fitted, bench: Any) -> None:
    count = len(bench("bb-uda").plan.parts["adapt"])
    for name in BLACK_BOX:
        queries = fitted(name, "bb-uda")[1].cost["oracle_queries"]
        learns = name not in {"source", "target-supervised"}
        assert queries == (count if learns else 0), name


def test_a_budget_that_does_not_cover_the_set_is_refused_first(make_bench: Any) -> None:
    protocol = registry.protocol("bb-uda")(query_budget=10)
    with pytest.raises(AccessError, match=r"query_budget 10 does not cover"):
        make_bench(protocol).run(registry.method("cabb"))


def test_a_black_box_has_no_batchnorm(make_bench: Any) -> None:
    here = make_bench(registry.protocol("bb-uda")())
    run = Run("bn-target", Budget(1, 32), 0, "cpu", Recorder(), False)
    with pytest.raises(ConfigError, match="--init bn-target"):
        here.protocol.run(registry.method("cabb"), here.plan, here.start, run)


def test_a_partial_target_has_fewer_classes(make_bench: Any) -> None:
    here = make_bench(registry.protocol("bb-uda")(partial=4))
    assert set(here.plan.truth["adapt"].tolist()) == {0, 1, 2, 3}
    assert here.plan.task.num_classes == 10
    outcome = here.run(registry.method("pseudo-label"))
    scores = {s.key: s.value for s in outcome.scores}
    assert scores["class_accuracy/9"] is None
    assert scores["mean_class_accuracy"] is not None
