"""Losses and rules of the black-box methods against NumPy, their gradients, and closed forms."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from dabench.methods.functional import class_use, label_graph, noise, phase_mix, selection
from dabench.methods.functional.class_use import (
    ClassPrior,
    ClassUse,
    averaged_use,
    expected_use,
    held_to,
)
from dabench.methods.functional.losses import AveragedMarginal
from dabench.methods.functional.memory import blend

torch.set_num_threads(1)


def simplex(seed, rows=12, classes=4):
    return torch.as_tensor(np.random.default_rng(seed).dirichlet(np.ones(classes), rows))


def normal(seed, *shape):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_symmetric_kl_and_its_gradient():
    t, z = simplex(0), normal(1, 12, 4)
    t[0] = torch.eye(4, dtype=t.dtype)[2]
    p, labels = softmax(z.numpy()), t.numpy()
    log_t = np.log(np.maximum(labels, 1e-4))
    forward = (labels * (np.log(np.maximum(labels, 1e-10)) - np.log(p))).sum(1)
    backward = (p * (np.log(p) - log_t)).sum(1)
    np.testing.assert_allclose(noise.symmetric_kl(t, z, 0.7), forward + 0.7 * backward, atol=1e-6)
    np.testing.assert_allclose(
        noise.reverse_cross_entropy(torch.as_tensor(p), t), -(p * log_t).sum(1), atol=1e-12
    )
    assert gradcheck(lambda x: noise.symmetric_kl(t, x), (z.requires_grad_(),))


def test_a_wrong_hard_label_costs_a_bounded_amount_backwards():
    hard, sure = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(noise.reverse_cross_entropy(sure, hard)) == pytest.approx(-np.log(1e-4))


def sinkhorn(p, mass, sharpness):
    """Matrix scaling of P^s in plain NumPy, to rows of 1 / N and columns of ``mass``."""
    plan = p**sharpness
    for _ in range(5000):
        plan = plan * (mass / plan.sum(0))
        plan = plan / plan.sum(1, keepdims=True) / len(p)
    return plan * len(p)


@pytest.mark.parametrize("mass", [[0.25] * 4, [0.6, 0.2, 0.1, 0.1]])
def test_balanced_assignment_is_sinkhorns(mass):
    p, mass = simplex(3, 30), np.array(mass)
    found = noise.balanced_assignment(p, torch.as_tensor(mass), 3.0, 5000)
    np.testing.assert_allclose(found, sinkhorn(p.numpy(), mass, 3.0), atol=1e-5)
    np.testing.assert_allclose(found.mean(0), mass, atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-9)


def test_sure_answers_get_their_shares_in_the_default_rounds():
    """A hundred rounds leave a class more than .01 off its share here."""
    drawn = np.random.default_rng(0)
    p = torch.as_tensor(0.9 * np.eye(10)[drawn.integers(0, 10, 300) ** 2 % 10])
    p = p + 0.1 * torch.as_tensor(drawn.dirichlet(np.ones(10), 300))
    mass = torch.as_tensor(drawn.dirichlet(10 * np.ones(10)))
    few = noise.balanced_assignment(p, mass, 25.0, 100).mean(0)
    assert float((few - mass).abs().max()) > 0.01
    found = noise.balanced_assignment(p, mass, 25.0).mean(0)
    assert float((found - mass).abs().max()) < 1e-3


def test_uniform_sizes_are_wrong_where_classes_are_not():
    """Nine sure images of class 0 and one of class 1: equal sizes take four from class 0."""
    p = torch.tensor([[0.99, 0.01]] * 9 + [[0.01, 0.99]])
    kept = noise.balanced_assignment(p, p.mean(0), 1.0, 500)
    forced = noise.balanced_assignment(p, torch.tensor([0.5, 0.5]), 1.0, 500)
    assert float(kept[:, 0].sum()) == pytest.approx(8.92, abs=1e-3)
    assert float(forced[:, 0].sum()) == pytest.approx(5.0, abs=1e-3)


def test_assignment_of_equal_images_and_of_an_empty_class():
    alike = torch.full((6, 3), 1 / 3)
    mass = torch.tensor([0.5, 0.5, 0.0])
    found = noise.balanced_assignment(alike, mass, 25.0)
    torch.testing.assert_close(found, mass.expand(6, 3), atol=1e-6, rtol=0)


def test_the_smallest_share():
    values = torch.tensor([3.0, 1.0, 1.0, 2.0, 5.0, 4.0, 9.0, 8.0, 7.0, 6.0])
    assert selection.smallest_share(values, 0.3).nonzero().flatten().tolist() == [1, 2, 3]
    assert not selection.smallest_share(values, 0.05).any()
    # of equal values the earlier ones
    assert selection.smallest_share(torch.ones(5), 0.4).tolist() == [True, True, *[False] * 3]


def test_thresholds_by_class():
    p = torch.tensor([[0.97, 0.02, 0.01]] * 4 + [[0.01, 0.98, 0.01]] + [[0.2, 0.2, 0.6]])
    found = selection.class_thresholds(p, 0.95, 0.5)
    np.testing.assert_allclose(found, [0.95, 0.95 * (1 / 4) ** 0.5, 0.0], atol=1e-6)
    assert selection.class_thresholds(torch.full((4, 3), 1 / 3), 0.95, 0.05) is None


def weak_by_hand(p, labels, share):
    """RFC's ranks, class by class."""
    k = p.shape[1]
    h = -(p * np.log(p)).sum(1)
    there = [c for c in range(k) if (labels == c).any()]
    counts = {c: int((p.argmax(1) == c).sum()) for c in there}
    doubts = {c: h[labels == c].mean() for c in there}
    first = {c: r for r, c in enumerate(sorted(there, key=lambda c: counts[c]))}
    second = {c: r for r, c in enumerate(sorted(there, key=lambda c: -doubts[c]))}
    return sorted(there, key=lambda c: first[c] + second[c])[: max(1, int(share * k))]


@pytest.mark.parametrize("seed", range(4))
def test_weak_classes_by_hand(seed):
    p = simplex(seed, 40, 6)
    labels = np.random.default_rng(seed).integers(0, 5, 40)  # class 5 has no image
    found = selection.weak_classes(p, torch.as_tensor(labels), 0.5).tolist()
    assert found == weak_by_hand(p.numpy(), labels, 0.5)
    assert 5 not in found


def test_two_classes_leave_one_to_review():
    p, labels = simplex(0, 10, 2), torch.tensor([0] * 9 + [1])
    assert len(selection.weak_classes(p, labels, 0.2)) == 1


def test_rows_to_review():
    labels = torch.tensor([0] * 16 + [1] * 4 + [2] * 9)
    loss = torch.arange(29.0).flip(0)
    rows = selection.review_rows(loss, labels, torch.tensor([0, 1, 2]), 0.4)
    # the median is 9: .4 sqrt(9 n) = 4.8, 2.4, 3.6
    assert rows.tolist() == [15, 14, 13, 12, 19, 18, 28, 27, 26]
    lone = selection.review_rows(torch.zeros(1), torch.tensor([3]), torch.tensor([3]), 0.4)
    assert lone.tolist() == [0]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_the_rescaled_share(share):
    def by_hand(r, k):
        if r > 0.5:
            return (-2 * (r - 1)) ** (1 / k) / (-2) + 1
        return (2 * r) ** (1 / k) / 2

    for power in (1.0, 2.0):
        assert selection.rescaled_share(share, power) == pytest.approx(by_hand(share, power))
    assert selection.rescaled_share(share, 1.0) == pytest.approx(share)


def test_class_scores_keep_the_best_of_each_class():
    memory = selection.ClassScores(2, 4)
    labels = torch.tensor([0, 0, 1, 0])
    first = memory.select(torch.tensor([0.9, 0.1, 0.2, 0.5]), labels, 0.5)
    assert first.all()  # nothing is remembered: the cut is 0
    assert memory.scores[0].tolist() == pytest.approx([0.0, 0.9, 0.1, 0.5])
    # the second best of class 0 is .5, of class 1 it is 0
    second = memory.select(torch.tensor([0.6, 0.4, 0.1, 0.55]), labels, 0.5)
    assert second.tolist() == [True, False, True, True]
    assert memory.scores[0].tolist() == pytest.approx([0.5, 0.6, 0.4, 0.55])


@pytest.mark.parametrize("length", [5, 8, 31, 62, 100])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_class_scores_let_their_share_through(length: int, share: float):
    generator = torch.Generator().manual_seed(0)
    memory, passed = selection.ClassScores(1, length), []
    labels = torch.zeros(16, dtype=torch.int64)
    for _ in range(400):
        chosen = memory.select(torch.rand(16, generator=generator), labels, share)
        passed.append(chosen.float().mean())
    step = 1 / (length + 1)  # the cut lies at one of the kept scores
    assert torch.stack(passed[20:]).mean() == pytest.approx(share, abs=step / 2 + 0.02)


def test_two_images_learn_at_least():
    memory = selection.ClassScores(2, 2)
    memory.scores[:] = 1.0
    chosen = memory.select(torch.tensor([0.1, 0.3, 0.2]), torch.tensor([0, 0, 1]), 0.5)
    assert chosen.tolist() == [False, True, True]
    assert memory.select(torch.tensor([0.1]), torch.tensor([1]), 0.5).tolist() == [True]


LABELS = (torch.tensor([0, 1, 1]), torch.tensor([0, 1, 1, 1, 0]))
RELIABLE = (torch.tensor([True, True, False]), torch.tensor([True, True, False, True, False]))


def test_the_label_graph_by_hand():
    similarity = torch.tensor([[0.0] * 5, [0.0] * 5, [0.9, 0.1, 0.2, 0.3, 0.8]])
    found = label_graph.label_graph(similarity, LABELS, RELIABLE, weight=0.2, neighbours=2)
    rows = np.array([[1, 0, 0, 0, 0.2], [0, 1, 0.2, 1, 0], [0.2, 0.2, 1, 0.2, 0.2]])
    np.testing.assert_allclose(found, rows / rows.sum(1, keepdims=True), atol=1e-6)
    few = label_graph.label_graph(similarity, LABELS, RELIABLE, weight=0.2, neighbours=99)
    assert bool((few[2] > 0).all())


def test_contrast_along_the_graph_and_its_gradient():
    q, k = normal(0, 3, 6), torch.as_tensor(unit(normal(1, 5, 6).numpy()))
    z = unit(q.numpy())
    log_p = np.log(softmax(z @ k.numpy().T / 0.5))
    graph = label_graph.label_graph(
        torch.as_tensor(z) @ k.T, LABELS, RELIABLE, weight=0.2, neighbours=2
    )

    def loss(x):
        x = nn.functional.normalize(x, dim=1)
        return label_graph.graph_contrast(
            x, k, LABELS, RELIABLE, weight=0.2, neighbours=2, temperature=0.5
        )

    assert float(loss(q)) == pytest.approx(-(graph.numpy() * log_p).sum(1).mean(), abs=1e-6)
    assert gradcheck(loss, (q.requires_grad_(),))


def test_prototypes_follow_and_answer():
    z = torch.as_tensor(unit(normal(0, 4, 3).numpy()))
    labels, old = torch.tensor([0, 0, 2, 2]), torch.zeros(3, 3, dtype=z.dtype)
    first = label_graph.blended_prototypes(old, z, labels, 0.9)
    np.testing.assert_allclose(first[0], unit(z[:2].numpy().mean(0)), atol=1e-9)
    assert not first[1].any()
    again = label_graph.blended_prototypes(first, z, labels, 0.9)
    by_hand = 0.81 * first[2].numpy() + 0.19 * z[2:].numpy().mean(0)
    np.testing.assert_allclose(again[2], unit(by_hand), atol=1e-9)
    answer = label_graph.prototype_answer(z, first, 0.07)
    expected = softmax(z.numpy() @ first.numpy()[[0, 2]].T / 0.07)
    np.testing.assert_allclose(answer[:, [0, 2]], expected, atol=1e-9)
    assert not answer[:, 1].any()  # a class without a prototype is nobody's
    np.testing.assert_allclose(label_graph.prototype_answer(z, old, 0.07), 1 / 3)


def test_targets_by_group():
    p, proto = simplex(0, 3, 3), simplex(1, 3, 3)
    easy, sure = torch.tensor([True, False, False]), torch.tensor([True, True, False])
    found = label_graph.aligned_targets(torch.tensor([2, 0, 0]), p, proto, easy, sure)
    np.testing.assert_allclose(found[0], [0, 0, 1])
    top, own = float(p[1].max()), int(p[1].argmax())
    np.testing.assert_allclose(found[1], (1 - top) * proto[1] + top * torch.eye(3)[own], atol=1e-9)
    np.testing.assert_allclose(found[2], proto[2])


def test_phases_are_mixed_and_amplitudes_stay():
    images = torch.rand(4, 3, 8, 6, generator=torch.Generator().manual_seed(0)).double() / 2 + 0.25
    order, share = torch.tensor([1, 0, 3, 2]), 0.3
    spectrum = np.fft.fft2(images.numpy())
    phasor = spectrum / np.abs(spectrum)
    mixed = (1 - share) * phasor + share * phasor[order]
    expected = np.fft.ifft2(np.abs(spectrum) * mixed / np.abs(mixed))
    assert np.abs(expected.imag).max() < 1e-9
    found = phase_mix.phase_mix(images, order, share)
    np.testing.assert_allclose(found, expected.real.clip(0, 1), atol=1e-5)
    same = phase_mix.phase_mix(images, order, 0.0)
    np.testing.assert_allclose(same, images, atol=1e-9)
    # nothing passes between channels (the authors' file transforms along them)
    other = images.clone()
    other[:, 1] = 0.5
    changed = phase_mix.phase_mix(other, order, share)
    np.testing.assert_allclose(changed[:, [0, 2]], found[:, [0, 2]], atol=1e-9)


def test_a_narrower_network_and_back():
    net = nn.Sequential(nn.Conv2d(3, 10, 1), nn.Conv2d(10, 4, 1))
    images = torch.rand(2, 3, 5, 5)
    with phase_mix.narrowed(net, 0.7):
        inner, found = net[0](images), net(images)
    assert inner[:, 7:].abs().sum() == 0
    assert bool((inner[:, :7].abs().sum((0, 2, 3)) > 0).all())
    by_hand = net[1](torch.cat((net[0](images)[:, :7], torch.zeros(2, 3, 5, 5)), 1))
    by_hand[:, 3:] = 0
    torch.testing.assert_close(found, by_hand)
    assert net(images)[:, 3:].abs().sum() > 0
    with phase_mix.narrowed(net, 0.01):
        assert net[0](images)[:, 0].abs().sum() > 0


def test_the_gradients_that_disagree_are_autograds():
    head = nn.Linear(5, 4, bias=False).double()
    t, weight = simplex(0, 6), torch.as_tensor(np.random.default_rng(1).uniform(0.5, 2, 6))
    found, pairs = [], []
    for seed in (2, 3):
        z = normal(seed, 6, 5)
        loss = (-(t * head(z).log_softmax(1)).sum(1) * weight).sum() / weight.sum()
        found.append(torch.autograd.grad(loss, head.weight)[0].flatten())
        pairs.append((z, head(z).softmax(1).detach()))
    cosine = float(found[0] @ found[1] / found[0].norm() / found[1].norm())
    value = phase_mix.gradient_disagreement(pairs[0], pairs[1], t, weight)
    assert float(value) == pytest.approx(1 - cosine, abs=1e-5)
    z = normal(4, 6, 5).requires_grad_()

    def by_features(x):
        return phase_mix.gradient_disagreement(
            pairs[0], (x, (x @ head.weight.T).softmax(1)), t, weight
        )

    assert gradcheck(by_features, (z,))


@pytest.mark.parametrize("kept", [0.0, 0.6, torch.tensor([[0.2], [1.0]])])
def test_blend_is_one_step_of_a_moving_average(kept: float | torch.Tensor) -> None:
    old, new = torch.rand(2, 3).double(), torch.rand(2, 3).double()
    found, share = blend(old, new, kept), np.broadcast_to(np.asarray(kept), (2, 3))
    for i in range(2):
        for j in range(3):
            by_hand = share[i, j] * float(old[i, j]) + (1 - share[i, j]) * float(new[i, j])
            assert float(found[i, j]) == pytest.approx(by_hand, abs=1e-7)


@pytest.mark.parametrize("prior", ["uniform", "oracle-mean", "none"])
@pytest.mark.parametrize("memory", [0.0, 0.7])
def test_use_of_classes_against_a_prior(prior: ClassPrior, memory: float) -> None:
    """-sum m log (a / e), a = the average so far, and its gradient, in NumPy."""
    answers = torch.rand(9, 4).double().softmax(1)
    answers[:, 3] = 0
    expected = np.full(4, 0.25)
    if prior == "oracle-mean":
        expected = np.maximum(answers.numpy().mean(0), 1e-6)
    np.testing.assert_allclose(expected_use(prior, answers).numpy(), expected)
    use, average = ClassUse(prior, answers, memory), expected
    for seed in range(3):
        draws = torch.Generator().manual_seed(seed)
        p = torch.randn(5, 4, generator=draws).double().softmax(1).requires_grad_()
        m = p.detach().numpy().mean(0)
        average = memory * average + (1 - memory) * m
        found = use.surprise(p)
        (gradient,) = torch.autograd.grad(found, p)
        weight = np.zeros(4) if prior == "none" else -np.log(average / expected)
        assert float(found.detach()) == pytest.approx(float(m @ weight), abs=1e-12)
        np.testing.assert_allclose(gradient.numpy(), np.tile(weight / 5, (5, 1)), atol=1e-12)


def test_uniform_use_is_information_maximisations_term_or_its_average() -> None:
    answers = torch.rand(9, 4).softmax(1)
    assert held_to("uniform", answers, 0.0) is None
    averaged = held_to("uniform", answers, 0.5)
    assert type(averaged) is AveragedMarginal
    assert averaged.average is None
    assert type(held_to("none", answers, 0.0)) is ClassUse
    started = averaged_use("uniform", answers, 0.5)
    p = torch.rand(5, 4).softmax(1)
    above = float(started.surprise(p) - ClassUse("uniform", answers, 0.5).surprise(p))
    assert above == pytest.approx(np.log(4), abs=1e-5)
    assert type(averaged_use("oracle-mean", answers, 0.5)) is ClassUse


def test_rebalanced_answers_use_every_class_alike():
    generator = torch.Generator().manual_seed(0)
    answers = torch.softmax(2 * torch.randn(500, 4, generator=generator) + torch.arange(4), 1)
    # one round, as a loop: p_ik / mean_k, rows of sum 1
    expected = torch.zeros(500, 4)
    for i in range(500):
        for k in range(4):
            expected[i, k] = answers[i, k] / answers[:, k].mean()
        expected[i] = expected[i] / expected[i].sum()
    torch.testing.assert_close(class_use.rebalanced("uniform", answers, 1), expected)
    many = class_use.rebalanced("uniform", answers, 50)
    torch.testing.assert_close(many.mean(0), torch.full((4,), 0.25), atol=1e-4, rtol=0)
    # within a class the order of odds against another one stays
    odds = [(p[:, 0] / p[:, 3]).argsort() for p in (answers, many)]
    assert torch.equal(*odds)
    assert class_use.rebalanced("none", answers) is answers
    assert class_use.rebalanced("oracle-mean", answers) is answers
    never = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # a class that nobody names
    assert torch.isfinite(class_use.rebalanced("uniform", never)).all()
