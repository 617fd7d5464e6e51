"""What black-box methods do between epochs, by hand-made predictions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dabench.methods.black_box import cabb as module
from dabench.methods.black_box.beta import BETA
from dabench.methods.black_box.cabb import CABB
from dabench.methods.functional.class_use import rebalanced
from dabench.methods.prior_correction import PriorCorrection


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


ANSWERS = torch.tensor([[0.8, 0.2]] * 6 + [[0.4, 0.6]] * 6)
#: a branch that sees two groups of six, and one to which the last row looks like the first ones
SEES = torch.tensor([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 6)
ERRS = torch.tensor([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 5 + [[1.0, 0.0]])


def cabb(monkeypatch: pytest.MonkeyPatch, epoch: int, p: list[Tensor], **options: Any) -> CABB:
    """Return CABB before an epoch of ten: the first branch sees right, the other errs."""
    method = CABB(**options)
    trainer: Any = SimpleNamespace(current_epoch=epoch, max_epochs=10)
    method._trainer, method.k = trainer, 2
    nets = [torch.nn.Identity(), torch.nn.Identity()]
    method.nets = torch.nn.ModuleList(nets)
    monkeypatch.setattr(CABB, "networks", nets)
    features = dict(zip(nets, (SEES, ERRS), strict=True))
    answers = dict(zip(nets, p, strict=True))
    monkeypatch.setattr(module, "set_features", lambda net, _: (features[net], answers[net]))
    method.access = SimpleNamespace(seed=0, target=None)  # type: ignore[assignment]
    method.answers, method.banks = ANSWERS, [ANSWERS, ANSWERS]
    method.first_labels = method.start or "centroids"
    method.posterior = [torch.ones(12), torch.ones(12)]
    method.split = {}
    method.record_split = lambda b, *rest: method.split.update({b: rest})  # type: ignore[method-assign]
    method.on_train_epoch_start()
    return method


@pytest.mark.parametrize("crosswise", [True, False])
def test_a_branch_of_cabb_learns_what_the_other_one_sees(
    monkeypatch: pytest.MonkeyPatch, crosswise: bool
) -> None:
    wrong = torch.tensor([[0.0, 1.0]]).expand(12, 2)  # random heads have no say at first
    method = cabb(monkeypatch, 0, [wrong, wrong], co_training=crosswise)
    last = [int(bank[-1].argmax()) for bank in method.banks]
    assert last == ([0, 1] if crosswise else [1, 0])
    assert all((bank[:11].argmax(1) == ANSWERS[:11].argmax(1)).all() for bank in method.banks)


def test_without_features_cabb_keeps_the_answers_for_an_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = torch.tensor([[0.0, 1.0]]).expand(12, 2)
    first = cabb(monkeypatch, 0, [wrong, wrong], start="rebalanced")
    assert all(torch.equal(bank, ANSWERS) for bank in first.banks)
    later = cabb(monkeypatch, 1, [wrong, wrong], start="rebalanced", memory=0.0)
    assert not torch.equal(later.banks[0], ANSWERS)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({}, True),
        pytest.param({"start": "centroids"}, False, marks=pytest.mark.slow),
        pytest.param({"diversity_prior": "none"}, False, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_cabb_rebalances_where_networks_start_from_nothing(
    bench: Any, options: dict[str, Any], changed: bool
) -> None:
    def answers(**options: Any) -> Tensor:
        built: list[CABB] = []

        def build() -> CABB:
            built.append(CABB(neighbours=2, **options))
            return built[-1]

        bench("bb-uda").run(build)
        return built[0].answers

    assert torch.equal(answers(**options), answers(start="answers")) != changed


def test_cabbs_bank_keeps_its_share_of_the_old_label(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = torch.tensor([[0.0, 1.0]]).expand(12, 2), torch.tensor([[0.5, 0.5]]).expand(12, 2)
    method = cabb(monkeypatch, 3, [one, two], refine=False, memory=0.6)
    for bank, other in zip(method.banks, (two, one), strict=True):
        torch.testing.assert_close(bank, 0.6 * ANSWERS + 0.4 * (other + ANSWERS) / 2)


def test_cabb_doubts_the_label_that_its_neighbours_do_not_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sure = torch.eye(2)[[0] * 6 + [1] * 5 + [0]]  # the last row sits among the second group
    method = cabb(monkeypatch, 3, [sure, sure], refine=False, memory=0.0, neighbours=3)
    # the second branch is split by neighbours in the first one's features
    assert method.posterior[1].argmin() == 11
    assert method.posterior[1][11] < 0.5
    assert method.split[1][1].sum() == 11


def test_prior_correction_answers_an_image_as_the_rebalanced_set_does() -> None:
    logits = 2 * torch.randn(400, 4, generator=torch.Generator().manual_seed(0)) + torch.arange(4)
    pile = SimpleNamespace(
        survey=lambda: [SimpleNamespace(images=part) for part in logits.split(64)]
    )
    task = SimpleNamespace(num_classes=4)
    method = PriorCorrection(rounds=20)
    access: Any = SimpleNamespace(task=task, source_model=torch.nn.Identity(), target=pile)
    method.begin(access)
    method.calibrate()
    expected = rebalanced("uniform", logits.softmax(1), 20)
    torch.testing.assert_close(method.predict(logits).logits.softmax(1), expected)
    alone = method.predict(logits[7:8]).logits.softmax(1)
    torch.testing.assert_close(alone, expected[7:8])
    torch.testing.assert_close(expected.mean(0), torch.full((4,), 0.25), atol=1e-3, rtol=0)
