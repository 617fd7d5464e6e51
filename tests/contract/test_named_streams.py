"""Named streams with a method on them: nothing leaks, a killed run goes on, paces hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dabench import registry
from dabench.contract.access import Budget, Recorder, TargetBatch
from dabench.contract.cost import Cost
from dabench.contract.protocol import Resume, Run
from dabench.contract.types import Prediction
from dabench.engine.stream import StreamLog
from dabench.errors import ConfigError
from dabench.metrics.classification import ExpectedCalibrationError
from dabench.protocols.continual_tta import ContinualTTA
from dabench.protocols.online_tta import OnlineTTA
from dabench.protocols.streams.pace import Pace
from dabench.protocols.streams.shifts import render
from dabench.testing import Bench, Workbench
from dabench.testing.case import Case, Killed, answers_of
from dabench.testing.promises import a_killed_run_goes_on

SHIFTS = "fog:5,low-light:3"


@pytest.fixture(scope="module")
def benches(workbench: Workbench) -> Any:
    """Return a maker of benches of ``continual-tta`` with a named stream, cut short."""

    def make(batch: int, most: int, **options: Any) -> Bench:
        protocol = ContinualTTA(shifts=SHIFTS, **options)
        plan = protocol.plan(workbench.one_domain, batch, 0)
        stream = plan.stream
        stream = dataclasses.replace(
            stream,
            segments=tuple((s, rows[:most]) for s, rows in stream.segments),
            shown=tuple(places[:most] for places in stream.shown),
        )
        usual = workbench.bench("continual-tta")
        plan = dataclasses.replace(plan, stream=stream)
        return dataclasses.replace(usual, protocol=protocol, plan=plan, batch_size=batch)

    return make


PACES = [
    (20, 60, {"stream": "mixed:images=30"}),
    (20, 40, {"stream": "recurring:visits=2,images=40", "stream_speed": 1.0}),
    (1, 9, {"stream": "single:window=4"}),
]


@pytest.mark.parametrize(
    ("batch", "most", "options"),
    [pytest.param(*PACES[0], marks=pytest.mark.slow), *PACES[1:]],
)
def test_a_killed_run_goes_on(benches: Any, batch: int, most: int, options: Any) -> None:
    a_killed_run_goes_on(Case(benches(batch, most, **options), registry.method("tent")))


def test_a_run_that_was_killed_while_the_method_was_busy_goes_on(
    benches: Any, tmp_path: Path
) -> None:
    """It does not adapt on a batch that it would have missed."""
    here = benches(*PACES[1][:2], **PACES[1][2])
    asked: list[str] = []

    def mortal() -> Any:
        method = registry.method("tent")()
        step, predict = method.step, method.predict

        def watched_step(batch: TargetBatch) -> torch.Tensor:
            asked.append("step")
            return step(batch)

        def watched_predict(images: torch.Tensor) -> Any:
            if asked.count("step") == 2:
                raise Killed
            return predict(images)

        method.step, method.predict = watched_step, watched_predict
        return method

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        here.run(mortal, resume=Resume(path, "a", 1, False))
    resumed = here.run(registry.method("tent"), resume=Resume(path, "a", 3, True))
    whole = here.run(registry.method("tent"))
    assert answers_of(resumed) == answers_of(whole)
    assert resumed.scores == whole.scores
    # a step is three forward passes long: of eight batches it adapts on each third
    found = {score.key: score.value for score in whole.scores}
    assert found["missed"] == 5 / 8
    # what missed a step was answered all the same, and every image's pass is charged
    assert whole.cost["images_forward"] == 8 * 20
    assert whole.cost["images_backward"] == 3 * 20
    last = here.plan.stream.domains[here.plan.stream.shown[-1][0]].name
    assert found["accuracy/held-out"] == found[f"accuracy/held-out-{last}"]


def test_all_seeds_see_the_same_pictures(workbench: Workbench) -> None:
    """A seed draws the order of the images; what weather makes of one is not drawn anew."""
    shown: list[dict[tuple[str, int], bytes]] = []
    for number in (0, 1):
        bench = workbench.bench("online-tta")
        plan = bench.protocol.plan(workbench.one_domain, 20, number)
        stream = plan.stream
        kept = tuple((segment, np.sort(rows)) for segment, rows in stream.segments)
        plan = dataclasses.replace(plan, stream=dataclasses.replace(stream, segments=kept))
        seen: dict[tuple[str, int], bytes] = {}
        order = [(segment.name, int(row)) for segment, rows in kept for row in rows]

        def build(seen: Any = seen, order: Any = order) -> Any:
            method = registry.method("source")()
            inner = method.step

            def step(batch: TargetBatch) -> torch.Tensor:
                for at, image in zip(batch.index.tolist(), batch.images, strict=True):
                    seen[order[at]] = image.numpy().tobytes()
                logits: torch.Tensor = inner(batch)
                return logits

            method.step = step
            return method

        run = Run("source", Budget(1, 20), number, "cpu", Recorder(), False)
        bench.protocol.run(build, plan, bench.network, run)
        shown.append(seen)
    one, two = shown
    both = one.keys() & two.keys()
    assert len(both) > 20
    assert [key for key in both if one[key] != two[key]] == []


@pytest.mark.parametrize(("batch", "most", "options"), PACES)
def test_labels_and_domains_do_not_reach_a_method(
    benches: Any, batch: int, most: int, options: Any
) -> None:
    """Other labels, once the order is frozen: the answers stand."""
    here = benches(batch, most, **options)
    truth = np.random.default_rng(0).permutation(here.plan.truth)
    hidden = dataclasses.replace(here.plan, truth=truth)
    one, two = (here.run(registry.method("tent"), plan) for plan in (here.plan, hidden))
    assert answers_of(one) == answers_of(two)
    assert one.scores != two.scores


def test_every_image_is_shown_in_its_own_domain(benches: Any) -> None:
    """A batch of a mixed stream is made of the pictures that each domain alone would show."""
    here = benches(20, 40, stream="mixed:images=30")
    seen: list[torch.Tensor] = []

    def build() -> Any:
        method = registry.method("source")()
        inner = method.step

        def step(batch: TargetBatch) -> torch.Tensor:
            seen.append(batch.images.clone())
            logits: torch.Tensor = inner(batch)
            return logits

        method.step = step
        return method

    outcome = here.run(build)
    rows, places = outcome.arrays["stream.row"], outcome.arrays["stream.domain"]
    assert len(set(places[:20].tolist())) == 2
    for i in range(20):
        domain = here.plan.stream.domains[places[i]]
        picture = render(here.plan.images, rows[i : i + 1], domain)[0]
        expected = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
        torch.testing.assert_close(seen[0][i], expected)


def test_scores_by_domain_and_visit(benches: Any) -> None:
    here = benches(20, 40, stream="recurring:visits=2,images=40")
    outcome = here.run(registry.method("source"))
    found = {score.key: score for score in outcome.scores}
    right = outcome.arrays["stream.truth"] == outcome.arrays["stream.prediction"]
    places = outcome.arrays["stream.domain"]
    for place, domain in enumerate(here.plan.stream.domains):
        score = found[f"accuracy/{domain.name}"]
        assert score.value == pytest.approx(right[places == place].mean())
        assert score.n == 80
    visits = np.repeat([1, 2], 80)
    for visit in (1, 2):
        assert found[f"accuracy/round-{visit}"].value == pytest.approx(
            right[visits == visit].mean()
        )
    assert found["accuracy/last-round"].value == found["accuracy/round-2"].value
    metric = ExpectedCalibrationError()
    sure = torch.from_numpy(outcome.arrays["stream.confidence"])
    metric.update(sure, torch.from_numpy(right))
    assert found["ECE"].value == pytest.approx(metric.compute()["ECE"])
    curve = [score for score in outcome.curves if score.metric == "running_ECE"]
    assert len(curve) == 8
    assert curve[-1].value == pytest.approx(found["ECE"].value)  # a window of all eight batches
    ends = {s.key for s in outcome.scores if s.key.startswith("accuracy/held-out-")}
    assert ends == {f"accuracy/held-out-{n}" for n in ("clear", "fog-5", "low-light-3")}


def test_the_upper_bound_learns_from_a_window(benches: Any) -> None:
    here = benches(1, 8, stream="single:window=4")
    outcome = here.run(registry.method("target-supervised"))
    truth = np.random.default_rng(0).permutation(here.plan.truth)
    other = here.run(
        registry.method("target-supervised"), dataclasses.replace(here.plan, truth=truth)
    )
    assert outcome.arrays["stream.step"].max() == 15
    assert answers_of(outcome) != answers_of(other)


@pytest.mark.parametrize("name", ["bn-adapt", "tent", "roid", "rotta"])
def test_methods_see_the_window_between_their_steps(benches: Any, name: str) -> None:
    """They have put layers of their own in the place of BatchNorm's by then."""
    seen: list[int] = []

    def build() -> Any:
        method = registry.method(name)()
        predict = method.predict

        def spied(images: torch.Tensor) -> Any:
            seen.append(len(images))
            return predict(images)

        method.predict = spied
        return method

    benches(1, 8, stream="single:window=4").run(build)
    assert {1, 2, 3} <= {*seen}


def test_one_image_at_a_time_says_its_batch_size(workbench: Workbench) -> None:
    with pytest.raises(ConfigError, match="--batch-size 1"):
        OnlineTTA(shifts="fog:5", stream="single").plan(workbench.one_domain, 16, 0)


# -- when a method adapts --------------------------------------------------------------------------


class Counting(torch.nn.Module):
    """Notes at which steps it adapts, and on how many images; a step costs ``work`` forwards."""

    def __init__(self, pace: list[Pace], forward: float, backward: float, norm: bool) -> None:
        super().__init__()
        self.pace, self.passes = pace, (forward, backward)
        self.adapted: list[tuple[int, int]] = []
        self.index: list[int] = []
        self.asked: list[int] = []
        if norm:
            self.norm = torch.nn.BatchNorm2d(3)

    def step(self, batch: TargetBatch) -> torch.Tensor:
        pace, n = self.pace[0], len(batch.images)
        self.adapted.append((pace.log.steps, n))
        self.index += batch.index.tolist()
        pace.cost.forward += round(self.passes[0] * n)
        pace.cost.backward += round(self.passes[1] * n)
        return batch.images[:, 0, 0]

    def predict(self, images: torch.Tensor) -> Prediction:
        self.asked.append(len(images))
        assert not torch.is_grad_enabled()
        return Prediction(images[:, 0, 0])


def walked(
    steps: int,
    passes: tuple[float, float] = (1, 1),
    *,
    norm: bool = True,
    size: int = 2,
    **pace: Any,
) -> tuple[Counting, StreamLog]:
    """Return a method after some steps of a stream whose pictures hold their step's number."""
    log, held = StreamLog(), []

    def picture(step: int) -> torch.Tensor:
        return torch.full((size, 3, 2, 2), float(step))

    options = {"window": 1, "speed": None, "starts": (0,), **pace}
    held.append(Pace(log=log, cost=Cost(), render=picture, reveal=lambda steps: None, **options))
    method = Counting(held, *passes, norm)
    for step in range(steps):
        batch = TargetBatch(picture(step), torch.arange(size))
        logits = held[0].answer(method, batch)  # type: ignore[arg-type]
        assert logits.shape == (size, 2)
        assert (logits == step).all()  # the answer of this step's images, whatever else was shown
        log.steps += 1
    return method, log


@pytest.mark.parametrize(
    ("passes", "speed", "every"),
    [((1, 1), 1.0, 3), ((1, 0), 1.0, 1), ((1, 1), 0.5, 2), ((4, 1), 1.0, 6), ((1, 0), 3.0, 3)],
)
def test_a_slow_method_misses_batches(
    passes: tuple[float, float], speed: float, every: int
) -> None:
    """r = ceil(speed (F + 2 B) / n): it adapts on each r-th batch."""
    method, log = walked(12, passes, speed=speed)
    assert [step for step, _ in method.adapted] == list(range(0, 12, every))
    assert log.adapted.count(False) == 12 - len(method.adapted) == len(method.asked)
    assert [step for step, adapted in enumerate(log.adapted) if adapted] == [
        step for step, _ in method.adapted
    ]


def test_a_fresh_method_has_no_work_left() -> None:
    method, _ = walked(8, (1, 1), speed=1.0, starts=(0, 4))
    assert [step for step, _ in method.adapted] == [0, 3, 4, 7]


def test_a_window_is_adapted_on_when_it_is_full() -> None:
    method, _ = walked(9, size=1, window=4)
    assert method.adapted == [(3, 4), (7, 4)]
    assert method.index == list(range(8))
    assert method.asked == [1, 2, 3, 4, 4, 4, 4]
    alone, _ = walked(9, size=1, window=4, norm=False)
    assert alone.adapted == method.adapted
    assert set(alone.asked) == {1}
    again, _ = walked(10, size=1, window=4, starts=(0, 5))
    assert again.adapted == [(3, 4), (8, 4)]
    assert again.asked == [1, 2, 3, 4, 1, 2, 3, 4]
