"""What label-free scores of a run's epochs may and may not do."""

from __future__ import annotations

import dataclasses
import random
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from dabench import registry
from dabench.contract.access import Budget, Recorder, SourceFree, Unlabelled
from dabench.contract.cost import Cost
from dabench.contract.method import OfflineMethod
from dabench.contract.protocol import Outcome, Run
from dabench.contract.seeding import seed_everything
from dabench.contract.types import Prediction
from dabench.engine import fit as loops
from dabench.metrics import label_free
from dabench.registry.protocols import OFFLINE

LABEL_FREE = {"im", "entropy", "entropy-classes", "snd"}


def judged(outcome: Outcome) -> dict[tuple[str, int], float | None]:
    """Return (score, epoch) -> value, of the answers that rank."""
    own = (s for s in outcome.curves if s.segment == "all" and s.metric in LABEL_FREE)
    return {(s.metric, s.at): s.value for s in own}


#: a method of each offline protocol, one that trains
TRAINED = {"bb-uda": "dine", "bb-osda": "sd-shot", "sf-unida": "glc"}
LATER = {"bb-osda", "sf-unida", "sf-pda", "sf-msda"}


@pytest.mark.parametrize(
    "protocol",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LATER)) for name in sorted(OFFLINE)],
)
def test_every_scored_epoch_has_them(bench: Any, protocol: str) -> None:
    name = TRAINED.get(protocol, "shot")
    outcome = bench(protocol).run(registry.method(name))
    ranked = bench(protocol).protocol.primary
    epochs = {s.at for s in outcome.curves if s.key == ranked}
    assert epochs == {1, 2}
    assert set(judged(outcome)) == {(m, epoch) for m in LABEL_FREE for epoch in epochs}
    assert not LABEL_FREE & {s.metric for s in outcome.scores}
    still = bench(protocol).run(registry.method("source"))
    assert set(judged(still)) == {(m, 0) for m in LABEL_FREE}


class Still(OfflineMethod):
    """Trains one number."""

    grant: ClassVar[Any] = SourceFree

    def begin(self, access: Any) -> None:
        super().begin(access)
        self.level = torch.nn.Parameter(torch.zeros(10))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.level], lr=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.level.square().sum()

    def predict(self, images: torch.Tensor) -> Prediction:
        return Prediction(self.level.expand(len(images), -1))


@pytest.mark.parametrize(("epochs", "every"), [(5, 1), (19, 1), (20, 2), (25, 2), (30, 3)])
def test_long_runs_are_scored_ten_times_and_at_the_end(bench: Any, epochs: int, every: int) -> None:
    here = bench("sf-uda")
    part = Unlabelled(np.zeros((4, 8, 8, 3), np.uint8), np.arange(4))
    parts = dict.fromkeys(here.plan.parts, part)
    truth = {name: np.arange(4) for name in parts}
    plan = dataclasses.replace(here.plan, parts=parts, truth=truth)
    segments = tuple((segment, np.arange(4)) for segment, _ in plan.stream.segments)
    plan = dataclasses.replace(plan, stream=dataclasses.replace(plan.stream, segments=segments))
    run = Run("source", Budget(epochs, 4), 0, "cpu", Recorder(), False)
    outcome = here.protocol.run(Still, plan, here.network, run)
    found = {s.at for s in outcome.curves if s.key == "accuracy"}
    assert found == {*range(every, epochs, every), epochs}


def test_no_label_goes_in(bench: Any) -> None:
    plan = bench("sf-osda").plan
    rng = np.random.default_rng(0)
    truth = {name: rng.permutation(values) for name, values in plan.truth.items()}
    honest = bench("sf-osda").run(registry.method("shot"))
    blinded = bench("sf-osda").run(registry.method("shot"), dataclasses.replace(plan, truth=truth))
    assert judged(honest) == judged(blinded)
    ranked = [{s.at: s.value for s in o.curves if s.metric == "HOS"} for o in (honest, blinded)]
    assert ranked[0] != ranked[1]


def test_the_run_goes_on_as_if_they_were_not_there(
    bench: Any, answers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And they cost no adaptation time: the clock stands still but where they are computed."""
    now, scores = [0.0], label_free.scores

    def slowly(found: Any) -> Any:
        now[0] += 1000.0
        return scores(found)

    monkeypatch.setattr(loops, "synchronised_clock", lambda device: now[0])
    monkeypatch.setattr(label_free, "scores", slowly)
    with_them = bench("sf-osda").run(registry.method("usd"))
    assert now[0] == 2000.0
    assert with_them.cost["adapt_seconds"] == 0.0
    monkeypatch.setattr(label_free, "scores", lambda found: ())
    without = bench("sf-osda").run(registry.method("usd"))
    assert judged(without) == {}
    assert answers(with_them) == answers(without)
    assert with_them.scores == without.scores


def test_what_a_curve_draws_moves_no_generator() -> None:
    """A method may ask a library that draws: the run goes on as if no curve had been made."""

    class Drawing(OfflineMethod):
        def predict(self, images: torch.Tensor) -> Prediction:
            random.random()
            np.random.rand()  # noqa: NPY002 - what libraries draw from
            torch.rand(3)
            return Prediction(torch.zeros(len(images), 2))

    def drawn() -> tuple[float, ...]:
        return random.random(), np.random.rand(), float(torch.rand(1))  # noqa: NPY002

    method, found = Drawing(), []
    method.access = SimpleNamespace(task=SimpleNamespace(num_classes=2, open_set=False))  # type: ignore[assignment]
    part = Unlabelled(np.zeros((3, 8, 8, 3), np.uint8), np.arange(3))
    for asks in (False, True):
        seed_everything(5)
        if asks:
            loops.predict_all(method, part, "cpu", Cost())
        found.append(drawn())
    assert found[0] == found[1]


def test_what_begins_and_calibrates_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Slow(OfflineMethod):
        trains = False

        def begin(self, access: Any) -> None:
            now[0] += 1.0

        def calibrate(self) -> None:
            now[0] += 2.0

        def predict(self, images: Any) -> Any:
            raise AssertionError("nobody asks")

    monkeypatch.setattr(loops, "synchronised_clock", lambda device: now[0])
    run: Any = SimpleNamespace(device="cpu")
    assert loops.adapt(Slow(), None, run, Cost(), run) == ({}, 3.0)
