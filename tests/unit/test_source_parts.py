"""Source parts: what a method trains on labelled source data before its stream."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dabench import registry
from dabench.config.settings import Settings
from dabench.config.spec import resolve
from dabench.contract.access import Online, TargetBatch
from dabench.contract.data import DenseData, DomainData
from dabench.contract.floats import to_float
from dabench.contract.method import OnlineMethod
from dabench.contract.protocol import DensePlan, Outcome, Run, StreamPlan
from dabench.contract.types import Kind, Prediction, Score, Task
from dabench.engine.run import execute
from dabench.errors import ConfigError, TrainingError
from dabench.networks.dense import build_segmenter, upsample
from dabench.registry import plugins
from dabench.source_models import loading
from dabench.source_models.makers import open_makers
from dabench.source_models.parts import SourceParts, parts_key, source_batches


class Second(OnlineMethod):
    """A second classifier, trained on source data.

    Args:
        steps: of its training.
        lr: at test time.
        harm: how the training breaks its contract.
    """

    extras: ClassVar[frozenset[str]] = frozenset({"source-parts"})
    kinds: ClassVar[frozenset[Kind]] = frozenset({"classification", "segmentation"})
    source_options: ClassVar[frozenset[str]] = frozenset({"steps"})
    trained: ClassVar[int] = 0

    def __init__(self, *, steps: int = 2, lr: float = 0.1, harm: str = "") -> None:
        super().__init__()
        self.steps, self.lr, self.harm = steps, lr, harm

    def begin(self, access: Online) -> None:
        super().begin(access)
        self.net, self.head = access.source_model, access.extras["source-parts"]

    def source_parts(self, network: Any, task: Task) -> nn.Module:
        width = network.classifier.weight.shape[1]
        if task.kind == "segmentation":
            return nn.Conv2d(width, task.num_classes, 1)
        return nn.Linear(width, task.num_classes)

    def train_source_parts(
        self, parts: nn.Module, network: Any, batches: Iterator[tuple[Tensor, Tensor]]
    ) -> None:
        type(self).trained += 1
        self.lr = -1.0  # of the instance that trains alone
        optimiser = torch.optim.SGD(parts.parameters(), lr=0.1)
        for images, labels in itertools.islice(batches, self.steps):
            with torch.no_grad():
                maps = network.features(images)
            logits = parts(maps)
            if labels.ndim == 3:
                logits = upsample(logits, labels.shape[1:])
            loss = F.cross_entropy(logits, labels.long(), ignore_index=255)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        if self.harm == "statistics":
            network.train()(images)
        if self.harm == "nan":
            parts.bias.data.fill_(float("nan"))

    def step(self, batch: TargetBatch) -> Tensor:
        return self.predict(batch.images).logits

    def predict(self, images: Tensor) -> Prediction:
        logits = self.head(self.net.features(images))
        return Prediction(upsample(logits, images.shape[-2:]))


@pytest.fixture
def network(dense_plan: DensePlan) -> Any:
    torch.manual_seed(0)
    return build_segmenter("small-seg", "none", 3).eval()


@pytest.fixture
def make(dense_plan: DensePlan, network: Any, tmp_path: Path) -> Any:
    def made(source_id: str = "ab" * 16, cache: Path = tmp_path, **options: Any) -> SourceParts:
        values = {"steps": 2, "lr": 0.1, "harm": ""} | options
        return SourceParts(dense_plan, network, source_id, values, cache, "cpu", Second.version)

    return made


def same(one: nn.Module, other: nn.Module) -> bool:
    state = other.state_dict()
    return all(torch.equal(value, state[name]) for name, value in one.state_dict().items())


def test_trained_once_and_outside_nothing_changes(make: Any, network: Any) -> None:
    before, method, maker = loading.state_hash(network), Second(), make()
    trained, drawn = Second.trained, torch.random.get_rng_state()
    first = maker(method)
    assert Second.trained == trained + 1
    assert method.lr == 0.1  # another instance trained
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert loading.state_hash(network) == before
    assert network.cost.forward == 0
    torch.rand(7)
    second = make()(method)
    assert Second.trained == trained + 1
    assert same(first, second)
    assert not second.training
    options = {"steps": 2, "lr": 0.1}
    assert maker.about["key"] == parts_key(method, "ab" * 16, options, maker.plan, method.version)
    assert maker.spent > 0


def test_training_repeats(make: Any, tmp_path: Path) -> None:
    first = make()(Second())
    torch.manual_seed(123)
    assert same(first, make(cache=tmp_path / "other")(Second()))


def test_what_the_key_depends_on(dense_plan: DensePlan) -> None:
    usual = {"steps": 2, "lr": 0.1}
    other = dataclasses.replace(
        dense_plan, task=dataclasses.replace(dense_plan.task, classes=("x", "y", "z"))
    )

    def key(
        source_id: str = "a",
        plan: DensePlan = dense_plan,
        version: str = "1",
        **options: Any,
    ) -> str:
        return parts_key(Second(), source_id, usual | options, plan, version)

    assert key() == key(lr=0.2)  # no source option
    different = {key(), key(steps=3), key(source_id="b"), key(version="2"), key(plan=other)}
    assert len(different) == 5
    with pytest.raises(TrainingError, match=r"source_options names steps"):
        parts_key(Second(), "a", {"lr": 0.1}, dense_plan, "1")


def test_the_key_has_the_digest_of_a_plugin_and_of_no_other_method(
    dense_plan: DensePlan, network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec,) = resolve({"method": "transadapt", "device": "cpu", "threads": 1})
    method = Second()
    method.version = registry.method("transadapt").version

    def key() -> str:
        maker = open_makers(spec, dense_plan, network, "ab" * 16, tmp_path).parts
        assert maker is not None
        return parts_key(method, "a", {"steps": 2}, dense_plan, maker.version)

    # as caches have it
    assert key() == parts_key(method, "a", {"steps": 2}, dense_plan, method.version)
    found = set()
    for sha in ("1" * 64, "2" * 64):
        plugin = registry.Plugin("method", "transadapt", "mine.py:Second", "", sha)
        monkeypatch.setitem(plugins.LOADED, ("method", "transadapt"), plugin)
        found.add(key())
    assert len(found) == 2


@pytest.mark.parametrize(
    ("harm", "message"), [("statistics", "changed the source model"), ("nan", "not finite")]
)
def test_a_broken_contract_is_named(make: Any, tmp_path: Path, harm: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        make()(Second(harm=harm))
    assert not list(tmp_path.rglob("parts.pt"))


@pytest.mark.parametrize("damage", ["empty", "noise", "weights", "nan", "shapes"])
def test_a_damaged_file_is_named_and_made_again(
    make: Any, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = make()(Second())
    (path,) = tmp_path.glob("sources/*/parts.pt")
    saved = torch.load(path, weights_only=True)
    state = saved["state_dict"]
    if damage == "weights":
        torch.save(saved | {"state_dict": state | {"bias": state["bias"] + 1}}, path)
    elif damage in ("nan", "shapes"):
        del saved["checksum"]  # as in files of older versions
        bias = {"nan": state["bias"] * float("nan"), "shapes": state["bias"][:-1]}[damage]
        torch.save(saved | {"state_dict": {"weight": state["weight"] * 2, "bias": bias}}, path)
    else:
        path.write_bytes({"empty": b"", "noise": b"noise" * 50}[damage])
    again = make()(Second())
    assert f"cached source parts of Second {path} cannot be used" in caplog.text
    assert same(first, again)
    assert path.with_name("parts.pt.damaged").is_file()


def test_classification_batches(tiny: DomainData) -> None:
    plan = registry.protocol("online-tta")().plan(dataclasses.replace(tiny, source_val=None), 32, 0)
    assert isinstance(plan, StreamPlan)
    images, labels = next(source_batches(plan, 0, "cpu"))
    assert images.shape == (64, 3, 32, 32)
    assert labels.shape == (64,)
    assert labels.dtype == torch.int64


# -- through the engine ----------------------------------------------------------------------------


class Frames:
    """A data set of frames."""

    domains = ("a", "b")
    defaults: ClassVar[dict[str, Any]] = {
        **{"source": "a", "target": "b", "image_size": 32, "backbone": "small-seg"},
        **{"weights": "none", "epochs": 1, "source_epochs": 1},
    }
    data: ClassVar[DenseData]

    def load(self, request: object) -> DenseData:
        """Return the frames."""
        return self.data


class OneByOne:
    """Push frames one by one."""

    version = "1"
    kind: ClassVar[Kind] = "segmentation"
    black_box, online = False, True
    plan_: ClassVar[DensePlan]

    def is_valid(self, data: DenseData) -> None:
        """Everything is."""

    def plan(self, data: DenseData, batch_size: int, seed: int) -> DensePlan:
        """Return the plan."""
        assert batch_size == 1
        return self.plan_

    def run(self, build: Any, plan: DensePlan, network: Any, run: Run) -> Outcome:
        """Score pixels."""
        method = build()
        assert run.source_parts is not None
        extras = {"source-parts": run.source_parts(method)}
        method.begin(Online(plan.task, network, 1, run.seed, run.recorder, extras))
        right = total = 0
        for row in plan.stream.segments[0][1]:
            images = to_float(plan.frames.images[row : row + 1])
            with torch.no_grad():
                found = method.step(TargetBatch(images, torch.tensor([row]))).argmax(1)
            truth = torch.from_numpy(plan.frames.masks[row : row + 1])
            right += int((found == truth).sum())
            total += int((truth != 255).sum())
        counts = np.array([[[right, total - right, 0]] * 3])
        arrays = {f"segment.{timing}": counts for timing in ("before", "after")}
        return Outcome([Score("pixel_accuracy", right / total, total)], arrays=arrays)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, dense_data: DenseData, dense_plan: DensePlan) -> None:
    module = types.ModuleType("fake_dense")
    for cls in (Second, Frames, OneByOne):
        setattr(module, cls.__name__, cls)
    monkeypatch.setattr(Frames, "data", dense_data, raising=False)
    monkeypatch.setattr(OneByOne, "plan_", dense_plan, raising=False)
    monkeypatch.setitem(sys.modules, "fake_dense", module)
    protocols = ("one-by-one", "online-tta")
    method = registry.MethodEntry("fake_dense:Second", "", protocols)
    alike = registry.MethodEntry("dabench.methods.online.sar:SAR", "", protocols)
    protocol = registry.ProtocolEntry("fake_dense:OneByOne", "", "frames", "pixel_accuracy")
    data = registry.DataEntry("fake_dense:Frames", "", kind="segmentation")
    monkeypatch.setitem(registry.METHODS, "second", method)
    monkeypatch.setitem(registry.METHODS, "flat", alike)
    monkeypatch.setitem(registry.PROTOCOLS, "one-by-one", protocol)
    monkeypatch.setitem(registry.DATASETS, "frames", data)


@pytest.mark.usefixtures("fakes")
def test_a_run_from_end_to_end(tmp_path: Path) -> None:
    where = Settings(tmp_path / "results", None, tmp_path / "cache", progress=False)
    options = {"method": "second", "device": "cpu", "threads": 1}
    (spec,) = resolve(options)
    assert (spec.protocol, spec.batch_size, spec.backbone) == ("one-by-one", 1, "small-seg")
    first = execute(spec, where)
    record = first.record
    assert set(record["ids"]) == {"data", "stream", "source"}
    assert record["extras"] == ["source-parts"]
    assert 0 <= record["source_model"]["val_accuracy"] <= 1
    assert len(record["source_model"]["parts"]["key"]) == 32
    marked = dataclasses.replace(where, target_tuned=True)
    with pytest.raises(ConfigError, match="without the mark 'target-tuned'; give --force"):
        execute(spec, marked)
    assert execute(spec, dataclasses.replace(marked, force=True)).record["target_tuned"] is True
    assert "target_tuned" not in record
    trained = Second.trained
    (other,) = resolve(options | {"method.lr": 0.2})
    again = execute(other, where)
    assert Second.trained == trained  # the same parts
    assert again.run_id != first.run_id
    assert again.record["scores"] == record["scores"]


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"protocol": "one-by-one", "dataset": "digits"},
         "one-by-one needs a segmentation data set such as streets or camvid; digits is class"),
        ({"protocol": "online-tta", "dataset": "frames"},
         r"online-tta needs a classification data set such as digits or overhead; frames is seg"),
        ({"method": "flat", "protocol": "one-by-one"}, "'flat' serves classification alone"),
        ({"protocol": "online-tta", "dataset": "digits", "batch-size": 0}, "expected 1 or more"),
        ({"batch-size": 0}, "expected 1 or more"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve({"method": "second", "device": "cpu"} | words)


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("backbone", ["small-cnn", "smal-seg"])
def test_a_backbone_of_the_other_task(tmp_path: Path, backbone: str) -> None:
    where = Settings(tmp_path / "results", None, tmp_path / "cache", progress=False)
    (spec,) = resolve({"method": "second", "device": "cpu", "threads": 1, "backbone": backbone})
    with pytest.raises(ConfigError, match="small-seg"):
        execute(spec, where)


@pytest.mark.usefixtures("fakes")
def test_the_engine_checks_loaded_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the table says of a data set, what it loads decides."""
    where = Settings(tmp_path / "results", None, tmp_path / "cache", progress=False)
    (spec,) = resolve({"method": "second", "device": "cpu", "threads": 1})
    wrong = dataclasses.replace(
        spec, protocol="online-tta", backbone="small-cnn", protocol_options={}
    )
    with pytest.raises(ConfigError, match="frames is segmentation"):
        execute(wrong, where)
