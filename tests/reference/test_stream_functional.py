"""Parts of test-time adaptation against NumPy, and where published code goes wrong."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dabench.errors import ConfigError
from dabench.methods.functional import (
    certainty_diversity,
    destroyed_views,
    kalman,
    laplacian,
    losses,
    moving_norm,
    normalisation,
    support_set,
)


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# -- LAME ---------------------------------------------------------------------------------------


def unit_rows(z):
    z = z.numpy()
    return z / np.linalg.norm(z, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_affinity_matrix(k):
    z = normal(0, 7, 4)
    u = unit_rows(z)
    distance = np.array([[np.linalg.norm(a - b) for b in u] for a in u])
    if k > 1:
        sigma = np.mean(np.sort(distance, axis=1)[:, min(k, 7) - 1])
        found = laplacian.affinity_matrix(z, "rbf", k)
        np.testing.assert_allclose(found, np.exp(-0.5 * (distance / sigma) ** 2), rtol=1e-9)
    near = np.zeros((7, 7))
    for i, row in enumerate(distance):
        others = [j for j in np.argsort(row) if j != i]
        near[i, others[:k]] = 1
    np.testing.assert_array_equal(laplacian.affinity_matrix(z, "knn", k), near)
    np.testing.assert_allclose(laplacian.affinity_matrix(z, "linear", k), u @ u.T, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_affinities_where_the_width_is_zero(dtype):
    """A batch of one, equal features, k = 1: the authors' code divides by 0."""
    one = normal(0, 1, 4).to(dtype)
    assert laplacian.affinity_matrix(one, "rbf", 5).tolist() == [[1.0]]
    assert laplacian.affinity_matrix(one, "knn", 5).tolist() == [[0.0]]
    same = laplacian.affinity_matrix(one.expand(6, -1), "rbf", 5)
    assert torch.equal(same, torch.ones(6, 6, dtype=dtype))
    apart = laplacian.affinity_matrix(normal(1, 5, 4).to(dtype), "rbf", 1)
    assert torch.equal(apart, torch.eye(5, dtype=dtype))
    assert torch.isfinite(laplacian.affinity_matrix(torch.zeros(3, 4), "rbf", 5)).all()


def test_agreeing_assignments():
    p = (2 * normal(0, 6, 3)).softmax(1)
    torch.testing.assert_close(
        laplacian.agreeing_assignments(p, torch.ones(6, 6).double(), 0.0), p, rtol=1e-8, atol=1e-8
    )
    alone = laplacian.agreeing_assignments(p[:1], torch.ones(1, 1).double(), 1.0)
    assert int(alone.argmax()) == int(p[0].argmax())
    # a fixed point: Y = softmax(log p + W Y)
    w = laplacian.affinity_matrix(normal(1, 6, 4), "rbf", 3)
    y = laplacian.agreeing_assignments(p, w, 0.5, steps=2000)
    torch.testing.assert_close(y, ((p + 1e-10).log() + 0.5 * w @ y).softmax(1))


def test_neighbours_outvote_one_that_errs_and_ruin_a_shuffled_batch():
    """What LAME is for, and what it does to a batch of all classes whose features are near."""
    p = torch.tensor([[0.6, 0.4]] * 5 + [[0.4, 0.6]]).double()
    y = laplacian.agreeing_assignments(p, torch.ones(6, 6).double(), 1.0)
    assert y.argmax(1).tolist() == [0] * 6


# -- T3A ----------------------------------------------------------------------------------------


def test_prototypes():
    z, labels = normal(0, 6, 4), torch.tensor([0, 2, 2, 0, 0, 2])
    u = unit_rows(z)
    sums = np.array([u[labels.numpy() == c].sum(0) for c in range(3)])
    lengths = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(support_set.prototypes(z, labels, 3), sums / lengths)


def head_of(weight):
    head = nn.Linear(weight.shape[1], weight.shape[0]).to(weight.dtype)
    head.load_state_dict({"weight": weight, "bias": torch.zeros(len(weight)).to(weight)})
    return head


def test_all_supports_are_kept_and_the_worst_is_not_dropped():
    """In the authors' code "all" ends as [:-1], which drops the worst of every class each time."""
    head = head_of(torch.eye(3).double() * 4)
    kept = support_set.SupportSet(head, 0)
    z = torch.tensor([[2.0, 1.9, 0.0], [3.0, 0.0, 0.0], [0.0, 2.0, 1.0]]).double()
    for _ in range(2):
        kept.add(z, head(z))
    assert kept.labels.bincount().tolist() == [1 + 2 * 2, 1 + 2, 1]
    few = support_set.SupportSet(head, 2)
    few.add(z, head(z))
    assert few.labels.bincount().tolist() == [2, 2, 1]
    assert not (few.rows == z[0]).all(1).any()  # the least sure of class 0


def test_a_row_that_the_classifier_gives_to_another_class():
    """Its own class is left without a support, and has the logit 0."""
    head = head_of(torch.tensor([[1.0, 0.0], [3.0, 0.1], [0.0, 1.0]]).double())
    kept = support_set.SupportSet(head, 5)
    assert sorted(kept.labels.tolist()) == [1, 1, 2]
    answer = kept.answer(torch.tensor([[1.0, 1.0]]).double())
    assert answer[0, 0] == 0
    assert (answer[0, 1:] > 0).all()


def test_supports_of_a_checkpoint_replace_what_is_there():
    head = head_of(torch.eye(3).double())
    one, other = (support_set.SupportSet(head, 0) for _ in range(2))
    one.add(normal(0, 5, 3), normal(1, 5, 3))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.answer(normal(2, 4, 3)), other.answer(normal(2, 4, 3)))


# -- losses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 10, 1000])
def test_opinion_entropy(k):
    logits = 3 * normal(0, 6, k)
    e = np.exp(logits.numpy())
    q = np.concatenate((e, np.full((6, 1), k)), 1) / (e.sum(1, keepdims=True) + k) + 1e-7
    np.testing.assert_allclose(losses.opinion_entropy(logits), -(q * np.log(q)).sum(1), rtol=1e-9)
    even = float(losses.opinion_entropy(torch.zeros(1, k).double()))
    # u = 1/2, and 1/2 over K classes: 1000 in place of K would give almost 0
    assert even == pytest.approx(math.log(2) + 0.5 * math.log(k), abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_opinion_entropy_of_large_logits(dtype):
    """exp(l) overflows from 11 on in half precision; from 89 on in single."""
    logits = torch.tensor([[200.0, -200.0, 3.0], [0.0, 0.0, 0.0]], dtype=dtype, requires_grad=True)
    found = losses.opinion_entropy(logits)
    torch.autograd.backward(found.sum())
    assert torch.isfinite(found).all()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert abs(float(found[0].detach())) < 1e-2


def test_the_norm_of_logits_gets_no_gradient_of_the_opinion():
    logits = normal(0, 4, 5).requires_grad_(True)
    (g,) = torch.autograd.grad(losses.opinion_entropy(logits).sum(), logits)
    assert g.abs().sum() > 0.1
    torch.testing.assert_close((g * logits).sum(1), torch.zeros(4).double(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("q", [0.3, 0.8, 1.0])
def test_generalised_cross_entropy(q):
    p, labels = normal(0, 6, 4).softmax(1), torch.tensor([0, 1, 2, 3, 0, 1])
    expected = [(1 - float(row[y]) ** q) / q for row, y in zip(p, labels, strict=True)]
    np.testing.assert_allclose(losses.generalised_cross_entropy(p, labels, q), expected)


# -- ROID and CMF -------------------------------------------------------------------------------


def test_scaled_to_unit():
    assert certainty_diversity.scaled_to_unit(torch.tensor([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]
    assert certainty_diversity.scaled_to_unit(torch.full((3,), 0.7)).tolist() == [0, 0, 0]


def test_certainty_diversity_weights():
    p, average = (2 * normal(0, 9, 4)).softmax(1), normal(1, 4).softmax(0)
    a, m = p.numpy(), average.numpy()
    d = np.array([1 - row @ m / np.linalg.norm(row) / np.linalg.norm(m) for row in a])
    c = np.array([(row * np.log(row)).sum() for row in a])
    d, c = ((v - v.min()) / (v.max() - v.min()) for v in (d, c))
    expected = np.where(d < d.mean(), 0, np.exp(3 * d * c))
    found = certainty_diversity.certainty_diversity_weights(p, average, 1 / 3)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert 0 < (expected > 0).sum() < 9


@pytest.mark.parametrize("count", [1, 6])
def test_a_batch_without_a_difference_counts_fully(count):
    """(x - min) / (max - min) is 0 / 0 in the authors' code."""
    p = torch.tensor([[0.7, 0.2, 0.1]]).expand(count, -1)
    weights = certainty_diversity.certainty_diversity_weights(p, torch.full((3,), 1 / 3), 1 / 3)
    assert weights.tolist() == [1.0] * count


def test_soft_likelihood_ratio():
    p = (3 * normal(0, 6, 4)).softmax(1)
    p[0] = torch.tensor([1.0, 0, 0, 0])
    a = np.minimum(p.numpy(), 0.99)
    expected = -(a * np.log(a / (1 - a) + 1e-5)).sum(1)
    np.testing.assert_allclose(certainty_diversity.soft_likelihood_ratio(p), expected, rtol=1e-9)


def test_symmetric_cross_entropy():
    one, other = normal(0, 5, 4).requires_grad_(True), normal(1, 5, 4).requires_grad_(True)
    p, q = (v.detach().softmax(1).numpy() for v in (one, other))
    expected = -0.5 * (q * np.log(p)).sum(1) - 0.5 * (p * np.log(q)).sum(1)
    found = certainty_diversity.symmetric_cross_entropy(one, other)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-9)
    assert all(g.any() for g in torch.autograd.grad(found.sum(), (one, other)))


@pytest.mark.parametrize(("n", "k"), [(1, 4), (8, 4), (3, 1000), (5, 2)])
def test_smoothed_prior(n, k):
    p = normal(0, n, k).softmax(1)
    m = p.numpy().mean(0)
    s = max(1 / n, 1 / k) / m.max()
    found = certainty_diversity.smoothed_prior(p)
    np.testing.assert_allclose(found, (m + s) / (1 + s * k), rtol=1e-9)
    assert float(found.sum()) == pytest.approx(1)


def test_kalman_gain():
    variance, expected = 0.0, 0.0
    for _ in range(5):
        b, variance = kalman.kalman_gain(variance, 0.99, 0.01)
        expected = 0.99**2 * expected + 0.01
        gain = 0.99 / (expected + 0.99)
        expected *= gain
        assert (b, variance) == (pytest.approx(gain), pytest.approx(expected))
    assert kalman.kalman_gain(0.0, 0.99, 1e-6)[0] == 1.0
    assert kalman.kalman_gain(9.0, 0.99, 0.5)[0] == 0.89
    assert kalman.kalman_gain(0.0, 0.99, 7.0)[0] == 0.89  # a network with very many parameters


# -- DeYO ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "grid"), [((8, 8), 4), ((12, 6), 3), ((4, 4), 4)])
def test_shuffled_patches(size, grid):
    x = torch.arange(2 * 3 * size[0] * size[1]).view(2, 3, *size).double()
    torch.manual_seed(0)
    found = destroyed_views.shuffled_patches(x, grid)
    torch.manual_seed(0)
    orders = torch.rand(2, grid * grid).argsort(1)
    high, wide = size[0] // grid, size[1] // grid
    for i in range(2):
        for to, start in enumerate(orders[i].tolist()):
            (a, b), (c, d) = divmod(to, grid), divmod(start, grid)
            at = (slice(None), slice(a * high, a * high + high), slice(b * wide, b * wide + wide))
            of = (slice(None), slice(c * high, c * high + high), slice(d * wide, d * wide + wide))
            assert torch.equal(found[i][at], x[i][of])
    assert orders[0].tolist() != orders[1].tolist()


def test_sides_that_are_no_multiple_of_the_grid():
    x = normal(0, 2, 3, 10, 11).float()
    assert destroyed_views.shuffled_patches(x, 4).shape == x.shape
    with pytest.raises(ValueError, match="4 patches a side"):
        destroyed_views.shuffled_patches(x[..., :3], 4)


def test_destroyed_view():
    x = normal(0, 3, 3, 8, 8)
    middle = destroyed_views.destroyed_view(x, "occlusion", 4)
    assert torch.equal(middle, destroyed_views.occluded(x))
    expected = x.numpy().copy()
    expected[:, :, 2:6, 2:6] = x.numpy().mean((2, 3))[:, :, None, None]
    np.testing.assert_allclose(middle, expected)
    torch.manual_seed(0)
    pixels = destroyed_views.destroyed_view(x, "pixels", 4)
    torch.manual_seed(0)
    order = torch.randperm(64).numpy()
    np.testing.assert_array_equal(pixels.flatten(2), x.flatten(2).numpy()[:, :, order])


def test_pseudo_label_drop():
    p, other = normal(0, 5, 4).softmax(1), normal(1, 5, 4).softmax(1)
    label = p.numpy().argmax(1)
    rows = np.arange(5)
    expected = p.numpy()[rows, label] - other.numpy()[rows, label]
    np.testing.assert_allclose(destroyed_views.pseudo_label_drop(p, other), expected)


# -- BatchNorm that moves -----------------------------------------------------------------------


def norms():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(12)).double()
    for layer in (net[0], net[2]):
        layer.running_mean.copy_(normal(1, layer.num_features))
    return net


def test_move_statistics_is_a_pass_in_train_mode():
    net, plain = norms().eval(), norms()
    moving_norm.use_moving_statistics(net, "bn-ema")
    for i, momentum in enumerate((0.1, 0.3)):
        x = normal(i, 5, 3, 2, 2)
        for layer in (plain[0], plain[2]):
            layer.momentum = momentum
        plain.train()(x)
        moving_norm.move_statistics(net, x, momentum)
        for key, value in net.state_dict().items():
            if "tracked" not in key:
                torch.testing.assert_close(value, plain.state_dict()[key])
        torch.testing.assert_close(net(x), plain.eval()(x))
    state = copy.deepcopy(net.state_dict())
    net.train()(normal(9, 5, 3, 2, 2))  # an answer moves nothing, in any mode
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in state.items())


def test_statistics_of_one_value_a_channel_stay():
    net = norms().eval()
    moving_norm.use_moving_statistics(net, "dua")
    before = copy.deepcopy(net.state_dict())
    moving_norm.move_statistics(net, normal(0, 1, 3, 2, 2), 0.5)
    after = net.state_dict()
    assert not torch.equal(before["0.running_var"], after["0.running_var"])
    assert torch.equal(before["2.running_var"], after["2.running_var"])


def test_networks_without_statistics_are_refused():
    with pytest.raises(ConfigError, match="dua: the source model has no BatchNorm"):
        moving_norm.use_moving_statistics(nn.Sequential(nn.LayerNorm(3)), "dua")


def test_exchange_batch_norms():
    net = norms()
    made = normalisation.exchange_batch_norms(
        net, lambda layer: normalisation.BlendedNorm(layer, 0.5)
    )
    assert made == 2
    assert [getattr(layer, "rho", None) for layer in net] == [0.5, None, 0.5]


def test_cropped_and_turned():
    x = normal(0, 1, 3, 16, 16).abs() + 1
    torch.manual_seed(0)
    views = moving_norm.cropped_and_turned(x.expand(200, -1, -1, -1), True)
    padded = F.pad(x[0], (2, 2, 2, 2))
    possible = {
        padded[:, a : a + 16, b : b + 16].rot90(turn, (1, 2)).numpy().tobytes()
        if not mirror
        else padded[:, a : a + 16, b : b + 16].flip(-1).rot90(turn, (1, 2)).numpy().tobytes()
        for a in range(5)
        for b in range(5)
        for turn in range(4)
        for mirror in (False, True)
    }
    seen = {view.numpy().tobytes() for view in views}
    assert seen <= possible
    assert len(seen) > 100
