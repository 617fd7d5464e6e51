"""What every registered method owes on a stream, and what the streams owe to everybody."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from dabench import registry
from dabench.contract.access import Budget, Online, Recorder, SourceFree, TargetBatch
from dabench.contract.data import DomainData
from dabench.contract.method import OnlineMethod
from dabench.contract.protocol import Outcome, Resume, Run
from dabench.contract.stream import Segment, Stream
from dabench.contract.types import Prediction
from dabench.engine import stream
from dabench.engine.recording import BoardRecorder
from dabench.errors import AccessError, CacheError, ConfigError, TrainingError
from dabench.methods.source import Source
from dabench.protocols.continual_tta import ContinualTTA
from dabench.protocols.offline.upper_bound import TargetSupervised
from dabench.protocols.online_tta import OnlineTTA
from dabench.protocols.streams.layout import batches_of
from dabench.testing import PROMISES, Bench, Workbench
from dabench.testing.case import answers_of as answers
from dabench.testing.promises import a_killed_run_goes_on

#: linear-probe is the class of source: another network is handed to it, before any of this
METHODS = {name: entry for name, entry in registry.METHODS.items() if not entry.frozen_trunk}
PAIRS = [(m, p) for m, entry in METHODS.items() for p in entry.protocols if p in registry.ONLINE]
BLIND = [(m, p) for m, p in PAIRS if registry.method(m) is not TargetSupervised]
#: one protocol is enough for most methods: they cannot tell which one pushes the batches
GRADUAL = [(m, p) for m, p in BLIND if p == "gradual-weather"]
FEW = [*GRADUAL, ("tent", "online-tta"), ("conda", "continual-tta")]
BATCH = 20
SLOW = [pytest.mark.slow]
#: of each kind of state that a method may have, one: none, weights, a teacher, buffers, layers
WHOLE = ("source", "tent", "cotta", "conda", "aerial", "note", "roid")
#: what every method is tried on in tests/unit/test_online_methods.py as well; and that labels do
#: not matter is seen by the bytes of two runs with one seed
ELSEWHERE = ("LayerNorm", "a batch of one", "same seed")


@pytest.fixture(scope="module")
def data(workbench: Workbench) -> DomainData:
    """One domain for everything."""
    return workbench.one_domain


@pytest.fixture(scope="module")
def streams(workbench: Workbench) -> Callable[[str], Bench]:
    """Return the bench of a protocol by name."""
    return workbench.bench


@pytest.fixture(scope="module")
def outcome_of(cases: Any) -> Callable[[str, str], Outcome]:
    """Return the outcome of a pair, run once."""
    return lambda name, protocol: cases(name, protocol).first[1]


def build(name: str) -> Callable[[], Any]:
    """Return a maker of a method."""
    return registry.method(name)


def quick(promise: str, name: str) -> bool:
    """Return whether a promise is tried on a brief stream in the fast suite."""
    killed = promise.startswith("a killed run") and name not in WHOLE
    return not killed and not promise.startswith(ELSEWHERE)


# the promises of a method one after the other: they share a run
@pytest.mark.parametrize(
    ("name", "protocol", "brief", "promise"),
    [
        pytest.param(
            *(m, p, brief, t),
            id=f"{m}-{p}-{t}" + "-whole" * (not brief),
            marks=SLOW * (not brief or not quick(t, m)),
        )
        for m, p in FEW
        for brief in ([True, False] if m in WHOLE else [True])
        for t in PROMISES
    ],
)
def test_promises(cases: Any, name: str, protocol: str, brief: bool, promise: str) -> None:
    PROMISES[promise][0](cases(name, protocol, brief=brief))


#: how a stream is scored does not hang on the method: fast, who is tried there anyway
SCORED = [
    pytest.param(m, p, marks=SLOW * ((m, p) in BLIND and (m, p) not in FEW)) for m, p in PAIRS
]


@pytest.mark.parametrize(("name", "protocol"), SCORED)
def test_a_stream_is_scored(cases: Any, name: str, protocol: str) -> None:
    case = cases(name, protocol, brief=True)
    outcome, here = case.first[1], case.bench
    keys = {score.key for score in outcome.scores}
    assert here.protocol.primary in keys
    for under, rows in here.plan.stream.segments:
        found = next(s for s in outcome.scores if s.key == f"accuracy/{under.name}")
        assert found.n == len(rows)
    assert all(0 <= s.value <= 1 for s in outcome.scores if s.value is not None)
    assert np.isfinite(outcome.arrays["stream.confidence"]).all()
    passed, arrived = outcome.cost["images_forward"], outcome.arrays["stream.row"].size
    assert passed == arrived if name == "source" else passed >= arrived  # held-out ones are free
    truth = here.plan.truth[outcome.arrays["stream.row"]]
    assert (truth == outcome.arrays["stream.truth"]).all()
    right = (truth == outcome.arrays["stream.prediction"]).mean()
    assert right == pytest.approx(next(s.value for s in outcome.scores if s.key == "accuracy"))


@pytest.mark.parametrize("name", ["tent", "target-supervised"])
def test_a_stream_of_single_images(streams: Any, data: DomainData, name: str) -> None:
    here = streams("online-tta")
    plan = here.protocol.plan(data, 1, 0)
    kept = tuple((segment, rows[:6]) for segment, rows in plan.stream.segments)
    short = dataclasses.replace(plan.stream, segments=kept)
    outcome = here.run(build(name), dataclasses.replace(plan, stream=short))
    assert outcome.arrays["stream.step"].tolist() == list(range(6 * len(kept)))
    assert np.isfinite(outcome.arrays["stream.confidence"]).all()


def test_batches_of_a_segment_differ_by_one_image_and_span_no_other() -> None:
    under = [Segment("a", "fog", 1), Segment("b", "rain", 1)]
    parts = zip(under, (np.arange(45), np.arange(45, 66)), strict=True)
    batches, steps = batches_of(Stream(tuple(parts), 20, 0))
    assert [len(rows) for _, rows in batches] == [15, 15, 15, 11, 10]
    assert [segment.name for segment, _ in batches] == [*"aaabb"]
    assert np.concatenate([rows for _, rows in batches]).tolist() == list(range(66))
    assert [(s.name, s.first, s.last) for s in steps] == [("a", 0, 3), ("b", 3, 5)]


def test_an_index_counts_the_images_of_the_whole_stream(streams: Any) -> None:
    seen: list[Tensor] = []

    class Watching(Source):
        def step(self, batch: TargetBatch) -> Tensor:
            seen.append(batch.index)
            return super().step(batch)

    outcome = streams("online-tta").run(Watching)
    assert torch.equal(torch.cat(seen), torch.arange(outcome.arrays["stream.row"].size))


def test_the_upper_bound_sees_labels(outcome_of: Any, streams: Any) -> None:
    here = streams("gradual-weather")
    assert outcome_of("target-supervised", "gradual-weather").extras == ("target-labels",)
    assert outcome_of("tent", "gradual-weather").extras == ()
    truth = np.random.default_rng(0).permutation(here.plan.truth)
    blinded = here.run(build("target-supervised"), dataclasses.replace(here.plan, truth=truth))
    assert answers(blinded) != answers(outcome_of("target-supervised", "gradual-weather"))


def test_scores_hold_a_probe_against_the_source_model(outcome_of: Any, streams: Any) -> None:
    """A method that is handed another network answers by it, and is compared as all others."""
    here = streams("online-tta")
    other = copy.deepcopy(here.network)
    with torch.no_grad():  # answers what the source model thinks least likely
        other.classifier.bias.neg_()
        other.classifier.parametrizations.weight.original0.neg_()
    run = Run("source", Budget(1, BATCH), 0, "cpu", Recorder(), False, reference=here.network)
    outcome = here.protocol.run(build("source"), here.plan, other, run)
    usual = outcome_of("source", "online-tta")

    def of_source(found: Outcome) -> list[float | None]:
        curves = [c for c in found.curves if c.metric == "running_accuracy"]
        return [c.value for c in curves if "source" in c.segment]

    assert of_source(outcome) == of_source(usual) != []
    assert answers(outcome) != answers(usual)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "protocol"), BLIND)
def test_nothing_that_is_not_granted_matters(cases: Any, name: str, protocol: str) -> None:
    """Other labels, source images, held-out pictures and later batches: the answers stand."""
    plan, rng = cases(name, protocol).bench.plan, np.random.default_rng(0)
    images = np.array(plan.images[np.arange(len(plan.truth))])
    images[plan.held_out] = rng.integers(0, 256, images[plan.held_out].shape)
    *past, (under, rows) = plan.stream.segments
    later = (*past, (under, rows[::-1].copy()))
    hidden = dataclasses.replace(
        plan,
        truth=rng.permutation(plan.truth),
        images=images,
        stream=dataclasses.replace(plan.stream, segments=later),
    )
    case = cases(name, protocol)
    if not {"fisher-images", "source-statistics"} & case.build().extras:
        shown = rng.integers(0, 256, (len(plan.source.labels), 32, 32, 3), dtype=np.uint8)
        source = dataclasses.replace(
            plan.source, images=shown, labels=rng.permutation(plan.source.labels)
        )
        hidden = dataclasses.replace(hidden, source=source)
    one, two = case.first[1], case.bench.run(case.build, hidden)
    n = sum(len(part) for _, part in past)
    assert n > 0
    assert (one.arrays["stream.row"][n:] != two.arrays["stream.row"][n:]).any()
    for key in ("stream.prediction", "stream.confidence"):
        assert one.arrays[key][:n].tobytes() == two.arrays[key][:n].tobytes()


class Killed(Exception):
    """Stands for kill -9."""


def mortal(name: str, steps: int) -> Callable[[], Any]:
    """Return a maker of a method that is killed after some steps of the whole stream."""
    calls = [0]

    def made() -> Any:
        method = build(name)()
        inner = method.step

        def step(batch: TargetBatch) -> Tensor:
            calls[0] += 1
            if calls[0] > steps:
                raise Killed
            logits: Tensor = inner(batch)
            return logits

        method.step = step  # a class of its own would not be shown labels
        return method

    return made


def test_the_upper_bound_goes_on_bit_for_bit(cases: Any) -> None:
    a_killed_run_goes_on(cases("target-supervised", "gradual-weather"))


def board(folder: Path) -> Any:
    """Return a reader of everything in a folder."""
    return EventAccumulator(str(folder), {"scalars": 0, "images": 0}).Reload()


@pytest.mark.parametrize("protocol", ["online-tta", "gradual-weather"])
def test_what_is_shown_while_a_stream_runs(streams: Any, tmp_path: Path, protocol: str) -> None:
    here = streams(protocol)
    segments = [(under.name, len(rows) // BATCH) for under, rows in here.plan.stream.segments]
    begins = np.cumsum([0, *(steps for _, steps in segments)])
    with BoardRecorder(tmp_path) as recorder:
        outcome = here.run(build("tent"), recorder=recorder)
    found = board(tmp_path)
    for (name, _), begin in zip(segments, begins, strict=False):
        assert [event.step for event in found.Images(f"stream/{name}")] == [begin]
    # written while the stream ran, by the same rule as the curve of the end
    curve = {s.at: s.value for s in outcome.curves if s.key == "running_accuracy"}
    live = {e.step: e.value for e in found.Scalars("live/running_accuracy")}
    assert list(live) == list(range(0, begins[-1], 10))
    assert live == pytest.approx({at: curve[at] for at in live})
    # each segment's fresh method counts from 0, but stands where the stream does
    first = begins[:-1] if protocol == "online-tta" else range(0, begins[-1], 10)
    assert [event.step for event in found.Scalars("loss/total")] == list(first)


def test_a_run_that_goes_on_is_shown_once(streams: Any, tmp_path: Path) -> None:
    here, path, runs = streams("gradual-weather"), tmp_path / "checkpoint.pt", tmp_path / "runs"
    # killed at 11, after the points at 10; goes on from 9
    with pytest.raises(Killed), BoardRecorder(runs) as recorder:
        here.run(mortal("tent", 11), resume=Resume(path, "a", 9, False), recorder=recorder)
    with BoardRecorder(runs) as recorder:
        here.run(build("tent"), resume=Resume(path, "a", 9, True), recorder=recorder)
    for name in ("live/running_accuracy", "loss/total"):
        assert [event.step for event in board(runs).Scalars(name)] == [0, 10, 20]


def test_a_checkpoint_of_another_run_is_refused(streams: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    here = streams("online-tta")
    here.run(build("source"), resume=Resume(path, "a", 1, False))
    with pytest.raises(CacheError, match="belongs to run a, not to b"):
        here.run(build("source"), resume=Resume(path, "b", 1, True))
    path.write_bytes(b"no checkpoint")
    with pytest.raises(CacheError, match="cannot be used"):
        here.run(build("source"), resume=Resume(path, "a", 1, True))


def test_an_answer_after_the_update_is_charged_in_images_and_in_seconds(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    class Slow(Source):
        """Takes a second for a step, ten for a further answer, and a hundred to begin."""

        def begin(self, access: Online) -> None:
            super().begin(access)
            now[0] += 100

        def step(self, batch: TargetBatch) -> Tensor:
            now[0] += 1
            return super().step(batch)

        def predict(self, images: Tensor) -> Prediction:
            now[0] += 10
            return super().predict(images)

    monkeypatch.setattr(stream, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    for also_after, passes in ((False, 1), (True, 2)):
        here = make_bench(OnlineTTA(shifts="fog:5", images=40, also_after=also_after))
        cost = here.run(Slow).cost
        assert cost["images_forward"] == 40 * passes
        assert cost["adapt_seconds"] == 100 + 40 / BATCH * (11 if also_after else 1)


class Constant(OnlineMethod):
    """Answers the same for every image."""

    def step(self, batch: TargetBatch) -> Tensor:
        return self.predict(batch.images).logits

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(torch.zeros(len(images), 10))


class Wrong(Constant):
    """Answers with what is no number."""

    def step(self, batch: TargetBatch) -> Tensor:
        return torch.full((len(batch.images), 10), torch.nan)


#: what ``predict`` may not answer, and how it is refused
MISFITS: list[tuple[Callable[[int], Any], str]] = [
    (lambda n: Prediction(torch.full((n, 10), torch.nan)), "logits are not finite"),
    (lambda n: Prediction(torch.zeros(n, 17)), "predict returned .*K = 10"),
    (lambda n: Prediction(torch.zeros(n, 10, dtype=torch.int64)), "predict .*int64.*real logits"),
    (lambda n: torch.zeros(n, 10), "predict .* expected a Prediction"),
]


@pytest.mark.parametrize(("answer", "told"), MISFITS)
def test_every_answer_of_a_stream_is_checked(
    answer: Callable[[int], Any], told: str, make_bench: Callable[..., Bench]
) -> None:
    class Odd(Constant):
        """Steps as it should, and answers otherwise wrongly."""

        def step(self, batch: TargetBatch) -> Tensor:
            return torch.zeros(len(batch.images), 10)

        def predict(self, images: Tensor) -> Prediction:
            found: Prediction = answer(len(images))
            return found

    asked = OnlineTTA(shifts="fog:5", images=40, also_after=True), ContinualTTA(shifts="fog:5")
    for protocol in asked:
        with pytest.raises(TrainingError, match=f"Odd: {told}"):
            make_bench(protocol).run(Odd)


class Count(torch.nn.Module):
    """Skips every update."""

    skipped = 0

    def get_extra_state(self) -> int:
        return self.skipped

    def set_extra_state(self, state: int) -> None:
        self.skipped = state


class Idle(OnlineMethod):
    """Counts updates that it leaves out."""

    def begin(self, access: Any) -> None:
        super().begin(access)
        self.inner = torch.nn.Sequential(Count())

    def step(self, batch: TargetBatch) -> Tensor:
        self.inner[0].skipped += 1
        return torch.zeros(len(batch.images), 10)

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(torch.zeros(len(images), 10))


class Mortal(Idle):
    """Dies in the last segment, where a sibling has counted before."""

    def step(self, batch: TargetBatch) -> Tensor:
        if int(batch.index[0]) >= 6 * BATCH:
            raise Killed
        return super().step(batch)


@pytest.mark.parametrize("protocol", ["online-tta", "gradual-weather"])
def test_skipped_updates_of_all_segments_are_counted(
    streams: Any, tmp_path: Path, protocol: str
) -> None:
    here, path = streams(protocol), tmp_path / "checkpoint.pt"
    steps = sum(len(rows) // BATCH for _, rows in here.plan.stream.segments)
    assert here.run(Idle).cost["updates_skipped"] == steps
    with pytest.raises(Killed):
        here.run(Mortal, resume=Resume(path, "a", 1, False))
    assert here.run(Idle, resume=Resume(path, "a", 1, True)).cost["updates_skipped"] == steps


class Late(Constant):
    """Answers after its update."""

    answers: ClassVar[Any] = "after"
    extras: ClassVar[frozenset[str]] = frozenset({"buffer"})


def test_the_timing_is_an_extra(streams: Any, outcome_of: Any) -> None:
    assert streams("online-tta").run(Late).extras == ("answers-after", "buffer")
    assert outcome_of("conda", "online-tta").extras == ("buffer",)


class Greedy(Constant):
    """Wants more than it is granted."""

    extras: ClassVar[frozenset[str]] = frozenset({"source-labels"})


class Offline(Constant):
    """Wants a target set."""

    grant: ClassVar[Any] = SourceFree


def test_what_is_wrong_is_said(streams: Any) -> None:
    here = streams("gradual-weather")
    with pytest.raises(TrainingError, match="Wrong: logits are not finite at step 0"):
        here.run(Wrong)
    with pytest.raises(AccessError, match="source-labels"):
        here.run(Greedy)
    with pytest.raises(AccessError, match="SourceFree"):
        here.run(Offline)
    run = Run("bn-target", Budget(1, BATCH), 0, "cpu", Recorder(), False)
    with pytest.raises(ConfigError, match="bn-adapt"):
        here.protocol.run(build("source"), here.plan, here.network, run)
