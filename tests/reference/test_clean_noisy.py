"""Clean and noisy labels, means over masks, teachers and what learns, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dabench.methods.functional.clean_noisy import (
    harden_clean,
    label_disagreement,
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


def test_a_clean_row_learns_its_class_and_a_noisy_one_its_soft_label() -> None:
    q = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.2, 0.2, 0.6]], dtype=torch.float64)
    omega = torch.tensor([1.0, 0.0, 0.25], dtype=torch.float64)
    out = harden_clean(q, omega, smoothing=0.3)
    torch.testing.assert_close(out[0], torch.tensor([0.8, 0.1, 0.1], dtype=torch.float64))
    torch.testing.assert_close(out[1], q[1])
    mixed = 0.25 * np.array([0.1, 0.1, 0.8]) + 0.75 * q[2].numpy()
    np.testing.assert_allclose(out[2].numpy(), mixed)
    torch.testing.assert_close(harden_clean(q, omega, share=0.0), q)


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
