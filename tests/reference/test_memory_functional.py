"""Memory, views, contrast and class statistics against loops of their own, NumPy and Pillow."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.nn import functional as F

from dabench.methods.functional import (
    class_statistics,
    contrastive,
    many_views,
    moving_norm,
    normalisation,
    timely_memory,
)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- memory -------------------------------------------------------------------------------------


class Items:
    """CSTU by its rules, as lists by class."""

    def __init__(self, size, k, t=1.0, u=1.0):
        self.size, self.k, self.t, self.u = size, k, t, u
        self.items = [[] for _ in range(k)]

    def score(self, h, age):
        return self.t / (1 + math.exp(-age / self.size)) + self.u * h / math.log(self.k)

    def offer(self, number, label, h):
        counts = [len(items) for items in self.items]
        rivals, fits = [], True
        if counts[label] >= self.size / self.k:
            rivals = [label]
        elif sum(counts) == self.size:
            rivals = [k for k in range(self.k) if counts[k] == max(counts)]
        if rivals:
            scores = [
                (self.score(*item[1:]), k, i)
                for k in rivals
                for i, item in enumerate(self.items[k])
            ]
            worst, k, i = max(scores)
            fits = worst > self.score(h, 0)
            if fits:
                del self.items[k][i]
        if fits:
            self.items[label].append([number, h, 0])
        for items in self.items:
            for item in items:
                item[2] += 1

    def held(self):
        return sorted((i[0], k, i[2]) for k, items in enumerate(self.items) for i in items)


@pytest.mark.parametrize(("size", "k"), [(64, 10), (6, 3), (7, 3), (4, 9), (1, 2)])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.0, 1.0), (2.0, 0.1)])
def test_the_memory_is_cstu(size, k, weights):
    """Bursts of classes, batches of different sizes; each picture is its number in grey."""
    rng = np.random.default_rng(size)
    memory = timely_memory.TimelyMemory(size, k, 2, *weights)
    items = Items(size, k, *weights)
    number = 0
    for burst in range(12):
        count = int(rng.integers(1, 12))
        labels = np.where(rng.random(count) < 0.7, burst % k, rng.integers(0, k, count))
        h = rng.random(count) * math.log(k)
        numbers = np.arange(number, number + count)
        grey = torch.from_numpy(numbers / 255).float().view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
        memory.offer(grey, torch.from_numpy(labels), torch.from_numpy(h))
        for one in zip(numbers.tolist(), labels.tolist(), h.tolist(), strict=True):
            items.offer(*one)
        number += count
        images, ages = memory.recall()
        shown = (images[:, 0, 0, 0] * 255).round().int().tolist()
        stored = memory.labels[memory.labels >= 0].tolist()
        assert sorted(zip(shown, stored, ages.tolist(), strict=True)) == items.held()
        assert len(memory) <= size
    assert number <= 255


def test_with_more_classes_than_places_a_class_has_one():
    memory = timely_memory.TimelyMemory(4, 9, 2)
    for label in [0, 0, 0, 1, 2, 3, 4, 5, 5, 6]:
        memory.offer(torch.rand(1, 3, 2, 2), torch.tensor([label]), torch.tensor([0.1]))
        assert memory.labels[memory.labels >= 0].bincount().max() == 1
    assert len(memory) == 4


def test_a_memory_larger_than_the_stream_keeps_everything():
    memory = timely_memory.TimelyMemory(1000, 2, 2)
    memory.offer(torch.rand(30, 3, 2, 2), torch.arange(30) % 2, torch.rand(30))
    assert len(memory) == 30
    images, ages = memory.recall()
    assert images.shape == (30, 3, 2, 2)
    assert sorted(ages.tolist()) == list(range(1, 31))


def test_what_is_offered_again_and_again_ages():
    """An unsure newcomer does not drive out who is sure and young, but does so with who is old."""
    memory = timely_memory.TimelyMemory(2, 2, 2)
    sure, unsure = torch.tensor([0.0]), torch.tensor([0.2])
    memory.offer(torch.zeros(1, 3, 2, 2), torch.tensor([0]), sure)
    memory.offer(torch.ones(1, 3, 2, 2), torch.tensor([0]), unsure)
    assert memory.recall()[0].sum() == 0
    for _ in range(4):
        memory.offer(torch.ones(1, 3, 2, 2), torch.tensor([0]), unsure)
    assert memory.recall()[0].sum() > 0


def test_timeliness():
    ages = torch.tensor([0.0, 3.0, 64.0, 500.0]).double()
    expected = [math.exp(-a / 64) / (1 + math.exp(-a / 64)) for a in ages.tolist()]
    np.testing.assert_allclose(timely_memory.timeliness(ages, 64), expected, rtol=1e-12)


# -- statistics that follow -----------------------------------------------------------------------


@pytest.mark.parametrize("layer", [nn.BatchNorm2d, nn.BatchNorm1d])
def test_robust_statistics(layer):
    """Running first, then normalised by what comes out, with a gradient through the batch."""
    x = normal(0, 6, 3, 4, 4) if layer is nn.BatchNorm2d else normal(0, 6, 3)
    axes = (0, 2, 3)[: x.ndim - 1]
    old = layer(3).double()
    for i, value in enumerate((old.running_mean, old.running_var, old.weight.data, old.bias.data)):
        value.copy_(normal(i + 1, 3).abs() + 0.1)
    net = nn.Sequential(old)
    before = old.running_mean.clone(), old.running_var.clone()
    normalisation.exchange_batch_norms(net, lambda part: moving_norm.RobustNorm(part, 0.05))
    shape = (1, 3, *[1] * (x.ndim - 2))
    own = x.clone().requires_grad_(True)
    mean = 0.95 * before[0] + 0.05 * own.mean(axes)
    var = 0.95 * before[1] + 0.05 * own.var(axes, correction=0)
    expected = (own - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    expected = expected * old.weight.view(shape) + old.bias.view(shape)
    given = x.clone().requires_grad_(True)
    with moving_norm.robust_statistics(net):
        found = net(given)
    torch.testing.assert_close(found, expected)
    weights = normal(9, *x.shape)
    (a,), (b,) = (
        torch.autograd.grad((weights * out).sum(), [start])
        for out, start in ((found, given), (expected, own))
    )
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(net[0].running_mean, mean.detach())
    torch.testing.assert_close(net[0].running_var, var.detach())
    # outside nothing moves, and an answer does not hang on its batch
    torch.testing.assert_close(net(x)[:1], net(x[:1]))
    torch.testing.assert_close(net[0].running_mean, mean.detach())


def test_one_value_a_channel_moves_nothing():
    net = nn.Sequential(nn.BatchNorm1d(3))
    normalisation.exchange_batch_norms(net, lambda part: moving_norm.RobustNorm(part, 0.5))
    with moving_norm.robust_statistics(net):
        assert torch.isfinite(net(torch.ones(1, 3))).all()
    assert torch.equal(net[0].running_mean, torch.zeros(3))


# -- views ----------------------------------------------------------------------------------------


def test_marginal_entropy():
    logits = (4 * normal(0, 6, 5)).requires_grad_(True)
    p = np.exp(logits.detach().numpy())
    p = (p / p.sum(1, keepdims=True)).mean(0)
    found = many_views.marginal_entropy(logits)
    np.testing.assert_allclose(found.detach(), -(p * np.log(p)).sum(), rtol=1e-12)
    (gradient,) = torch.autograd.grad(found, [logits])
    q = logits.detach().clone().requires_grad_(True)
    mean = q.softmax(1).mean(0)
    (expected,) = torch.autograd.grad(-(mean * mean.log()).sum(), [q])
    torch.testing.assert_close(gradient, expected)
    sure = torch.tensor([[1e4, 0.0, 0.0]] * 2)  # probabilities that are 0 in any precision
    assert float(many_views.marginal_entropy(sure)) == 0


def test_marginal_entropy_is_not_the_mean_entropy():
    """Sure views that contradict each other are as unsure as can be."""
    logits = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    assert float(many_views.marginal_entropy(logits)) == pytest.approx(math.log(2))


def picture(seed, side=12):
    rng = np.random.default_rng(seed)
    return rng.integers(30, 220, (side, side, 3)).astype(np.uint8)


def operated(pixels, name, strength=1.0):
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    number = torch.tensor([many_views.OPERATIONS.index(name)])
    out = many_views.operate(image, number, torch.tensor([strength]))
    return (out[0].permute(1, 2, 0) * 255).round().numpy()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("contrast", ImageOps.autocontrast),
        ("equalise", ImageOps.equalize),
        ("bits", lambda image: ImageOps.posterize(image, 4)),
        ("solarise", lambda image: ImageOps.solarize(image, 230)),
    ],
)
def test_colour_operations_are_pillows(name, expected):
    pixels = picture(0, 32)
    pixels[:3] = 255
    found = operated(pixels, name)
    wanted = np.asarray(expected(Image.fromarray(pixels)), dtype=np.float64)
    # Pillow cuts fractions of grey values off where it spreads them
    assert np.abs(found - wanted).max() <= (1 if name == "contrast" else 0)
    assert np.abs(found - pixels).max() > 5


@pytest.mark.parametrize(("name", "axis"), [("x", 1), ("y", 0)])
def test_shifts(name, axis):
    pixels = picture(1, 30)  # a thirtieth of the side is one pixel
    found = operated(pixels, name)
    kept = [slice(None), slice(None)]
    kept[axis] = slice(0, 29)
    moved = np.roll(pixels, -1, axis).astype(np.float64)
    assert np.abs(found[tuple(kept)] - moved[tuple(kept)]).max() <= 1


@pytest.mark.parametrize("name", ["turn", "shear-x", "shear-y"])
def test_turns_and_shears_move_pixels_a_little_and_back(name):
    row, column = np.mgrid[:24, :24] / 24
    pixels = (np.stack((row, column, row * column), 2) * 200 + 20).astype(np.uint8)
    there = operated(pixels, name)
    assert 1 <= np.abs(there - pixels)[4:-4, 4:-4].max() < 20
    back = operated(there.astype(np.uint8), name, -1.0)
    assert np.abs(back - pixels)[4:-4, 4:-4].max() <= 3


def test_augmix_views():
    image = torch.from_numpy(picture(2, 16)).permute(2, 0, 1).float() / 255
    one, two, other = (
        many_views.augmix_views(image, 40, flip=True, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert one.shape == (40, 3, 16, 16)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert 0 <= float(one.min()) <= float(one.max()) <= 1
    assert len({view.numpy().tobytes() for view in one}) == 40
    assert (
        many_views.augmix_views(image, 1, flip=False, generator=torch.Generator()).isfinite().all()
    )
    drawn = torch.random.get_rng_state()
    many_views.augmix_views(image, 2, flip=True, generator=torch.Generator())
    assert torch.equal(drawn, torch.random.get_rng_state())


# -- contrast and class statistics ----------------------------------------------------------------


@pytest.mark.parametrize(("views", "batch"), [(3, 5), (2, 4), (3, 1)])
def test_view_contrast(views, batch):
    z = normal(0, views, batch, 4).requires_grad_(True)
    flat = torch.cat(list(z))
    flat = flat / flat.norm(dim=1, keepdim=True)
    total, n = 0.0, views * batch
    for i in range(n):
        shares = [(flat[i] @ flat[j] / 0.3).exp() for j in range(n) if j != i]
        partners = [j for j in range(n) if j != i and j % batch == i % batch]
        logs = [(flat[i] @ flat[j] / 0.3) - sum(shares).log() for j in partners]
        total = total - sum(logs) / len(logs)
    found = contrastive.view_contrast(z.transpose(0, 1), 0.3)
    torch.testing.assert_close(found, total / n)
    a, b = (torch.autograd.grad(loss, [z], retain_graph=True)[0] for loss in (found, total / n))
    torch.testing.assert_close(a, b)


def test_two_views_of_one_image_have_nothing_to_tell_apart():
    assert float(contrastive.view_contrast(normal(0, 1, 2, 4))) == pytest.approx(0, abs=1e-12)


def test_nearest_mean():
    z, means = normal(0, 7, 4), normal(1, 5, 4)
    usable = torch.tensor([True, True, False, True, False])
    found = class_statistics.nearest_mean(z, means, usable)
    for row, chosen in zip(z, found, strict=True):
        cosines = {k: float(F.cosine_similarity(row, means[k], dim=0)) for k in (0, 1, 3)}
        assert torch.equal(chosen, means[max(cosines, key=cosines.get)])


def test_divergence():
    means, source, var = normal(0, 4, 3), normal(1, 4, 3), normal(2, 4, 3).abs()
    classes = torch.tensor([0, 3])
    d, v = (means - source).numpy()[[0, 3]], var.numpy()[[0, 3]]
    expected = 1 - np.exp(-np.mean(d**2 / (v + 1e-6)))
    assert class_statistics.divergence(means, source, var, classes) == pytest.approx(expected)
    assert class_statistics.divergence(source, source, var, classes) == 0
    assert class_statistics.divergence(means, source, var, classes[:0]) == 0
    assert class_statistics.divergence(means, source, 0 * var, classes) == 1


def test_move_class_means():
    means, z = normal(0, 4, 3), normal(1, 5, 3)
    labels = torch.tensor([2, 0, 2, 2, 0])
    found = class_statistics.move_class_means(means, z, labels, 0.95).numpy()
    expected = means.numpy().copy()
    for k in (0, 2):
        expected[k] = 0.95 * expected[k] + 0.05 * z.numpy()[labels.numpy() == k].mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found[[1, 3]] == means.numpy()[[1, 3]]).all()


def test_weight_similarity():
    start = [normal(0, 4), normal(1, 2, 3)]
    now = [(s + 0.3 * normal(2, *s.shape)).requires_grad_(True) for s in start]
    found = class_statistics.weight_similarity(now, start)
    cosines = [
        float((p * s).sum() / math.sqrt(float((p**2).sum()) * float((s**2).sum())))
        for p, s in zip([n.detach() for n in now], start, strict=True)
    ]
    assert float(found.detach()) == pytest.approx(sum(cosines) / 2)
    zero = class_statistics.weight_similarity([now[0]], [torch.zeros_like(start[0])])
    (gradient,) = torch.autograd.grad(zero, [now[0]])
    assert torch.isfinite(gradient).all()  # biases of a fresh network are 0


def test_a_memory_lies_in_its_state():
    one, other = (timely_memory.TimelyMemory(5, 3, 2) for _ in range(2))
    one.offer(torch.rand(9, 3, 2, 2), torch.arange(9) % 3, torch.rand(9))
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    more = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 2, 0]), torch.rand(4)
    for memory in (one, other):
        memory.offer(*more)
    assert all(torch.equal(a, b) for a, b in zip(one.recall(), other.recall(), strict=True))
