"""Partial, universal and multi-source sets: who is shown which classes, and what is scored."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch

from dabench import registry
from dabench.contract.data import ClassSplit, DataRequest, DomainData
from dabench.contract.types import Prediction
from dabench.errors import ConfigError
from dabench.methods.functional.centroids import centroid_labels
from dabench.protocols.bb_osda import BlackBoxOpenSet
from dabench.protocols.bb_uda import BlackBoxClosedSet
from dabench.protocols.sf_msda import SourceFreeMultiSource
from dabench.protocols.sf_osda import SourceFreeOpenSet
from dabench.protocols.sf_pda import SourceFreePartialSet
from dabench.protocols.sf_unida import SourceFreeUniversal
from dabench.testing import Case
from dabench.testing.benches import Workbench

Cases = Callable[[str, str], Case]
DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def digits(workbench: Workbench) -> DomainData:
    """Return a few embedded digits."""
    return workbench.digits


def shown(data: DomainData, plan: Any) -> set[str]:
    """Return the classes of the images that a plan's parts hold."""
    rows = np.concatenate([rows for _, rows in plan.stream.segments])
    return {data.classes[i] for i in data.target_all.labels[rows]}


def test_a_partial_target_shows_the_split_and_the_source_knows_all(digits: DomainData) -> None:
    plan = SourceFreePartialSet().plan(digits, 8, 0)
    assert shown(digits, plan) == set("012345")
    assert plan.task.classes == DIGITS
    assert plan.task.partial
    assert not plan.task.open_set
    assert set(np.unique(plan.source.labels)) == set(range(10))
    for name, (_, rows) in zip(plan.parts, plan.stream.segments, strict=True):
        assert (plan.truth[name] == digits.target_all.labels[rows]).all()


def test_shared_classes_can_be_written_out(digits: DomainData) -> None:
    given = SourceFreePartialSet.written_options({"known": "7,3"})
    plan = SourceFreePartialSet(**given).plan(digits, 8, 0)
    assert shown(digits, plan) == {"3", "7"}
    assert plan.task.classes == DIGITS  # their order does not say which are shared
    assert set(np.concatenate([*plan.truth.values()])) == {3, 7}
    one = SourceFreePartialSet(split="4").plan(digits, 8, 0)
    assert shown(digits, one) == {"4"}


def test_without_splits_the_target_tells_what_is_shared(digits: DomainData) -> None:
    few = digits.target_all.labels < 3
    target = dataclasses.replace(
        digits.target_all,
        images=cast("Any", digits.target_all.images)[few],
        labels=digits.target_all.labels[few],
    )
    bare = dataclasses.replace(digits, splits={}, target_all=target)
    plan = SourceFreePartialSet().plan(bare, 8, 0)
    assert shown(bare, plan) == {"0", "1", "2"}
    assert plan.task.num_classes == 10


def test_a_partial_set_that_is_none_is_refused(digits: DomainData) -> None:
    reason = SourceFreePartialSet(split=",".join(DIGITS)).is_valid(digits)
    assert reason is not None
    assert "sf-uda" in reason
    with pytest.raises(ConfigError, match="no class 'x'"):
        SourceFreePartialSet(split="x,3").is_valid(digits)
    with pytest.raises(ConfigError, match="no class split 'default2'"):
        SourceFreePartialSet(split="default2").is_valid(digits)
    bare = dataclasses.replace(digits, splits={})
    with pytest.raises(ConfigError, match=r"no class splits.*--protocol\.known a,b, or"):
        SourceFreePartialSet(split="nix").is_valid(bare)
    with pytest.raises(ConfigError, match=r"without --protocol\.split"):
        SourceFreePartialSet.written_options({"known": "1", "split": "default"})


def test_a_black_box_has_the_same_partial_sets(digits: DomainData) -> None:
    plan = BlackBoxClosedSet(partial=3).plan(digits, 8, 0)
    assert shown(digits, plan) == {"0", "1", "2"}
    assert plan.task.classes == DIGITS
    assert plan.task.partial
    assert not BlackBoxClosedSet().plan(digits, 8, 0).task.partial
    given = BlackBoxClosedSet.written_options({"known": "7,3"})
    ours, theirs = (kind(**given) for kind in (BlackBoxClosedSet, SourceFreePartialSet))
    plan = ours.plan(digits, 8, 0)
    assert shown(digits, plan) == {"3", "7"}
    assert plan.task.partial
    assert ours.class_split(digits) == theirs.class_split(digits)
    reason = BlackBoxClosedSet(split=",".join(DIGITS)).is_valid(digits)
    assert reason is not None
    assert "nothing is partial" in reason
    reason = BlackBoxClosedSet(partial=3, split="default").is_valid(digits)
    assert reason is not None
    assert "--protocol.partial 3 and a split both say" in reason
    assert "split" in BlackBoxClosedSet.later_options  # ids of earlier runs stay


def test_a_universal_set_has_three_sides(digits: DomainData) -> None:
    plan = SourceFreeUniversal().plan(digits, 8, 0)
    assert digits.splits["opda"] == ClassSplit(tuple("0123"), tuple("789"), tuple("456"))
    assert plan.task.classes == tuple("0123456")
    assert plan.task.partial
    assert plan.task.open_set
    assert set(np.unique(plan.source.labels)) == set(range(7))
    assert shown(digits, plan) == set("0123789")
    for name, truth in plan.truth.items():
        classes = plan.private_classes[name]
        assert set(np.unique(truth)) == {0, 1, 2, 3, 7}
        assert ((truth == 7) == (classes >= 7)).all()
        assert (truth[truth < 7] == classes[truth < 7]).all()


def test_a_universal_set_can_be_written_out(digits: DomainData) -> None:
    sides = {"known": "4,6", "source_private": "5", "unknown": "8,9"}
    given = SourceFreeUniversal.written_options(sides)
    plan = SourceFreeUniversal(**given).plan(digits, 8, 0)
    assert plan.task.classes == ("4", "5", "6")
    assert shown(digits, plan) == {"4", "6", "8", "9"}
    assert set(np.concatenate([*plan.truth.values()])) == {0, 2, 3}
    with pytest.raises(ConfigError, match=r"source_private and --protocol\.unknown both have 5"):
        SourceFreeUniversal(split="1,2:5:5,9").is_valid(digits)
    with pytest.raises(ConfigError, match="go together"):
        SourceFreeUniversal.written_options({"known": "1", "unknown": "2"})


@pytest.mark.parametrize("protocol", [SourceFreeOpenSet, BlackBoxOpenSet])
def test_the_other_kind_of_split_is_refused(digits: DomainData, protocol: Any) -> None:
    assert protocol().is_valid(digits) is None
    assert "use sf-unida" in protocol(split="opda").is_valid(digits)
    assert SourceFreeUniversal().is_valid(digits) is None
    assert "use sf-osda" in str(SourceFreeUniversal(split="default").is_valid(digits))


def test_the_splits_of_the_literature() -> None:
    from dabench.datasets.class_folders.splits import CLASSES, SPLITS

    sizes = {"office31": (10, 10, 11), "office-home": (10, 5, 50), "visda-c": (6, 3, 3)}
    for name, wanted in sizes.items():
        split = SPLITS[name]["opda"]
        assert (len(split.known), len(split.source_private), len(split.unknown)) == wanted
        assert {*split.source, *split.unknown} == {*CLASSES[name]}
    assert SPLITS["office31"]["opda"].known == SPLITS["office31"]["default"].known
    assert SPLITS["office31"]["opda"].unknown == SPLITS["office31"]["default"].unknown


def test_discovery_is_scored_on_both_parts(cases: Cases) -> None:
    _, outcome = cases("glc", "sf-unida").first
    found = {score.key: score.value for score in outcome.scores}
    for part in ("", "/held-out"):
        parts = [found[f"{name}{part}"] for name in ("OS*", "UNK", "NMI")]
        h3 = found[f"H3{part}"]
        assert h3 is not None
        if all(parts):
            assert h3 == pytest.approx(3 / sum(1 / p for p in parts if p))
        else:
            assert h3 == 0


def test_shot_has_no_diversity_where_classes_may_be_missing(workbench: Workbench) -> None:
    method = registry.method("shot")()
    bench = workbench.bench("sf-pda")
    bench.run(lambda: method)
    logits, index = torch.randn(4, 10), torch.arange(4)
    loss, parts = method.losses(logits, index)
    assert parts["diversity"] == 0
    assert torch.isclose(loss, 0.3 * parts["pseudo"] + parts["entropy"])


def test_rare_predictions_are_no_labels_in_partial_sets() -> None:
    # 12 images of class 0 and 3 of class 1, which lie where class 1 is
    features = torch.eye(2).repeat_interleave(torch.tensor([12, 3]), dim=0)
    p = features * 0.9 + 0.05
    assert centroid_labels(features, p).tolist() == [0] * 12 + [1] * 3
    assert centroid_labels(features, p, least=10).tolist() == [0] * 15
    # nobody has more than 20: all are candidates again
    assert centroid_labels(features, p, least=20).tolist() == [0] * 12 + [1] * 3


def test_the_mean_of_the_members_answers(workbench: Workbench) -> None:
    bench = workbench.bench("sf-msda")
    made: list[Any] = []

    def build() -> Any:
        made.append(registry.method("source")())
        return made[-1]

    outcome = bench.run(build)
    first, second = (bench.start[name] for name in ("print", "other"))
    assert len(made) == 2
    images = torch.cat([b.images for b in bench.plan.parts["adapt"].survey()])
    with torch.no_grad():
        p = (first.eval()(images).softmax(1) + second.eval()(images).softmax(1)) / 2
        alone = first(images).argmax(1)
    assert (outcome.arrays["adapt.prediction"] == p.argmax(1).numpy()).all()
    assert np.allclose(outcome.arrays["adapt.confidence"], p.max(1).values, atol=1e-6)
    found = {score.key: score.value for score in outcome.scores}
    truth = torch.from_numpy(bench.plan.truth["adapt"])
    assert found["accuracy"] == pytest.approx(float((p.argmax(1) == truth).double().mean()))
    assert found["accuracy/from-print"] == pytest.approx(float((alone == truth).double().mean()))
    network = outcome.network
    assert network is not None
    assert torch.allclose(network(images[:8]).softmax(1), p[:8], atol=1e-6)


def test_a_member_is_what_its_source_gives_alone(workbench: Workbench) -> None:
    bench = workbench.bench("sf-msda")
    together = bench.run(registry.method("shot"))
    _, alone, _ = SourceFreeMultiSource().adapt(
        registry.method("shot"), bench.plan, bench.start["print"], _run(bench)
    )
    both = {score.key: score.value for score in together.scores}
    one = {score.key: score.value for score in alone.scores}
    assert both["accuracy/from-print"] == one["accuracy"]
    assert together.cost["images_forward"] == 2 * alone.cost["images_forward"]


def test_the_mean_of_the_members_is_scored_at_every_epoch(workbench: Workbench) -> None:
    """Members that answer the same at every epoch have the curves of their last one."""

    class Still(registry.method("shot")):  # type: ignore[misc]
        def begin(self, access: Any) -> None:
            super().begin(access)
            self.first = copy.deepcopy(self.net).eval()

        def predict(self, images: torch.Tensor) -> Prediction:
            return Prediction(self.first.eval()(images))

    outcome = workbench.bench("sf-msda").run(Still)
    found: dict[str, dict[int, Any]] = {}
    for score in outcome.curves:
        found.setdefault(score.key, {})[score.at] = score.value
    for name in ("accuracy", "im", "snd"):
        assert set(found[name]) == set(found[f"{name}/from-print"]) == {1, 2}
        assert found[name][1] == pytest.approx(found[name][2], abs=1e-6)
        assert found[name][1] != found[f"{name}/from-print"][1]


def _run(bench: Any) -> Any:
    from dabench.contract.access import Budget, Recorder
    from dabench.contract.protocol import Run
    from dabench.testing.benches import EPOCHS

    return Run("source", Budget(EPOCHS, bench.batch_size), 0, "cpu", Recorder(), progress=False)


def test_sources_are_loaded_over_one_target(digits: DomainData) -> None:
    def load(request: DataRequest) -> DomainData:
        return dataclasses.replace(digits, source=request.source)

    request = DataRequest("print, mnist", "handwritten", 32, None, cast("Any", None))
    data = SourceFreeMultiSource.load(load, request)
    assert data.source == "print,mnist"
    assert [one.source for one in data.more] == ["mnist"]
    assert data.digest != digits.digest
    assert SourceFreeMultiSource().is_valid(data) is None
    alone = SourceFreeMultiSource.load(load, dataclasses.replace(request, source="print"))
    assert "name several" in str(SourceFreeMultiSource().is_valid(alone))
    with pytest.raises(ConfigError, match="stands there twice"):
        SourceFreeMultiSource.load(load, dataclasses.replace(request, source="print,print"))
    same = SourceFreeMultiSource.load(
        load, dataclasses.replace(request, source="print,handwritten")
    )
    assert "choose two domains" in str(SourceFreeMultiSource().is_valid(same))


def test_the_digest_of_data_covers_all_of_them(digits: DomainData) -> None:
    other = dataclasses.replace(digits.target_all, digest="other")
    changes: list[dict[str, Any]] = [
        *({name: "other"} for name in ("dataset", "source", "target")),
        *({name: other} for name in ("source_train", "source_val", "target_all")),
        *({"classes": digits.classes[::-1]}, {"image_size": 16}, {"more": (digits,)}),
        {"more": (dataclasses.replace(digits, source_train=other),)},
    ]
    digests = {dataclasses.replace(digits, **change).digest for change in changes}
    assert len(digests - {digits.digest}) == len(changes)


def test_sources_need_the_same_classes(digits: DomainData) -> None:
    def load(request: DataRequest) -> DomainData:
        names = DIGITS if request.source == "print" else (*DIGITS[:9], "nine")
        return dataclasses.replace(digits, source=request.source, classes=names)

    request = DataRequest("print,mnist", "handwritten", 32, None, cast("Any", None))
    with pytest.raises(ConfigError, match="have other classes"):
        SourceFreeMultiSource.load(load, request)


def test_an_oracle_in_an_open_set_has_a_cut(cases: Cases) -> None:
    method, outcome = cases("source", "bb-osda").first
    assert 0 < method.cut < 1
    scores = outcome.arrays["adapt.unknown_score"]
    unknown = outcome.arrays["adapt.prediction"] == 6
    assert (unknown == (scores > np.float32(method.cut))).mean() > 0.99
    student, _ = cases("sd-shot", "bb-osda").first
    assert not bool(student.known.all())
