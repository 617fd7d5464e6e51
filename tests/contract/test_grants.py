"""What attribute chains lead to, from a grant and from all else that a method is handed."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import io
import sys
import types
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from dabench import registry
from dabench.config.settings import Settings
from dabench.contract import access as accessing
from dabench.contract.access import BlackBox, Budget, Recorder, SourceFree
from dabench.contract.answers import left_alone
from dabench.contract.cost import Cost
from dabench.contract.data import DataRequest, DomainData, Labelled
from dabench.contract.floats import to_float
from dabench.contract.method import OfflineMethod, OnlineMethod
from dabench.contract.protocol import Resume, Run
from dabench.contract.types import Prediction, Task
from dabench.datasets.caching.image_cache import CachedImages
from dabench.engine.fit import predict_all, predict_also
from dabench.engine.recording import BoardRecorder
from dabench.errors import AccessError, TrainingError
from dabench.networks.network import build_classifier
from dabench.oracle import open as opening
from dabench.oracle.answer_forms import OracleInfo
from dabench.oracle.http import Http
from dabench.oracle.sealed import Sealed
from dabench.protocols.offline.upper_bound import TargetSupervised
from dabench.registry.marks import TARGET_LABELS
from dabench.source_models.loading import SourceModel
from dabench.source_models.statistics import StatisticsMaker
from dabench.testing.benches import STREAM_OPTIONS, Workbench

LEAVES = (str, bytes, int, float, bool, types.ModuleType, torch.Generator)
#: where what a method is handed may come from; everything else of dabench is the protocol's own
ALLOWED = (
    "dabench.api",
    "dabench.contract.access",
    "dabench.contract.confined",
    "dabench.contract.cost",
    "dabench.contract.method",
    "dabench.contract.network",
    "dabench.contract.options",
    "dabench.contract.statistics",
    "dabench.contract.types",
    "dabench.engine.fit",  # callbacks and loader of the trainer
    "dabench.networks",
    "dabench.protocols.common.granted",
)


def children(value: Any) -> Iterator[Any]:
    """Yield what one step from a value reaches: no frames, no garbage collector, no globals."""
    if isinstance(value, Mapping):
        yield from (*value.keys(), *value.values())
    elif isinstance(value, list | tuple | set | frozenset | collections.deque):
        yield from value
    if isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, types.BuiltinMethodType):
        yield value.__self__
    if isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    if isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            yield cell.cell_contents
        yield from (value.__defaults__, value.__kwdefaults__)
    if isinstance(value, weakref.ref):
        yield value()
    if isinstance(value, property):
        yield from (value.fget, value.fset)
    if isinstance(value, torch.Tensor):
        yield from (value._base, value.grad)
    if isinstance(value, np.ndarray):
        yield value.base
    if not isinstance(value, type) or value.__module__.startswith("dabench."):
        yield from dict(getattr(value, "__dict__", None) or {}).values()
    yield type(value)
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            yield getattr(value, slot, None)


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


def complaint(value: Any, side: int, counts: Collection[int] = ()) -> str | None:
    """Return what a method must not reach, or None.

    Args:
        value: what it reaches.
        side: the pictures' height.
        counts: how many images there are of a part: as many values are labels of some form.
    """
    if isinstance(value, PurePath | io.IOBase | np.memmap) and value is not sys.stderr:
        return f"path: {value!r}"
    if isinstance(value, str) and value.startswith("/"):
        return f"path: {value}"
    if isinstance(value, np.ndarray | torch.Tensor):
        shape = tuple(value.shape)
        *_, one, two, three = (0, 0, 0, *shape)
        if (one, two) == (3, side) or (one == side and two > 3 == three):
            return f"pictures: {shape}"
        if "int" in str(value.dtype) and np.prod(shape) > 1:
            return f"whole numbers: {shape}"
        if shape and shape[0] in counts:
            return f"a value an image: {shape}"
    if isinstance(value, list | tuple) and len(value) in counts:
        return f"a value an image: {len(value)}"
    module = type(value).__module__
    if module.startswith("dabench.") and not module.startswith(ALLOWED):
        return f"the protocol's own: {type(value).__name__}"
    return None


def complaints(start: Any, side: int, given: Any, counts: Collection[int] = ()) -> list[str]:
    """Return everything that a method must not reach, but for the batch that it is given."""
    own = (given.images, given.index)
    found = [v for v in reached(start).values() if not any(v is part for part in own)]
    return [text for value in found if (text := complaint(value, side, counts))]


class Seen(Exception):
    """The method has looked around."""


class Spy(OfflineMethod):
    """Looks at all that it is handed."""

    grant: ClassVar[Any] = (SourceFree, BlackBox)

    def begin(self, access: Any) -> None:
        super().begin(access)
        self.net = access.new_network(0) if hasattr(access, "oracle") else access.source_model

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        assert self.trainer.callbacks
        raise Seen(self, batch)

    def predict(self, images: torch.Tensor) -> Prediction:
        return Prediction(self.net(images))


class OnlineSpy(OnlineMethod):
    """The same on a stream."""

    kinds: ClassVar[Any] = frozenset({"classification", "segmentation"})

    def begin(self, access: Any) -> None:
        super().begin(access)
        self.net = access.source_model

    def step(self, batch: Any) -> torch.Tensor:
        raise Seen(self, batch)

    def predict(self, images: torch.Tensor) -> Prediction:
        return Prediction(self.net(images))


def surroundings(folder: Path, recorder: Recorder) -> Run:
    """Return a run with everything that names a path."""
    resume = Resume(folder / "checkpoint.pt", "a", 1, False)
    return Run(
        *("source", Budget(1, 32), 0, "cpu", recorder, True, resume),  # type: ignore[arg-type]
        report=folder / "report",
    )


def opened(name: str, plan: Any, protocol: Any, folder: Path, patch: pytest.MonkeyPatch) -> Any:
    """Open an oracle as a run does, but that nobody trains or serves a source model."""
    info = OracleInfo("a" * 16, plan.task.classes, plan.task.image_size, "soft", True, 0.5, 1.0)
    patch.setattr(Sealed, "_start", lambda self: setattr(self, "info", info))
    patch.setattr(Http, "restart", lambda self: setattr(self, "info", info))
    network = build_classifier("small-cnn", "none", plan.task.num_classes, plain=True)
    model = SourceModel(network, "a" * 16, 0.5, 1.0)
    patch.setattr(opening, "load_source", lambda *a: model)
    patch.setattr(protocol, "oracle", name)
    weights = folder / "weights.pt"
    torch.save(build_classifier("small-cnn", "none", 2).backbone.state_dict(), weights)
    spec = SimpleNamespace(
        **{"device": "cpu", "threads": 1, "backbone": "small-cnn", "weights": str(weights)},
        **{"freeze": 0, "seed": 0, "dataset": "digits", "source": "a", "target": "b"},
        **{"image_size": 32, "protocol": "bb-uda", "protocol_options": {}, "batch_size": 32},
        plugins=(),
        **{"source_model": None, "module": None, "precision": None},
    )
    settings = SimpleNamespace(
        **{"cache_dir": folder, "data_root": folder, "progress": False},
        **{"oracle_url": "http://127.0.0.1:1", "oracle_token": "secret"},
    )
    return opening.open_source(spec, settings, protocol, plan, None, 0)  # type: ignore[arg-type]


@pytest.fixture
def mapped(tiny: DomainData, tmp_path: Path) -> DomainData:
    """The tiny data with the target's pictures in a memory map, as public sets have them."""
    np.save(tmp_path / "images.npy", tiny.target_all.images[np.arange(len(tiny.target_all.labels))])
    images = CachedImages(tmp_path / "images.npy")
    return dataclasses.replace(
        tiny, target_all=Labelled(images, tiny.target_all.labels, tiny.target_all.digest)
    )


OFFLINE_WALKED = [
    *(("sf-uda", ""), ("sf-osda", ""), ("sf-pda", ""), ("sf-unida", ""), ("sf-msda", "")),
    *(("bb-uda", "sealed"), ("bb-uda", "http"), ("bb-uda", "in-process"), ("bb-osda", "sealed")),
]
STREAMS_WALKED: list[tuple[str, dict[str, Any]]] = [
    ("online-tta", {"shifts": "fog:5"}),
    ("continual-tta", {"shifts": "fog:5"}),
    ("gradual-weather", {"weather": "fog"}),
    ("online-seg", {}),
]


def test_every_protocol_is_walked() -> None:
    assert {name for name, _ in (*OFFLINE_WALKED, *STREAMS_WALKED)} == {*registry.PROTOCOLS}


@pytest.mark.parametrize(("name", "oracle"), OFFLINE_WALKED)
def test_an_offline_method_reaches_what_is_granted_and_no_more(
    name: str, oracle: str, mapped: DomainData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = registry.protocol(name)()
    if name == "sf-msda":
        mapped = dataclasses.replace(
            mapped, source="a,b", more=(dataclasses.replace(mapped, source="b"),)
        )
    plan = protocol.plan(mapped, 32, 0)
    source: Any = build_classifier("small-cnn", "none", plan.task.num_classes)
    if name == "sf-msda":
        source = dict.fromkeys("ab", source)
    found = None
    if oracle:
        found = opened(oracle, plan, protocol, tmp_path, monkeypatch)
        source = found.remote
    with BoardRecorder(tmp_path) as recorder, pytest.raises(Seen) as seen:
        protocol.run(Spy, plan, source, surroundings(tmp_path, recorder))
    method, batch = seen.value.args
    assert id(method.trainer) in reached(method)
    counts = {len(truth) for truth in plan.truth.values()}
    assert complaints((method, batch), plan.task.image_size, batch, counts) == []
    assert len(method.access.target) == len(plan.truth["adapt"])
    with pytest.raises(IndexError):
        method.access.target[len(plan.truth["adapt"])]
    if found is not None:
        found.close()


@pytest.mark.parametrize(("name", "options"), STREAMS_WALKED)
def test_a_method_on_a_stream_reaches_what_is_granted_and_no_more(
    name: str, options: dict[str, Any], mapped: DomainData, tmp_path: Path, dense: Any
) -> None:
    protocol = registry.protocol(name)(**options)
    same = {"source": "handwritten", "target": "handwritten", "source_train": mapped.target_all}
    data = dense.data() if name == "online-seg" else dataclasses.replace(mapped, **same)
    plan = protocol.plan(data, 16, 0)
    network = dense.Net() if name == "online-seg" else build_classifier("small-cnn", "none", 10)
    granted = frozenset({"source-statistics", "fisher-images"}) & protocol.grants
    spy = type("OnlineSpy", (OnlineSpy,), {"extras": granted})
    maker = StatisticsMaker(plan, network, "a" * 16, tmp_path, "cpu")
    with BoardRecorder(tmp_path) as recorder:
        around = dataclasses.replace(surroundings(tmp_path, recorder), source_statistics=maker)
        with pytest.raises(Seen) as seen:
            protocol.run(spy, plan, network, around)
    method, batch = seen.value.args
    assert method.access.extras.keys() == granted
    assert id(method.net) in reached(method)
    images = method.access.extras.pop("fisher-images") if "fisher-images" in granted else None
    counts = {len(plan.truth)} if hasattr(plan, "truth") else set()
    assert complaints((method, batch), plan.task.image_size, batch, counts) == []
    if images is not None and name != "online-seg":  # frames: tests/unit/test_online_seg.py
        assert torch.equal(images, to_float(plan.source.images[: len(images)]))


SECRETS: dict[str, Callable[[DomainData, Path], Any]] = {
    "labels": lambda data, folder: data.target_all.labels,
    "labels as a list": lambda data, folder: data.target_all.labels.tolist(),
    "labels as floats": lambda data, folder: torch.from_numpy(data.target_all.labels).float(),
    "labels one-hot": lambda data, folder: np.eye(10)[data.target_all.labels],
    "labels as a mask": lambda data, folder: data.target_all.labels > 4,
    "pictures": lambda data, folder: data.source_train.images[np.arange(1)],
    "path": lambda data, folder: str(folder),
    "path of a map": lambda data, folder: data.target_all.images,
    "settings": lambda data, folder: Settings(folder, None, folder),
    "request": lambda data, folder: DataRequest("a", "b", 32, None, folder),
    "held-out picture": lambda data, folder: torch.zeros(3, 32, 32),
}


class Holder:
    """Holds a secret."""

    __slots__ = ("kept",)

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def ask(self) -> None: ...


WAYS: dict[str, Callable[[Any], Any]] = {
    "closure": lambda secret: lambda: secret,
    "partial": lambda secret: functools.partial(print, secret),
    "bound method": lambda secret: Holder(secret).ask,
    "slot": Holder,
    "attribute": lambda secret: SimpleNamespace(kept=[{"a": (secret,)}]),
    "default": lambda secret: lambda x=secret: x,
    "builtin method": lambda secret: [secret].append,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", SECRETS)
def test_a_planted_leak_is_found(kind: str, way: str, mapped: DomainData, tmp_path: Path) -> None:
    given = SimpleNamespace(images=torch.zeros(1), index=torch.zeros(1))
    start = SimpleNamespace(new_network=WAYS[way](SECRETS[kind](mapped, tmp_path)))
    assert complaints(start, 32, given, {len(mapped.target_all.labels)})


def test_the_target_set_hands_out_granted_rows(mapped: DomainData) -> None:
    plan = registry.protocol("sf-uda")().plan(mapped, 32, 0)
    (_, rows), _ = plan.stream.segments
    target = plan.parts["adapt"]
    wanted = mapped.target_all.images[rows[[3, 0]]]
    found = (target.__getitems__([3, 0]).images * 255).round().permute(0, 2, 3, 1)
    np.testing.assert_array_equal(found.numpy(), wanted)


class Hostile(Spy):
    """Does to trainer and cost what ``deed`` says, then trains as usual."""

    deed: ClassVar[Callable[[Any], None]]

    def on_train_start(self) -> None:
        type(self).deed(self)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = self.net(batch.images).logsumexp(1).mean()
        return loss


DEEDS: dict[str, Any] = {
    "max_epochs": lambda m: setattr(m.trainer.fit_loop, "max_epochs", 20),
    "should_stop": lambda m: setattr(m.trainer, "should_stop", True),
    "paused": lambda m: setattr(m.access.cost, "paused", True),
    "forward": lambda m: setattr(m.access.cost, "forward", 0),
    "another cost": lambda m: setattr(m.net, "cost", m.net.cost),
    "negative": lambda m: m.net.cost.count(-5, backward=True),
}
REFUSALS = {
    "max_epochs": "Hostile goes on after the 2 epochs of its budget",
    "should_stop": r"Hostile stopped after \d+ of \d+ batches",
    "paused": r"cost\.paused: a method reads its cost",
    "forward": r"cost\.forward: a method reads its cost",
    "another cost": "the cost of a granted network cannot be replaced",
    "negative": "-5 images cannot have passed a network",
}


@pytest.mark.parametrize("deed", DEEDS)
def test_neither_budget_nor_cost_is_the_methods(deed: str, bench: Any) -> None:
    method = type("Hostile", (Hostile,), {"deed": staticmethod(DEEDS[deed])})
    with pytest.raises((TrainingError, AccessError), match=REFUSALS[deed]):
        bench("sf-uda").run(method)


def test_labels_are_handed_to_the_bound_alone_and_go_on_record(bench: Any) -> None:
    class Heir(Spy, TargetSupervised):
        """Inherits from the upper bound."""

        trains: ClassVar[bool] = False

        def reveal(self, truth: Any) -> None:
            raise AssertionError("labels were handed over")

    assert bench("sf-uda").run(Heir).extras == ()
    assert bench("sf-uda").run(TargetSupervised).extras == (TARGET_LABELS,)


def test_who_inherits_from_the_bound_is_told_that_there_are_no_labels() -> None:
    own = {"_logits": lambda self, images: torch.zeros(1, 2)}
    heir = type("Heir", (TargetSupervised,), own)()
    with pytest.raises(AccessError, match="Heir is handed no labels"):
        heir.step(accessing.TargetBatch(torch.zeros(1, 3, 2, 2), torch.zeros(1)))


@pytest.mark.parametrize("name", ["sf-uda", "bb-uda"])
def test_what_a_grant_says_is_not_what_the_engine_reads(name: str, tmp_path: Path) -> None:
    run, task = surroundings(tmp_path, Recorder()), Task("classification", ("a", "b"), 4)
    plan, source = SimpleNamespace(task=task, parts={"adapt": ()}), torch.nn.Identity()
    answering = SimpleNamespace(gives_probabilities=True, ask=print, ask_all=print)
    vars(source).update(new_network=print, oracle=lambda cost: answering)
    found = registry.protocol(name)().make_grant(plan, source, run, Recorder(), Cost())
    assert (found.task, found.budget) == (task, run.budget)
    vars(found.task)["classes"], vars(found.budget)["epochs"] = (), 5
    assert (run.budget.epochs, task.num_classes) == (1, 2)


def test_cost_is_what_passed(bench: Any) -> None:
    class Thief(Hostile):
        @staticmethod
        def deed(method: Any) -> None:
            for name in ("paused", "pause", "_Cost__paused"):
                method.access.cost._ask(name)
            method.net.cost.uncount_backward(10**6)  # no more than the last pass
            method.trainer.callbacks.clear()
            method.trainer.train_dataloader.__dict__["_steps"] = 10**6
            method.access.target.__dict__["_count"] = 2

    steps = 2 * len(bench("sf-uda").plan.truth["adapt"])
    spent = bench("sf-uda").run(Thief).cost
    assert spent["images_forward"] == spent["images_backward"] == steps


class Late(Spy):
    """Learns while it is asked for answers."""

    trains: ClassVar[bool] = False

    def predict(self, images: torch.Tensor) -> Prediction:
        with torch.enable_grad():
            self.net(images).logsumexp(1).mean().backward()
        return Prediction(self.net(images))


class Drifting(Spy):
    """Moves a weight, past the counter of changes, while it is asked for answers."""

    trains: ClassVar[bool] = False

    def predict(self, images: torch.Tensor) -> Prediction:
        next(self.parameters()).data.add_(1e-3)
        return Prediction(self.net(images))


def test_nothing_is_learned_while_answers_are_collected(bench: Any) -> None:
    for protocol in ("sf-uda", "bb-uda"):
        with pytest.raises(AccessError, match="backward pass while answers are collected"):
            bench(protocol).run(Late)
        with pytest.raises(TrainingError, match=r"Drifting: net.* changed while predict was asked"):
            bench(protocol).run(Drifting)


class Batchwise(Spy):
    """Answers by what the images of a batch share."""

    trains: ClassVar[bool] = False

    def predict(self, images: torch.Tensor) -> Prediction:
        logits = self.net(images)
        return Prediction(1000 * (logits - logits.mean(0)))


class Ranking(Spy):
    """Its unknown scores are shares of the batch."""

    trains: ClassVar[bool] = False

    def predict(self, images: torch.Tensor) -> Prediction:
        logits = self.net(images)
        score = -logits.softmax(1).amax(1)
        score = (score - score.min()) / (score.max() - score.min()).clamp_min(1e-6)
        return Prediction(logits, score, score > 0.5)


class Deciding(Spy):
    """Scores every image by itself, and calls the upper half of a batch unknown."""

    trains: ClassVar[bool] = False

    def predict(self, images: torch.Tensor) -> Prediction:
        logits = self.net(images)
        score = -logits.softmax(1).amax(1)
        return Prediction(logits, score, score > score.median())


class Endless(Deciding):
    """Scores an image of the batch without end, which is no spread of the others."""

    def predict(self, images: torch.Tensor) -> Prediction:
        found = super().predict(images)
        score = found.unknown_score / len(images)
        score[-1] = torch.inf
        return Prediction(found.logits, score, score > 0)


def test_every_image_is_answered_by_itself(bench: Any) -> None:
    said = "predict answers an image alone otherwise than beside others"
    with pytest.raises(TrainingError, match=f"Batchwise: {said}"):
        bench("sf-uda").run(Batchwise)
    for method in (Ranking, Deciding, Endless):
        with pytest.raises(TrainingError, match=f"{method.__name__}: {said}"):
            bench("sf-osda").run(method)


class Unsure(Spy):
    """Answers as ``answer`` says."""

    trains: ClassVar[bool] = False
    answer: ClassVar[Callable[[int], tuple[Any, Any]]]

    def predict(self, images: torch.Tensor) -> Prediction:
        self.asked = getattr(self, "asked", 0) + 1
        score, unknown = type(self).answer(self.asked)
        ones = torch.ones(len(images))
        return Prediction(self.net(images), ones * score if score else None, unknown and ones > 0)


@pytest.mark.parametrize(
    ("protocol", "answer", "said"),
    [
        ("sf-osda", lambda _: (None, True), "gave no unknown_score"),
        ("sf-uda", lambda _: (None, True), "this task has no unknown classes"),
        ("sf-osda", lambda n: (1.0, True if n < 12 else None), "for some batches alone"),
        ("sf-osda", lambda n: (1.0, None if n < 12 else True), "for some batches alone"),
    ],
)
def test_an_answer_has_the_form_of_its_task(
    protocol: str, answer: Any, said: str, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accessing, "survey_size", lambda side, most: 8)
    method = type("Unsure", (Unsure,), {"answer": staticmethod(answer)})
    with pytest.raises(TrainingError, match=said):
        bench(protocol).run(method)


class Secretive(Spy):
    """Learns from what it is asked in a network that it keeps where nobody looks."""

    trains: ClassVar[bool] = False

    def predict(self, images: torch.Tensor) -> Prediction:
        hidden = self.__dict__.setdefault("_hidden", [copy.deepcopy(self.net)])
        hidden[0].classifier.bias.data[0] += 0.1
        return Prediction(hidden[0](images))


def test_nothing_is_learned_where_nobody_looks(bench: Any) -> None:
    with pytest.raises(TrainingError, match=r"Secretive: .* after it was asked about"):
        bench("sf-uda").run(Secretive)


class Odd(torch.nn.Module):
    """Has a lazy layer and a sparse buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.lazy = torch.nn.LazyLinear(2)
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.register_buffer("plain", torch.tensor([1.0, torch.nan]))


def test_what_counts_as_a_change() -> None:
    with left_alone(Odd()):
        pass
    for name, value in (("sparse", torch.zeros(3, 3).to_sparse()), ("plain", torch.zeros(2))):
        odd = Odd()
        with pytest.raises(TrainingError, match=f"Odd: {name} changed"), left_alone(odd):
            setattr(odd, name, value)
    odd = Odd()
    with pytest.raises(TrainingError, match="Odd: plain changed"), left_alone(odd):
        del odd.plain


def test_a_streams_held_out_images_move_no_weight(bench: Any) -> None:
    class Probed(OnlineSpy):
        predict = Drifting.predict

        def step(self, batch: Any) -> torch.Tensor:
            logits: torch.Tensor = self.net(batch.images)
            return logits

    class After(Probed):
        """Answers after its update; a frame's answer before it is free."""

        answers: ClassVar[Any] = "after"

    for protocol, cls in (("continual-tta", Probed), ("online-seg", After)):
        with pytest.raises(TrainingError, match=r"net.* changed while predict was asked"):
            bench(protocol).run(cls)


def test_a_stream_forgets_what_its_held_out_images_taught(workbench: Workbench) -> None:
    class Hoarder(OnlineSpy):
        """Keeps in a plain list what it is asked about, for the steps that follow."""

        asked: ClassVar[int] = 0
        found: ClassVar[set[int]] = set()

        def begin(self, access: Any) -> None:
            super().begin(access)
            self.hoard: list[torch.Tensor] = []

        def step(self, batch: Any) -> torch.Tensor:
            self.found.add(len(self.hoard))
            logits: torch.Tensor = self.net(batch.images)
            return logits

        def predict(self, images: torch.Tensor) -> Prediction:
            type(self).asked += 1
            self.hoard.append(images)
            return Prediction(self.net(images))

    protocol = registry.protocol("continual-tta")(**STREAM_OPTIONS["continual-tta"])
    workbench.make(protocol).run(Hoarder)
    assert Hoarder.asked
    assert Hoarder.found == {0}


def test_what_no_step_moves_is_asked_about_held_out_images_once_a_condition(
    workbench: Workbench,
) -> None:
    class Still(OnlineSpy):
        """The source model's own answers."""

        trains: ClassVar[bool] = False
        asked: ClassVar[list[int]] = []

        def step(self, batch: Any) -> torch.Tensor:
            logits: torch.Tensor = self.net(batch.images)
            return logits

        def predict(self, images: torch.Tensor) -> Prediction:
            self.asked.append(len(images))
            return Prediction(self.net(images))

    protocol = registry.protocol("continual-tta")(**STREAM_OPTIONS["continual-tta"])
    once = workbench.make(protocol).run(Still)
    few = sum(Still.asked)
    Still.asked.clear()
    Still.trains = True
    always = workbench.make(protocol).run(Still)
    assert (once.scores, once.curves) == (always.scores, always.curves)
    assert few < sum(Still.asked)


@pytest.mark.parametrize("options", [{"stream_speed": 1.0}, {"also_after": True}])
def test_a_streams_answers_without_an_update_move_no_weight(
    workbench: Workbench, options: dict[str, Any]
) -> None:
    class Asked(OnlineSpy):
        predict = Drifting.predict

        def step(self, batch: Any) -> torch.Tensor:
            logits: torch.Tensor = self.net(batch.images)
            self.net(batch.images)  # slow enough to miss a batch
            return logits

    protocol = registry.protocol("online-tta")(**STREAM_OPTIONS.get("online-tta", {}), **options)
    found = workbench.make(protocol)
    with pytest.raises(TrainingError, match=r"net.* changed while predict was asked"):
        found.run(Asked)


WRONG: dict[str, Callable[[int], Any]] = {
    "too few classes": lambda n: Prediction(torch.zeros(n, 3)),
    "too few rows": lambda n: Prediction(torch.zeros(n - 1, 10)),
    "not finite": lambda n: Prediction(torch.full((n, 10), torch.nan)),
    "no prediction": lambda n: torch.zeros(n, 10),
    "decisions as numbers": lambda n: Prediction(
        torch.zeros(n, 10), torch.zeros(n), torch.full((n,), 0.2)
    ),
    "scores of another length": lambda n: Prediction(torch.zeros(n, 10), torch.zeros(n + 1)),
    "whole numbers": lambda n: Prediction(torch.zeros(n, 10, dtype=torch.int64)),
    "truth values": lambda n: Prediction(torch.zeros(n, 10, dtype=torch.bool)),
    "an array": lambda n: Prediction(np.zeros((n, 10), np.float32)),  # type: ignore[arg-type]
    "scores in a list": lambda n: Prediction(torch.zeros(n, 10), [0.0] * n),  # type: ignore[arg-type]
    "decisions in a list": lambda n: Prediction(
        torch.zeros(n, 10),
        torch.zeros(n),
        [True] * n,  # type: ignore[arg-type]
    ),
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

    class OddBeside(OfflineMethod):
        trains = False

        def predict(self, images: torch.Tensor) -> Prediction:
            return Prediction(torch.zeros(len(images), 10))

        def also(self, images: torch.Tensor) -> Mapping[str, Prediction]:
            return {"branch": WRONG[fault](len(images))}

    with pytest.raises(TrainingError, match=r"Odd: .*predict"):
        bench("sf-uda").run(Odd)
    with pytest.raises(TrainingError, match=r"OddBeside: .*also \('branch'\)"):
        bench("sf-uda").run(OddBeside)


class Buffered(OfflineMethod):
    """Answers in the same memory every time, as ``out=`` and CUDA graphs do."""

    def __init__(self) -> None:
        super().__init__()
        self.held = torch.zeros(8, 2), torch.zeros(8), torch.zeros(8, dtype=torch.bool)

    def predict(self, images: torch.Tensor) -> Prediction:
        level = images.mean((1, 2, 3))
        logits, score, unknown = (held[: len(images)] for held in self.held)
        logits[:, 0], logits[:, 1] = level, 0.5
        return Prediction(logits, score.copy_(level), unknown.copy_(level > 0.5))

    def also(self, images: torch.Tensor) -> Mapping[str, Prediction]:
        return {"branch": self.predict(images)}


def test_a_method_may_write_its_answers_over_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accessing, "survey_size", lambda side, most: 8)
    levels = np.random.default_rng(0).permutation(np.arange(16, dtype=np.uint8) * 17)
    images = np.broadcast_to(levels[:, None, None, None], (16, 4, 4, 3))
    part, method = accessing.Unlabelled(images, np.arange(16)), Buffered()
    method.access = SimpleNamespace(task=SimpleNamespace(num_classes=2, open_set=True))  # type: ignore[assignment]
    also = predict_also(method, part, "cpu", Cost())["branch"]
    for found in (predict_all(method, part, "cpu", Cost()), also):
        assert found.known.tolist() == (levels < 128).astype(int).tolist()
        assert found.decided(2).tolist() == np.where(levels > 127, 2, 1).tolist()
        np.testing.assert_allclose(found.unknown_score, levels / 255, rtol=1e-6)


@pytest.mark.parametrize("name", ["all", "held-out"])
def test_a_further_answer_takes_no_name_of_another_score(
    name: str, bench: Callable[[str], Any]
) -> None:
    class Odd(OfflineMethod):
        trains = False

        def predict(self, images: torch.Tensor) -> Prediction:
            return Prediction(torch.zeros(len(images), 10))

        def also(self, images: torch.Tensor) -> Mapping[str, Prediction]:
            return {name: self.predict(images)}

    with pytest.raises(TrainingError, match=f"Odd: also answered under the name '{name}'"):
        bench("sf-uda").run(Odd)


@pytest.mark.parametrize("given", [[1], None, {1: Prediction(torch.zeros(1, 10))}])
def test_further_answers_have_names(given: Any, bench: Callable[[str], Any]) -> None:
    class Odd(OfflineMethod):
        trains = False

        def predict(self, images: torch.Tensor) -> Prediction:
            return Prediction(torch.zeros(len(images), 10))

        def also(self, images: torch.Tensor) -> Any:
            return given

    with pytest.raises(TrainingError, match=r"Odd: also returned .* by name"):
        bench("sf-uda").run(Odd)
