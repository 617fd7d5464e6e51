"""What black-box methods do between epochs, by hand-made predictions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dabench.methods.black_box.beta import BETA


def beta(found: list[Tensor], epoch: int, **options: Any) -> BETA:
    """Return BETA, of which both networks' predictions are given, at an epoch of ten."""
    method = BETA(**options)
    trainer: Any = SimpleNamespace(current_epoch=epoch, max_epochs=10)
    method._trainer = trainer
    method.bank = torch.zeros_like(found[0])
    method.named = torch.zeros(len(found[0]), dtype=torch.int64)
    method.posterior = [torch.ones(len(p)) for p in found]
    method.access = SimpleNamespace(seed=0)  # type: ignore[assignment]
    method.survey_branches = lambda: found  # type: ignore[method-assign]
    method.record_split = lambda *_: None  # type: ignore[method-assign]
    return method


def test_betas_memory_takes_the_softmax_of_the_mean_logits() -> None:
    logits = torch.tensor([[[10.0, 0.0, 0.0]], [[0.0, 2.0, 0.0]]])
    method = beta(list(logits.softmax(2)), 1, warmup_epochs=5, memory=0.0)
    method.on_train_epoch_start()
    expected = torch.tensor([[0.976, 0.018, 0.007]])
    torch.testing.assert_close(method.bank, expected, atol=1e-3, rtol=0)
    assert method.divided == [False, False]


SPLIT = torch.tensor([0.98] * 20 + [0.05] * 20)  # of the named class: two parts
ALIKE = torch.full((40,), 0.7)  # nothing to divide by


@pytest.mark.parametrize(
    ("first", "second", "divided"),
    [
        (SPLIT, SPLIT, [True, True]),
        (SPLIT, ALIKE, [False, False]),  # the one has no doubts to refine by, the other one part
        (ALIKE, ALIKE, [False, False]),
    ],
)
def test_beta_divides_where_there_are_two_parts(
    first: Tensor, second: Tensor, divided: list[bool]
) -> None:
    noise = torch.linspace(-0.01, 0.01, 20).repeat(2)
    found = []
    for p in (first, second):
        own = p + noise * (p is SPLIT)
        found.append(torch.stack((own, 1 - own), 1))
    method = beta(found, 2)
    method.on_train_epoch_start()
    assert method.divided == divided


def test_a_network_of_beta_without_hard_images_is_not_divided() -> None:
    method = beta([SPLIT[:, None], SPLIT[:, None]], 2)
    method.posterior = [torch.full((4,), 0.9), torch.tensor([0.9, 0.9, 0.1, 0.2])]
    assert [method._is_divided(b) for b in range(2)] == [False, True]
