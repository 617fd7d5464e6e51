"""Negative learning, reliable labels, class covariances, the ring's node and recalled features."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

from dabench.methods.functional.attraction import dispersion
from dabench.methods.functional.class_covariance import (
    RunningCovariance,
    augmented_surprise,
    covariance_distance,
)
from dabench.methods.functional.losses import AveragedMarginal, marginal_surprise
from dabench.methods.functional.negative_learning import (
    complementary_classes,
    negative_loss,
    never_alike,
)
from dabench.methods.functional.recalled_features import (
    groups_of,
    known_points,
    spread_hinge,
    unknown_points,
)
from dabench.methods.functional.reliable_selection import (
    balanced_by_class,
    curriculum_factor,
    reliable_rows,
    view_agreement,
)
from dabench.methods.functional.ring_node import fit_ring_node, ring_loss


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_complementary_classes_are_others_each_once_and_all_as_likely() -> None:
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(500)
    one = complementary_classes(labels, 4, 1).squeeze(1)
    assert bool((one != labels).all())
    share = np.bincount(one[labels == 2].numpy(), minlength=4) / 500
    np.testing.assert_allclose(share, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.08)
    three = complementary_classes(labels, 4, 9)
    assert three.shape == (2000, 3)
    assert all(
        {*row} | {y} == {0, 1, 2, 3} for row, y in zip(three.tolist(), labels.tolist(), strict=True)
    )
    assert complementary_classes(torch.tensor([0, 1]), 2, 1).tolist() == [[1], [0]]


def test_negative_loss_and_its_gradient() -> None:
    logits = drawn(5, 4).requires_grad_(True)
    classes = torch.tensor([[0, 1], [1, 3], [2, 0], [3, 1], [0, 2]])
    found = negative_loss(logits, classes)
    p = np.exp(logits.detach().numpy())
    p /= p.sum(1, keepdims=True)
    expected = [-np.mean([np.log(1 - p[i, k]) for k in row]) for i, row in enumerate(classes)]
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    by_hand = np.zeros_like(p)
    for i, row in enumerate(classes.tolist()):
        for k in row:  # d(-log(1 - p_k)) = p_k / (1 - p_k) (1_k - p), by the logits
            by_hand[i] += p[i, k] / (1 - p[i, k]) * (np.eye(4)[k] - p[i]) / 2
    np.testing.assert_allclose(gradient.numpy(), by_hand, rtol=1e-6, atol=1e-9)
    sure = negative_loss(torch.tensor([[50.0, 0.0]]), torch.tensor([[0]]))
    torch.testing.assert_close(sure, torch.tensor([-math.log(1e-5)]))


def test_pairs_that_ever_met_are_not_told_apart() -> None:
    query, stored = torch.tensor([[0, 1, 2]]), torch.tensor([[1, 1, 0], [1, 2, 0], [0, 1, 2]])
    assert never_alike(query, stored).tolist() == [[False, True, False]]


def test_views_agree() -> None:
    logits = drawn(4, 6, 3)
    mean, confidence, spread = view_agreement(logits)
    x = logits.numpy()
    p = (np.exp(x) / np.exp(x).sum(2, keepdims=True)).max(2)
    np.testing.assert_allclose(mean.numpy(), x.mean(0))
    np.testing.assert_allclose(confidence.numpy(), p.mean(0))
    np.testing.assert_allclose(spread.numpy(), p.std(0, ddof=1))


def test_reliable_rows_by_hand() -> None:
    confidence = torch.tensor([0.9, 0.9, 0.5, 0.4, 0.5, 0.4])
    spread = torch.tensor([0.01, 0.2, 0.1, 0.05, 0.02, 0.3])
    logits = torch.tensor([[9.0, 0], [9, 0], [1, 0], [2, 0], [8, 0], [8, 0]])
    # 0 is sure and steady; of the others 1 and 5 are unsteady, 2 and 3 undecided, 4 comes back
    assert reliable_rows(logits, confidence, spread).tolist() == [
        True,
        False,
        False,
        False,
        True,
        False,
    ]
    alike = torch.full((3,), 0.5)
    assert not reliable_rows(logits[:3], alike, alike).any()
    assert not reliable_rows(logits[:1], alike[:1], alike[:1]).any()


def test_a_class_without_reliable_images_gets_its_surest() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2])
    confidence = torch.tensor([0.9, 0.8, 0.7, 0.5, 0.6, 0.4, 0.3])
    kept = torch.tensor([True, True, False, False, False, False, True])
    found, weight = balanced_by_class(labels, confidence, kept, 4)
    # the smallest kept class has one image, so class 1 gets one; class 3 is nobody's
    assert found.tolist() == [True, True, False, False, True, False, True]
    assert weight.tolist() == [0.5, 1, 1, 1]
    assert kept.tolist().count(True) == 3  # the input stays
    nobody, _ = balanced_by_class(labels, confidence, torch.zeros(7, dtype=torch.bool), 4)
    assert not nobody.any()


def test_the_curriculum_hardly_moves_while_images_are_sure() -> None:
    u, c = torch.tensor([0.1, 0.3]), torch.tensor([0.7, 0.9])
    assert curriculum_factor(u, c, 0.5) == pytest.approx(1 - 0.5 * math.exp(-4))
    assert 1 - curriculum_factor(u / 2, 1.25 * c, 1.0) == pytest.approx(math.exp(-10))
    assert curriculum_factor(torch.zeros(2), c, 0.5) == 1.0


def test_squared_dispersion() -> None:
    p = drawn(5, 3).softmax(1).requires_grad_(True)
    found = dispersion(p, 64, squared=True)
    expected = torch.stack(
        [sum((p[i] @ p[j]) ** 2 for j in range(5) if j != i) * 63 / 4 for i in range(5)]
    )
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(x.mean(), p)[0] for x in (found, expected))
    torch.testing.assert_close(ours, theirs)
    assert dispersion(p[:1], squared=True).tolist() == [0.0]


def test_an_averaged_marginal_remembers() -> None:
    use, average = AveragedMarginal(0.5), None
    for seed in range(3):
        p = drawn(4, 3, seed=seed).softmax(1)
        average = p.mean(0) if average is None else (average + p.mean(0)) / 2
        torch.testing.assert_close(use.surprise(p), marginal_surprise(p, average))
    torch.testing.assert_close(use.average, average)


def test_running_covariances_are_those_of_all_images_so_far() -> None:
    running = RunningCovariance(3, 4, torch.zeros((), dtype=torch.float64))
    x, y = drawn(20, 4), torch.tensor([0, 1] * 10)  # class 2 has nobody
    for rows in torch.arange(20).split(6):
        last = x[rows].clone().requires_grad_(True)
        found = running.update(last, y[rows])
    for c in (0, 1):
        own = x[y == c].numpy()
        np.testing.assert_allclose(found[c].detach().numpy(), np.cov(own.T, bias=True), rtol=1e-9)
    assert float(found[2].detach().abs().max()) == 0
    assert running.amount.tolist() == [10, 10, 0]
    weight = drawn(3, 4, 4, seed=1)
    (ours,) = torch.autograd.grad((found * weight).sum(), last)
    total = torch.zeros((), dtype=torch.float64)
    for c in (0, 1):
        now = last[y[18:] == c]
        own = torch.cat((x[:18][y[:18] == c], now))
        away = own - own.mean(0)
        total = total + (away.T @ away / len(own) * weight[c]).sum()
    (theirs,) = torch.autograd.grad(total, last)
    torch.testing.assert_close(ours, theirs)


def test_augmented_surprise_by_loops() -> None:
    logits, weight = drawn(4, 3).requires_grad_(True), drawn(3, 5, seed=1).requires_grad_(True)
    root = drawn(3, 5, 5, seed=2)
    covariance = root @ root.mT
    labels = torch.tensor([2, 0, 2, 1])
    found = augmented_surprise(logits, weight, covariance, labels, 0.7)
    rows = []
    for n, y in enumerate(labels.tolist()):
        total = 0.0
        for c in range(3):
            away = weight - weight[c]
            raised = logits[n] + 0.35 * torch.einsum("jd,de,je->j", away, covariance[y], away)
            total = total + 2 * (raised.exp().sum().log() - raised[c])
        rows.append(total)
    expected = torch.stack(rows)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected)
    for leaf in (logits, weight):
        ours, theirs = (
            torch.autograd.grad(x.sum(), leaf, retain_graph=True)[0] for x in (found, expected)
        )
        torch.testing.assert_close(ours, theirs)
    plain = augmented_surprise(logits, weight, covariance, labels, 0.0)
    torch.testing.assert_close(plain, -2 * logits.log_softmax(1).sum(1))


def test_distance_of_covariances_leaves_out_classes_of_nobody() -> None:
    root = drawn(4, 5, 5, seed=3)
    covariance = (root @ root.mT).requires_grad_(True)
    p = torch.tensor(
        [[0.6, 0.3, 0.1, 0], [0.7, 0.1, 0.2, 0], [0.2, 0.7, 0.1, 0], [0.1, 0.3, 0.6, 0]]
    )
    found = covariance_distance(covariance, p.double())
    s = covariance.detach().numpy().reshape(4, -1)
    means = [p[:2].mean(0).numpy(), p[2].numpy(), p[3].numpy()]  # nobody is called the fourth
    expected = sum(
        means[c] @ means[d] * (1 - s[c] @ s[d] / np.linalg.norm(s[c]) / np.linalg.norm(s[d]))
        for c in range(3)
        for d in range(c + 1, 3)
    )
    assert float(found.detach()) == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(found, covariance)
    assert bool(gradient[:3].abs().sum() > 0)
    assert float(gradient[3].abs().max()) == 0
    nothing = torch.zeros(4, 5, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(covariance_distance(nothing, p), nothing)
    assert bool(torch.isfinite(gradient).all())


def test_ring_loss_and_where_the_node_overtakes_the_label() -> None:
    logits = drawn(6, 4).requires_grad_(True)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    found = ring_loss(logits, labels)
    x = logits.detach().numpy()
    for i, y in enumerate(labels.tolist()):
        others = [c for c in range(4) if c != y]
        lse = np.log(np.exp(x[i]).sum()), np.log(np.exp(x[i, others]).sum())
        assert float(found[i].detach()) == pytest.approx(lse[0] - x[i, y] + lse[1] - x[i, 3])
    # the gradient by the node's own logit vanishes in the middle of the two sums
    l_all = logits[:, :3].logsumexp(1)
    l_rest = logits[:, :3].scatter(1, labels[:, None], -torch.inf).logsumexp(1)
    best = torch.cat((logits[:, :3], ((l_all + l_rest) / 2)[:, None]), 1).detach()
    best.requires_grad_(True)
    (gradient,) = torch.autograd.grad(ring_loss(best, labels).sum(), best)
    np.testing.assert_allclose(gradient[:, 3].numpy(), 0, atol=1e-9)
    p = logits[:, :3].softmax(1).gather(1, labels[:, None]).squeeze(1)
    beaten = best[:, 3] > best.gather(1, labels[:, None]).squeeze(1)
    assert beaten.tolist() == (p < (math.sqrt(5) - 1) / 2).tolist()


def test_the_node_is_where_another_solver_finds_it() -> None:
    x, w = drawn(40, 5), drawn(3, 5, seed=1)
    logits = x @ w.T
    labels = logits.argmax(1)
    row, bias = fit_ring_node(x, logits, labels, penalty=0.01)

    def loss(node: np.ndarray) -> float:
        own = x.numpy() @ node[:5] + node[5]
        total = 0.0
        for i, y in enumerate(labels.tolist()):
            every = [*logits[i].tolist(), own[i]]
            rest = [value for c, value in enumerate(every) if c != y]
            total += np.log(np.exp(every).sum()) - every[y] + np.log(np.exp(rest).sum()) - own[i]
        return float(total / 40 + 0.005 * (node**2).sum())

    expected = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-7}).x
    np.testing.assert_allclose(row.numpy(), expected[:5], atol=1e-4)
    assert float(bias) == pytest.approx(expected[5], abs=1e-4)


def adam(x: np.ndarray, gradient: object, steps: int, rate: float) -> np.ndarray:
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t in range(1, steps + 1):
        g = gradient(x)  # type: ignore[operator]
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return x


def hinge_gradient(x: np.ndarray, floor: float) -> np.ndarray:
    std = np.sqrt(x.var(0, ddof=1) + floor)
    away = (x - x.mean(0)) / (len(x) - 1) / std
    return np.where(std < 1, -away, 0) / x.shape[1]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def test_spread_hinge() -> None:
    x = (drawn(7, 4) * torch.tensor([0.1, 0.5, 1.0, 3.0])).requires_grad_(True)
    std = np.sqrt(x.detach().numpy().var(0, ddof=1) + 0.01)
    found = spread_hinge(x, 0.01)
    assert float(found.detach()) == pytest.approx(np.maximum(0, 1 - std).mean())
    (gradient,) = torch.autograd.grad(found, x)
    np.testing.assert_allclose(gradient.numpy(), hinge_gradient(x.detach().numpy(), 0.01))


def test_known_points_are_those_of_a_numpy_adam_that_the_head_is_sure_of() -> None:
    x, w = drawn(30, 6), 2 * drawn(3, 6, seed=1)

    def gradient(points: np.ndarray) -> np.ndarray:
        p = softmax(points @ w.numpy().T)
        return (p - np.eye(3)[1]) @ w.numpy() / 30 + hinge_gradient(points, 1e-4)

    moved = adam(x.numpy(), gradient, 4, 1 / 4)
    sure = -np.log(softmax(moved @ w.numpy().T)[:, 1]) < 0.25 * np.log(3)
    found = known_points(x, lambda z: z @ w.T, 1, 3, steps=4, most=1000)
    assert 3 < sure.sum() < 30
    np.testing.assert_allclose(found.numpy(), moved[sure], rtol=1e-5, atol=1e-6)
    fewer = known_points(x, lambda z: z @ w.T, 1, 3, steps=4, most=4)
    torch.testing.assert_close(fewer, found[:4])
    # a head that is never sure: the three best
    vague = known_points(x, lambda z: 0.01 * z @ w.T, 1, 3, steps=4, most=1000)
    assert vague.shape == (3, 6)


def test_unknown_points_are_those_of_a_numpy_adam_that_the_head_is_at_a_loss_with() -> None:
    x, w = drawn(20, 6), drawn(3, 6, seed=1) / 2
    noise = torch.randn(40, 6, generator=torch.Generator().manual_seed(5)).double()
    start = x.repeat_interleave(2, 0).numpy() + 2 * noise.numpy()

    def gradient(points: np.ndarray) -> np.ndarray:
        p = softmax(points @ w.numpy().T)
        h = -(p * np.log(p)).sum(1, keepdims=True)
        return (p * (np.log(p) + h)) @ w.numpy() / 40 + hinge_gradient(points, 1e-3)

    moved = adam(start, gradient, 4, 1 / 4)
    p = softmax(moved @ w.numpy().T)
    lost = -(p * np.log(p)).sum(1) > 0.75 * np.log(3)
    generator = torch.Generator().manual_seed(5)
    found = unknown_points(x, lambda z: z @ w.T, steps=4, generator=generator)
    assert 3 < lost.sum() < 40
    np.testing.assert_allclose(found.numpy(), moved[lost], rtol=1e-5, atol=1e-6)
    sure = unknown_points(x, lambda z: 99 * z @ w.T, steps=1, generator=generator)
    assert len(sure) == 3


def test_groups_are_those_of_k_means_and_no_more_than_points() -> None:
    centres = 10 * torch.eye(3).repeat_interleave(5, 0)
    points = centres + 0.1 * drawn(15, 3)
    found = groups_of(points, 3, seed=0)
    expected = KMeans(3, n_init=3, random_state=0).fit_predict(points.numpy())
    assert found.tolist() == expected.tolist()
    assert len({tuple(sorted(set(found[i : i + 5].tolist()))) for i in (0, 5, 10)}) == 3
    assert sorted(groups_of(points[:2], 5, seed=0).tolist()) == [0, 1]
    assert F.one_hot(found, 3).sum(0).tolist() == [5, 5, 5]
