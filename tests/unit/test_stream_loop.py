"""The loop along a stream: what time a method is charged."""

from __future__ import annotations

from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn

from dabench.contract.access import TargetBatch
from dabench.contract.method import OnlineMethod
from dabench.contract.types import Prediction
from dabench.engine import fit, stream
from dabench.engine.resume import checkpoint
from dabench.engine.stream import StreamLog, run_stream
from dabench.errors import TrainingError


def test_the_clock_waits_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", order.append)
    monkeypatch.setattr(stream.time, "perf_counter", lambda: order.append("clock") or 1.0)
    device = torch.device("cuda", 1)
    assert stream.synchronised_clock(device) == 1.0
    assert order == [device, "clock"]
    stream.synchronised_clock(torch.device("cpu"))
    assert order == [device, "clock", "clock"]


def test_an_apple_gpu_is_waited_for_and_its_random_numbers_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[bool] = []
    held = [torch.arange(4, dtype=torch.uint8)]
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append(True))
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: held[0].clone())
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: held.__setitem__(0, state))
    stream.synchronised_clock(torch.device("mps"))
    assert waited == [True]
    assert "mps" not in checkpoint._random_state()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    state = checkpoint._random_state()
    held[0] = torch.zeros(4, dtype=torch.uint8)
    checkpoint._restore_random_state(state)
    assert held[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("device", "kind", "which"),
    [("cpu", "cpu", 1), ("cuda", "cuda", 1), ("cuda:1", "cuda", [1]), ("mps", "mps", 1)],
)
def test_lightning_is_told_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, kind: str, which: Any
) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(lightning, "Trainer", lambda **options: told.update(options))
    fit.build_trainer(1, device, [])
    assert (told["accelerator"], told["devices"]) == (kind, which)


class Slow(OnlineMethod):
    """Takes a second by a clock of its own."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.layer, self.clock = nn.Linear(1, 1), clock

    def step(self, batch: TargetBatch) -> Tensor:
        self.clock[0] += 1.0
        return torch.zeros(len(batch.images), 2)

    def predict(self, images: Tensor) -> Prediction:
        return Prediction(torch.zeros(len(images), 2))


def test_only_the_method_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream_log = [0.0], StreamLog()
    monkeypatch.setattr(stream, "synchronised_clock", lambda device: clock[0])
    batches = (torch.zeros(4, 3, 2, 2) for _ in range(3))
    for _ in run_stream(Slow(clock), batches, stream_log, 0):
        clock[0] += 100.0
    assert stream_log.seconds == 3.0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.zeros(4, 2), "K = 3"),
        (torch.zeros(3, 3), "for 4 images"),
        (torch.zeros(4, 3, dtype=torch.int64), "real logits"),
        (None, "NoneType"),
        (torch.full((4, 3), torch.nan), "not finite"),
        (torch.full((4, 3), 1e300, dtype=torch.float64), "not finite"),
    ],
)
def test_answers_that_do_not_fit_are_refused_at_the_first_step(answer: Any, message: str) -> None:
    class Wrong(OnlineMethod):
        def step(self, batch: TargetBatch) -> Any:
            return answer

        def predict(self, images: torch.Tensor) -> Any:
            return answer

    batches = iter([torch.zeros(4, 3, 2, 2)])
    with pytest.raises(TrainingError, match=message):
        next(run_stream(Wrong(), batches, StreamLog(), 0, num_classes=3))


def test_a_method_that_changes_its_batch_changes_nobody_elses() -> None:
    class Vandal(OnlineMethod):
        def step(self, batch: TargetBatch) -> torch.Tensor:
            batch.images.mul_(0)
            return torch.zeros(len(batch.images), 3)

        def predict(self, images: torch.Tensor) -> Any:
            return None

    batches = iter([torch.ones(4, 3, 2, 2)])
    batch, _ = next(run_stream(Vandal(), batches, StreamLog(), 0))
    assert bool((batch.images == 1).all())
