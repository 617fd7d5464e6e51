"""Leaks that are planted on purpose: the checks must catch every one of them."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from dabench import registry
from dabench.config.spec import resolve
from dabench.contract.access import Unlabelled
from dabench.contract.confined import Confined
from dabench.contract.data import DomainData, Labelled
from dabench.contract.method import OfflineMethod
from dabench.contract.types import Prediction
from dabench.errors import ConfigError, DataError
from dabench.metrics.scoring import check_order, order_leak
from dabench.protocols.offline.protocol import _stratified
from dabench.protocols.sf_osda import SourceFreeOpenSet
from dabench.protocols.sf_uda import SourceFreeClosedSet
from dabench.protocols.streams.roles import split_roles
from dabench.testing import BrokenPromise, Case, Workbench
from dabench.testing.benches import STREAM_OPTIONS
from dabench.testing.promises import labels_do_not_matter

OFFLINE = [p for p in registry.PROTOCOLS if not getattr(registry.protocol(p), "online", False)]


class Talkative(Unlabelled):
    """A target set that carries its labels along."""

    labels: np.ndarray


def plan_images(part: Unlabelled) -> np.ndarray:
    """Return a part's pictures as (N, H, W, 3) uint8."""
    found = part.__getitems__(list(range(len(part)))).images.permute(0, 2, 3, 1)
    return (found * 255).round().to(torch.uint8).numpy()


class AttributeLeak(SourceFreeClosedSet):
    """Hands labels out in an attribute of the target set."""

    def run(self, build: Any, plan: Any, source: Any, run: Any) -> Any:
        part = plan.parts["adapt"]
        told = Talkative(plan_images(part), np.arange(len(part)))
        told.labels = plan.truth["adapt"]
        parts = {**plan.parts, "adapt": told}
        return super().run(build, dataclasses.replace(plan, parts=parts), source, run)


class PixelLeak(SourceFreeClosedSet):
    """Writes the label into the first pixel of every picture."""

    def run(self, build: Any, plan: Any, source: Any, run: Any) -> Any:
        parts = {}
        for name, part in plan.parts.items():
            images = plan_images(part)
            images[:, 0, 0, :] = plan.truth[name][:, None]
            parts[name] = Unlabelled(images, np.arange(len(images)))
        return super().run(build, dataclasses.replace(plan, parts=parts), source, run)


class Cheater(OfflineMethod):
    """Looks for labels; without any it answers class 0."""

    trains: ClassVar[bool] = False

    def calibrate(self) -> None:
        target = self.access.target
        labels = getattr(target, "labels", None)
        self.found: dict[bytes, int] = {}
        if labels is not None:
            images = target.__getitems__(list(range(len(target)))).images
            keys = (image.numpy().tobytes() for image in images)
            self.found = dict(zip(keys, labels.tolist(), strict=True))

    def predict(self, images: torch.Tensor) -> Prediction:
        guess = [self.found.get(image.numpy().tobytes(), 0) for image in images]
        return Prediction(torch.nn.functional.one_hot(torch.tensor(guess), 10).float())


class PixelReader(OfflineMethod):
    """Reads the first pixel."""

    trains: ClassVar[bool] = False

    def predict(self, images: torch.Tensor) -> Prediction:
        stamp = (images[:, 0, 0, 0] * 255).round().long().clamp(0, 9)
        return Prediction(torch.nn.functional.one_hot(stamp, 10).float())


@pytest.mark.parametrize(
    ("protocol", "method"), [(AttributeLeak, Cheater), (PixelLeak, PixelReader)]
)
def test_a_planted_label_leak_is_caught(make_bench: Any, protocol: Any, method: Any) -> None:
    with pytest.raises(BrokenPromise, match="labels"):
        labels_do_not_matter(Case(make_bench(protocol()), method))


@pytest.mark.parametrize("method", [Cheater, PixelReader])
def test_the_same_cheaters_find_nothing_under_the_real_protocol(bench: Any, method: Any) -> None:
    labels_do_not_matter(Case(bench("sf-uda"), method))


@pytest.mark.parametrize("protocol", [SourceFreeOpenSet, SourceFreeClosedSet])
def test_a_target_in_class_order_is_refused(tiny: DomainData, protocol: Any) -> None:
    order = np.argsort(tiny.target_all.labels, kind="stable")
    target = tiny.target_all
    ordered = Labelled(target.images[order], target.labels[order], "ordered")
    with pytest.raises(DataError, match="tells their classes"):
        protocol().plan(dataclasses.replace(tiny, target_all=ordered), 32, 0)


@pytest.mark.parametrize("name", ["online-tta", "continual-tta", "gradual-weather"])
def test_a_domain_in_class_order_makes_no_stream(workbench: Workbench, name: str) -> None:
    data = workbench.one_domain
    order = np.argsort(data.target_all.labels, kind="stable")
    target = data.target_all
    ordered = Labelled(target.images[order], target.labels[order], "ordered")
    protocol = registry.protocol(name)(**STREAM_OPTIONS[name])
    with pytest.raises(DataError, match="tells their classes"):
        protocol.plan(dataclasses.replace(data, target_all=ordered, source_train=ordered), 20, 0)


def test_a_stream_needs_one_domain_and_images_for_every_role(workbench: Workbench) -> None:
    data = workbench.one_domain
    gradual = registry.protocol("gradual-weather")(weather="fog")
    assert "weather is the only shift" in str(gradual.is_valid(workbench.digits))
    assert gradual.is_valid(data) is None
    for kept, told in ((4, "fewer than 5 images"), (5, None)):
        labels = data.target_all.labels
        rows = np.sort(np.r_[np.flatnonzero(labels == 3)[:kept], np.flatnonzero(labels != 3)])
        few = Labelled(data.target_all.images[rows], labels[rows], f"few-{kept}")
        thin = dataclasses.replace(data, target_all=few, source_train=few)
        for name in ("online-tta", "continual-tta", "gradual-weather"):
            found = registry.protocol(name)(**STREAM_OPTIONS[name]).is_valid(thin)
            assert (found is None) if told is None else told in str(found), name
    with pytest.raises(ConfigError, match="--epochs 3: online-tta shows every image once"):
        resolve({"method": "tent", "protocol": "online-tta", "epochs": 3})


def test_order_statistic() -> None:
    labels = np.repeat(np.arange(10), 50)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert order_leak(labels) > 50
    assert order_leak(shuffled) < 12
    check_order(shuffled, "shuffled")
    with pytest.raises(DataError, match="sorted"):
        check_order(labels, "sorted")
    with pytest.raises(DataError, match="tells their classes"):
        check_order(np.tile(np.arange(10), 100), "round robin")
    assert order_leak(np.zeros(50, dtype=np.int64)) == 0.0  # one class: no order to leak
    assert order_leak(np.array([0, 1])) == 0.0


@pytest.mark.parametrize(("classes", "each"), [(26, 31), (60, 65), (10, 50), (2, 50), (345, 3)])
def test_small_sets_in_turns_are_refused_and_random_ones_are_not(classes: int, each: int) -> None:
    turns = np.tile(np.arange(classes), each)
    rng = np.random.default_rng(classes)
    late = np.sort(turns) >= classes // 2
    halves = np.concatenate([rng.permutation(np.sort(turns)[late == side]) for side in (0, 1)])
    for order in (turns, halves):
        with pytest.raises(DataError, match="tells their classes"):
            check_order(order, "order")
    for _ in range(20):
        few = rng.choice(classes, len(turns), p=rng.dirichlet(np.ones(classes)))
        assert max(order_leak(rng.permutation(turns)), order_leak(few)) < 20


def test_alternating_blocks_are_refused_too() -> None:
    with pytest.raises(DataError):
        check_order(np.tile(np.repeat(np.arange(4), 10), 20), "blocks")


def test_the_honest_order_passes(tiny: DomainData) -> None:
    assert order_leak(tiny.target_all.labels) < 16
    check_order(tiny.target_all.labels, "digits")


@pytest.mark.parametrize("name", OFFLINE)
def test_no_image_plays_two_roles(tiny: DomainData, name: str) -> None:
    plan = registry.protocol(name)().plan(tiny, 32, 0)
    rows = {segment.name: set(part.tolist()) for segment, part in plan.stream.segments}
    assert rows["adapt"]
    assert rows["held-out"]
    assert not rows["adapt"] & rows["held-out"]
    for part, truth in plan.truth.items():
        assert len(truth) == len(plan.parts[part]) == len(rows[part])
    seeds = [registry.protocol(name)().plan(tiny, 32, seed).stream for seed in (0, 1)]
    for (_, a), (_, b) in zip(seeds[0].segments, seeds[1].segments, strict=True):
        np.testing.assert_array_equal(a, b)  # the split is the same for every seed


def test_the_splits_of_recorded_runs_stand(tiny: DomainData) -> None:
    """Draws by position, the same for every machine: other ones would be other tasks."""
    labels = np.resize(np.arange(2), 20)
    assert _stratified(np.arange(20), labels, 0.3).tolist() == [2, 7, 9, 10, 14, 19]
    thinned = SourceFreeOpenSet(unknown_share=0.25).choose_rows(np.arange(20), labels, 1)
    assert thinned[thinned % 2 == 1].tolist() == [1, 11, 19]
    few = dataclasses.replace(tiny.target_all, labels=labels)
    found = split_roles(dataclasses.replace(tiny, source=tiny.target, target_all=few))
    assert found.source is not None
    assert found.source.tolist() == [1, 2, 5, 6, 8, 11, 18, 19]
    assert found.stream.tolist() == [0, 3, 4, 9, 13, 14, 15, 16]
    assert found.held_out.tolist() == [7, 10, 12, 17]


@pytest.mark.parametrize("name", OFFLINE)
def test_the_digest_covers_the_split(tiny: DomainData, name: str) -> None:
    cls = registry.protocol(name)
    stream = cls().plan(tiny, 32, 0).stream
    others = [
        cls(held_out=0.2).plan(tiny, 32, 0).stream,
        cls().plan(tiny, 16, 0).stream,
        cls().plan(tiny, 32, 1).stream,
    ]
    segment, rows = stream.segments[0]
    moved = dataclasses.replace(stream, segments=((segment, rows[::-1]), *stream.segments[1:]))
    digests = {stream.digest, moved.digest, *(other.digest for other in others)}
    assert len(digests) == 5
    assert cls().plan(tiny, 32, 0).stream.digest == stream.digest


def test_a_target_set_shows_images_and_positions_only(tiny: DomainData) -> None:
    target = registry.protocol("sf-osda")().plan(tiny, 32, 0).parts["adapt"]
    assert set(vars(target)) == {"_pictures", "_floats", "_count"}
    assert all(isinstance(vars(target)[name], Confined) for name in ("_pictures", "_floats"))
    batch = target[3]
    assert set(vars(batch)) == {"images", "index"}
    assert batch.index.tolist() == [3]
