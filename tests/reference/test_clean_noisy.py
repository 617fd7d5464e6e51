"""Clean and noisy labels, means over masks, teachers and what learns, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dabench.methods.functional.clean_noisy import (
    clean_noisy_terms,
    label_disagreement,
    refine_or_guess,
)
from dabench.methods.functional.losses import mean_over
from dabench.methods.functional.normalisation import choose_trained
from dabench.methods.functional.online import ema_state

B, K = 7, 4


def distributions(seed: int) -> torch.Tensor:
    draw = np.random.default_rng(seed).dirichlet(np.ones(K), B)
    return torch.from_numpy(draw)


def kl(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sum(a * (np.log(a) - np.log(b)), axis=1)


def test_label_disagreement_is_jsd_or_cross_entropy() -> None:
    y, p = distributions(0), distributions(1)
    a, b = y.numpy(), p.numpy()
    m = (a + b) / 2
    divergence = label_disagreement(y, p, "jsd").numpy()
    expected = (kl(a, m) + kl(b, m)) / 2
    # in units of log 2 or of 1: the same up to one factor, which the measure fixes
    ratio = divergence / expected
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    assert np.isclose(ratio[0], 1.0, rtol=1e-5) or np.isclose(ratio[0], 1 / np.log(2), rtol=1e-5)
    np.testing.assert_allclose(
        label_disagreement(y, p, "ce").numpy(), -np.sum(a * np.log(b), axis=1), rtol=1e-9
    )


@pytest.mark.parametrize("noisy_loss", ["mse", "ce"])
@pytest.mark.parametrize("clean", [[1, 0, 1, 1, 0, 0, 1], [1] * 7, [0] * 7])
def test_clean_noisy_terms_are_means_over_their_rows(noisy_loss: str, clean: list[int]) -> None:
    logits = torch.from_numpy(np.random.default_rng(2).normal(size=(B, K))).requires_grad_()
    y, mask = distributions(3), torch.tensor(clean, dtype=torch.float64)
    first, second = clean_noisy_terms(logits, y, mask, noisy_loss)  # type: ignore[arg-type]
    x = logits.detach().numpy()
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    ce = -np.sum(y.numpy() * np.log(p), axis=1)
    noisy = np.sum((p - y.numpy()) ** 2, axis=1) if noisy_loss == "mse" else ce
    rows = np.array(clean, dtype=bool)
    np.testing.assert_allclose(first.item(), ce[rows].mean() if rows.any() else 0.0, rtol=1e-6)
    np.testing.assert_allclose(
        second.item(), noisy[~rows].mean() if (~rows).any() else 0.0, rtol=1e-6
    )
    first.backward()
    # d/dx of the mean cross-entropy: (p - y) / n on clean rows
    expected = np.where(rows[:, None], (p - y.numpy()) / max(1, rows.sum()), 0.0)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=1e-5, atol=1e-12)


def test_refine_or_guess() -> None:
    own, guess = distributions(4), distributions(5)
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    omega = torch.linspace(0, 1, B, dtype=torch.float64)
    clean = (omega >= 0.5).double()
    out = refine_or_guess(labels, omega, clean, own, guess).numpy()
    for i in range(B):
        y = np.eye(K)[labels[i]]
        w = omega[i].item()
        expected = w * y + (1 - w) * own[i].numpy() if clean[i] else guess[i].numpy()
        np.testing.assert_allclose(out[i], expected)


def test_mean_over_divides_by_the_mask_not_by_the_weights() -> None:
    values, weight = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.5, 0.0, 1.0])
    assert mean_over(values, weight, torch.tensor([1.0, 0.0, 1.0])).item() == 2.25
    assert mean_over(values, weight * 0, torch.zeros(3)).item() == 0.0


def test_ema_state_moves_weights_and_statistics_and_copies_counts() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    student = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    student(torch.randn(5, 3))
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    ema_state(teacher, student, 0.9)
    target = student.state_dict()
    for name, value in teacher.state_dict().items():
        if value.is_floating_point():
            expected = 0.9 * before[name].numpy() + 0.1 * target[name].numpy()
            np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-7)
        else:
            assert int(value) == int(target[name]) == 1


@pytest.mark.parametrize(("trained", "count"), [("norms", 2), ("norms+head", 4), ("all", 6)])
def test_choose_trained(trained: str, count: int) -> None:
    head = nn.Linear(4, 2)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), head)
    chosen = choose_trained(net, head, trained)  # type: ignore[arg-type]
    assert len(chosen) == count
    assert sum(p.requires_grad for p in net.parameters()) == count
