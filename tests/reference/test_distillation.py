"""Every function of ``functional/distillation`` against NumPy, and closed forms."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.autograd import gradcheck

from dabench.methods.functional import distillation, divergence, losses

torch.set_num_threads(1)


def simplex(seed, rows=30, classes=5):
    return torch.as_tensor(np.random.default_rng(seed).dirichlet(np.ones(classes), rows))


def test_adaptive_smoothing_row_by_row():
    p = simplex(0)
    q = distillation.adaptive_smoothing(p).numpy()
    for row, smooth in zip(p.numpy(), q, strict=True):
        top = int(row.argmax())
        expected = np.full(5, (1 - row[top]) / 4)
        expected[top] = row[top]
        np.testing.assert_allclose(smooth, expected, atol=1e-12)
        assert smooth.sum() == pytest.approx(1)


def test_adaptive_smoothing_of_one_hot_answers():
    assert torch.equal(distillation.adaptive_smoothing(torch.eye(4)), torch.eye(4))
    q = distillation.adaptive_smoothing(torch.eye(4), hard_mass=0.9)
    np.testing.assert_allclose(q.diagonal(), 0.9)
    np.testing.assert_allclose(q.sum(1), 1.0, atol=1e-6)
    assert q[0, 1] == pytest.approx(0.1 / 3)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_mixup_weight_is_beta(alpha):
    torch.manual_seed(0)
    draws = [distillation.mixup_weight(alpha) for _ in range(2000)]
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_mix_by_hand():
    values = torch.arange(12.0).reshape(3, 4)
    mixed = distillation.mix(values, torch.tensor([2, 0, 1]), 0.75)
    expected = 0.75 * values.numpy() + 0.25 * values.numpy()[[2, 0, 1]]
    np.testing.assert_allclose(mixed, expected)
    assert torch.equal(distillation.mix(values, torch.tensor([2, 0, 1]), 1.0), values)


def test_prior_penalty_is_a_divergence_from_uniform():
    p = simplex(1)
    mean = p.numpy().mean(0)
    expected = stats.entropy(np.full(5, 0.2), mean)
    assert float(distillation.prior_penalty(p)) == pytest.approx(expected)
    uniform = torch.eye(5, dtype=torch.float64)
    assert float(distillation.prior_penalty(uniform)) == pytest.approx(0.0, abs=1e-9)
    assert gradcheck(distillation.prior_penalty, (simplex(2, 6).requires_grad_(),))


def test_branch_quality_is_mutual_information():
    p = simplex(3)
    expected = stats.entropy(p.numpy().mean(0)) - stats.entropy(p.numpy(), axis=1).mean()
    assert distillation.branch_quality(p) == pytest.approx(expected)
    assert distillation.branch_quality(torch.eye(5)) == pytest.approx(np.log(5), abs=1e-6)
    assert distillation.branch_quality(torch.full((9, 5), 0.2)) == pytest.approx(0.0, abs=1e-6)


def test_hard_labels_rank_alike_under_jsd_and_ce_soft_ones_do_not():
    """CABB's criterion: with a hard label both depend on q = p_y alone."""
    p = simplex(4, rows=200)
    labels = torch.randint(0, 5, (200,), generator=torch.Generator().manual_seed(0))
    hard = divergence.onehot(labels, 5)
    ce = losses.soft_cross_entropy(p.log(), hard.to(p))
    assert torch.equal(divergence.jsd(hard.to(p), p).argsort(), ce.argsort())
    soft = simplex(5, rows=200)
    ce = losses.soft_cross_entropy(p.log(), soft)
    assert not torch.equal(divergence.jsd(soft, p).argsort(), ce.argsort())


def test_mixup_consistency_by_hand():
    images, weights = torch.rand(6, 4).double(), torch.rand(4, 3).double()
    logits = images @ weights

    def forward(mixed):
        return mixed @ weights

    torch.manual_seed(3)
    got = distillation.mixup_consistency(forward, images, logits, 0.3)
    torch.manual_seed(3)
    order, weight = torch.randperm(6).numpy(), distillation.mixup_weight(0.3)
    x, z = images.numpy(), logits.numpy()

    def softmax(values):
        e = np.exp(values - values.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    target = weight * softmax(z) + (1 - weight) * softmax(z)[order]
    answer = softmax((weight * x + (1 - weight) * x[order]) @ weights.numpy())
    assert float(got) == pytest.approx((target * np.log(target / answer)).sum(1).mean())


def test_refresh_epochs_are_tenths():
    assert distillation.refresh_epochs(20) == set(range(2, 20, 2))
    assert distillation.refresh_epochs(10) == set(range(1, 10))
    assert len(distillation.refresh_epochs(25)) == 9
    assert distillation.refresh_epochs(1) <= {1}
    assert 0 not in distillation.refresh_epochs(3)


def test_two_stage_factor_closed_forms():
    factor = distillation.two_stage_factor
    assert factor(0.0, 0.5, 1.5, 1.0) == 1.0
    assert factor(0.25, 0.5, 1.5, 1.0) == pytest.approx(6**-1.5)
    assert factor(0.5, 0.5, 1.5, 1.0) == pytest.approx(11**-0.75)  # DINE goes on where it was
    assert factor(0.75, 0.5, 1.5, 1.0) == pytest.approx(16**-0.75)
    assert factor(0.5, 0.5, 1.5, 0.0) == 1.0  # BETA starts again
    assert factor(1.0, 0.5, 1.5, 0.0) == pytest.approx(11**-0.75)
    assert factor(0.9, 1.0, 1.5, 1.0) == pytest.approx(10**-1.5)  # one stage alone


def test_distillation_never_vanishes():
    found = [distillation.distillation_epochs(20, share) for share in (0.0, 0.5, 0.97)]
    assert found == [20, 10, 1]
    assert distillation.distillation_epochs(1, 0.5) == 1


def test_the_mean_of_logits_from_probabilities() -> None:
    logits = torch.tensor([[[10.0, 0.0, 0.0]], [[0.0, 2.0, 0.0]]])
    found = distillation.mean_of_logits(logits.softmax(2))
    torch.testing.assert_close(found, torch.tensor([[0.976, 0.018, 0.007]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(found, logits.mean(0).softmax(1))
    sure = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert distillation.mean_of_logits([sure, sure]).isfinite().all()
