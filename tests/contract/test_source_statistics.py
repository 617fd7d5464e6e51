"""The extra ``source-statistics``: right numbers, made once, shown, and nothing of the target."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchvision.models import VisionTransformer as OtherTransformer

import dabench
from dabench.api import Online, OnlineMethod, Prediction, SourceStatistics, TargetBatch
from dabench.board.tables.leaderboard import table
from dabench.contract.access import Budget, Recorder
from dabench.contract.data import Labelled, no_images
from dabench.contract.floats import to_float
from dabench.contract.protocol import Run
from dabench.errors import AccessError
from dabench.networks.network import ClassifierNetwork, build_classifier
from dabench.source_models import statistics
from dabench.source_models.loading import state_hash
from dabench.source_models.statistics import Moments, StatisticsMaker, compute_statistics
from dabench.testing import Bench, BrokenPromise, Case
from dabench.testing.promises import labels_do_not_matter

EXTRA = "source-statistics"
METHOD = '''
from typing import ClassVar

import torch
from torch import Tensor

from dabench.api import Online, OnlineMethod, Prediction, SourceStatistics, TargetBatch


class NearestMean(OnlineMethod):
    """Answers the class whose source mean is nearest, in units of its spread."""

    extras: ClassVar[frozenset[str]] = frozenset({"source-statistics"})
    trains: ClassVar[bool] = False

    def begin(self, access: Online) -> None:
        super().begin(access)
        self.net = access.source_model.eval()
        found: SourceStatistics = access.extras["source-statistics"]
        for name in ("class_mean", "class_var", "count"):
            self.register_buffer(name, getattr(found, name))

    @torch.no_grad()
    def step(self, batch: TargetBatch) -> Tensor:
        z = self.net.features(batch.images)
        gap = (z[:, None] - self.class_mean) ** 2 / (self.class_var + 1e-3)
        return -gap.mean(2) - 1e3 * (self.count == 0)

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(self.step(TargetBatch(images, torch.arange(len(images)))))
'''


def method() -> Any:
    scope: dict[str, Any] = {"__name__": "nearest_mean"}
    exec(METHOD, scope)
    return scope["NearestMean"]


def labelled(count: int, classes: int, side: int = 32, seed: int = 0) -> Labelled:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return Labelled(images, rng.integers(0, classes, count), f"made-{seed}")


# -- numbers --------------------------------------------------------------------------------------


def test_moments_are_those_of_numpy() -> None:
    """A large mean beside a small spread: sums of squares would lose it."""
    rng = np.random.default_rng(0)
    values = rng.normal(1e4, 1e-2, (101, 3))
    groups = rng.integers(0, 3, 101)
    groups[groups == 1] = 2  # a group without a value
    found = Moments(3)
    for rows in np.array_split(np.arange(101), 7):
        found.add(torch.from_numpy(values[rows]), torch.from_numpy(groups[rows]))
    mean, var = found.found()
    for k in (0, 2):
        np.testing.assert_allclose(mean[k], values[groups == k].mean(0), rtol=1e-6)
        np.testing.assert_allclose(var[k], values[groups == k].var(0), rtol=1e-5)
    assert found.count.tolist() == [(groups == k).sum() for k in range(3)]
    assert not mean[1].any()
    assert not var[1].any()


def test_statistics_are_those_of_the_features() -> None:
    network = build_classifier("small-cnn", "none", 4)
    source = labelled(60, 3)  # class 3 has no image
    before = state_hash(network)
    found = compute_statistics(network, source, 4, "cpu")
    assert state_hash(network) == before
    assert network.cost.forward == 0
    with torch.no_grad():
        z = copy.deepcopy(network).eval().features(to_float(source.images[np.arange(60)])).numpy()
    np.testing.assert_allclose(found.mean, z.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.var, z.var(0), rtol=1e-4, atol=1e-6)
    for k in range(3):
        own = z[source.labels == k]
        np.testing.assert_allclose(found.class_mean[k], own.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.class_var[k], own.var(0), rtol=1e-4, atol=1e-6)
    assert found.count.tolist() == [*np.bincount(source.labels, minlength=4)]
    assert found.cls_mean is None
    assert found.cls_std is None


def test_no_more_images_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "STATISTICS_IMAGES", 20)
    network, source = build_classifier("small-cnn", "none", 3), labelled(60, 3)
    few = Labelled(source.images[np.arange(20)], source.labels[:20], "few")
    whole, part = (compute_statistics(network, s, 3, "cpu") for s in (source, few))
    assert whole.count.sum() == 20
    assert torch.equal(whole.class_mean, part.class_mean)


def timm_tokens(model: Any, images: Tensor) -> list[Tensor]:
    x = model.norm_pre(model._pos_embed(model.patch_embed(images)))
    found = []
    for block in model.blocks:
        x = block(x)
        found.append(x[:, 0])
    return found


def torchvision_tokens(model: Any, images: Tensor) -> list[Tensor]:
    x = model._process_input(images)
    x = torch.cat([model.class_token.expand(len(x), -1, -1), x], 1) + model.encoder.pos_embedding
    found = []
    for layer in model.encoder.layers:
        x = layer(x)
        found.append(x[:, 0])
    return found


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_class_tokens_after_every_block(library: str) -> None:
    backbone: Any
    if library == "timm":
        size = {"img_size": 32, "patch_size": 16, "embed_dim": 8, "depth": 3, "num_heads": 2}
        backbone, tokens = VisionTransformer(**size, num_classes=0), timm_tokens
    else:
        backbone, tokens = OtherTransformer(32, 16, 3, 2, 8, 8), torchvision_tokens
        backbone.heads = torch.nn.Identity()
    network = ClassifierNetwork(backbone, 8, 3, bottleneck=0, weight_norm=False)
    source = labelled(40, 3)
    found = compute_statistics(network, source, 3, "cpu")
    images = (to_float(source.images[np.arange(40)]) - network.mean) / network.std
    with torch.no_grad():
        seen = [t.double().numpy() for t in tokens(backbone.eval(), images)]
    assert found.cls_mean is not None
    assert found.cls_std is not None
    assert found.cls_mean.shape == (3, 8)
    np.testing.assert_allclose(found.cls_mean, [t.mean(0) for t in seen], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.cls_std, [t.std(0) for t in seen], rtol=1e-4, atol=1e-6)


# -- what a method is handed ----------------------------------------------------------------------


def short(here: Bench) -> Bench:
    """Return a bench of a stream of one batch a segment."""
    stream = here.plan.stream
    parts = tuple((segment, rows[: here.batch_size]) for segment, rows in stream.segments)
    plan = dataclasses.replace(here.plan, stream=dataclasses.replace(stream, segments=parts))
    return dataclasses.replace(here, plan=plan)


def test_a_method_works_on_them_alone(bench: Any) -> None:
    here = short(bench("continual-tta"))
    case = Case(here, method())
    made, outcome = case.first
    assert outcome.extras == (EXTRA,)
    assert outcome.cost["images_forward"] == len(outcome.arrays["stream.row"])
    source = here.plan.source
    images = to_float(source.images[np.arange(len(source.labels))])
    found = made.predict(images).logits.argmax(1).numpy()
    assert (found == source.labels).mean() > 0.3  # of ten classes


class Cheater(OnlineMethod):
    """Reads labels that a planted leak writes into the statistics."""

    extras: ClassVar[frozenset[str]] = frozenset({EXTRA})
    trains: ClassVar[bool] = False

    def begin(self, access: Online) -> None:
        super().begin(access)
        self.net = access.source_model
        self.found: SourceStatistics = access.extras[EXTRA]
        self.register_buffer("seen", torch.zeros(1))

    def step(self, batch: TargetBatch) -> Tensor:
        hint = self.found.count[batch.index % len(self.found.count)]
        return torch.nn.functional.one_hot(hint.long() % 10, 10).float()

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(self.net(images))


def test_no_label_of_the_target_reaches_it(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = short(bench("online-tta"))
    labels_do_not_matter(Case(here, method()))
    labels_do_not_matter(Case(here, Cheater))
    # the same check finds a protocol that lets the target's labels into them
    real, k = here.protocol.run, here.plan.task.num_classes

    def leaking(build: Any, plan: Any, source: Any, run: Run) -> Any:
        truth = torch.from_numpy(plan.truth).float()
        told = SourceStatistics(*(torch.zeros(k, 4),) * 4, count=truth)
        return real(build, plan, source, dataclasses.replace(run, source_statistics=lambda: told))

    monkeypatch.setattr(here.protocol, "run", leaking)
    with pytest.raises(BrokenPromise, match="labels"):
        labels_do_not_matter(Case(here, Cheater))


def test_they_are_of_the_source_images_alone(bench: Any, tmp_path: Path) -> None:
    """Poisoned target pictures, labels and held-out images change nothing; source labels do."""
    here = bench("continual-tta")
    plan, rng = here.plan, np.random.default_rng(0)

    def of(plan: Any, name: str) -> SourceStatistics:
        return StatisticsMaker(plan, here.network, name, tmp_path, "cpu")()

    poisoned = dataclasses.replace(
        plan,
        truth=rng.permutation(plan.truth),
        images=rng.integers(0, 256, (len(plan.truth), 32, 32, 3), dtype=np.uint8),
        held_out=plan.held_out[::-1],
        source_val=None,
    )
    clear, same = of(plan, "a" * 8), of(poisoned, "b" * 8)
    for field in dataclasses.fields(clear):
        one, two = getattr(clear, field.name), getattr(same, field.name)
        assert one is two is None or torch.equal(one, two)
    source = dataclasses.replace(plan.source, labels=rng.permutation(plan.source.labels))
    other = of(dataclasses.replace(plan, source=source), "c" * 8)
    assert torch.equal(other.mean, clear.mean)
    assert not torch.allclose(other.class_mean, clear.class_mean)
    stream = {int(row) for _, rows in plan.stream.segments for row in rows}
    assert len(plan.source.labels) + len(stream) + len(plan.held_out) == len(plan.truth)


def test_a_fresh_method_has_a_fresh_copy(bench: Any, tmp_path: Path) -> None:
    seen: list[float] = []

    class Spoiler(method()):  # type: ignore[misc]
        """Spoils what it was handed."""

        def begin(self, access: Online) -> None:
            super().begin(access)
            seen.append(float(access.extras[EXTRA].mean.sum()))
            for value in vars(access.extras[EXTRA]).values():
                if value is not None:
                    value.zero_()

    here = short(bench("online-tta"))
    maker = StatisticsMaker(here.plan, here.network, "a" * 16, tmp_path, "cpu")
    run = Run(
        *("source", Budget(1, here.batch_size), 0, "cpu", Recorder(), False),
        source_statistics=maker,
    )
    here.protocol.run(Spoiler, here.plan, here.network, run)
    assert len(seen) == len(here.plan.stream.segments) > 1
    assert len(set(seen)) == 1
    assert seen[0] != 0


def test_it_is_refused_where_there_is_nothing_to_make_it_of(bench: Any) -> None:
    here = bench("online-tta")
    run = Run("source", Budget(1, here.batch_size), 0, "cpu", Recorder(), False)
    with pytest.raises(AccessError, match=r"asks for source-statistics, and nothing makes them"):
        here.protocol.run(method(), here.plan, here.network, run)
    bare = dataclasses.replace(here.plan, source=no_images(32))
    with pytest.raises(AccessError, match=r"NearestMean asks for source-statistics.* has none"):
        here.run(method(), bare)


# -- a run ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_records_them_and_makes_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nearest.py").write_text(METHOD)
    calls, real = [], statistics.compute_statistics
    monkeypatch.setattr(statistics, "compute_statistics", lambda *a: calls.append(1) or real(*a))
    made = labelled(100, 4)
    options: dict[str, Any] = {"protocol": "online-tta", "source_epochs": 1, "device": "cpu"}
    options |= {"protocol_options": {"shifts": "fog:3,rain:2"}, "threads": 1}
    options |= {"backbone": "small-cnn", "weights": "none"}
    options |= {"data": {"a": (made.images, made.labels)}, "results": tmp_path / "results"}

    def run(name: str = f"{tmp_path / 'nearest.py'}:NearestMean", **more: Any) -> dict[str, Any]:
        found = dabench.run(name, cache_dir=tmp_path / "cache", **options, **more)
        return dict(found.record)

    first = run()
    about = first["source_model"]["statistics"]
    assert first["extras"] == ["external", EXTRA]
    assert first["ids"]["statistics"] == about["key"]
    assert about["images"] == np.round(0.4 * np.bincount(made.labels)).sum()
    assert EXTRA in table([first])["extras"].iloc[0]
    assert run(force=True)["scores"] == first["scores"]
    assert len(calls) == 1
    source = run("source")
    assert "statistics" not in source["ids"]
    assert "statistics" not in source["source_model"]
    assert source["ids"]["source"] == first["ids"]["source"]
