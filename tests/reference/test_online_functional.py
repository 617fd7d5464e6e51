"""What online methods are made of, against NumPy and by hand: gradients, buffers, statistics."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn import functional as F

from dabench.errors import ConfigError
from dabench.methods.functional import (
    centroids,
    contrastive,
    distillation,
    gradient_step,
    normalisation,
    online,
    replay,
)

torch.set_num_threads(1)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# -- normalised gradients -----------------------------------------------------------------------


def numpy_normalised(gradients, mode, c, layers):
    def norm(parts):
        return math.sqrt(sum(float((g**2).sum()) for g in parts))

    if mode == "none":
        return gradients
    if mode == "unit-per-layer":
        groups = {
            k: [g for g, at in zip(gradients, layers, strict=True) if at == k] for k in layers
        }
        pairs = zip(gradients, layers, strict=True)
        return [c * g / (norm(groups[at]) + 1e-12) for g, at in pairs]
    total = norm(gradients)
    if mode == "clip" and total <= c:
        return gradients
    return [c * g / (total + 1e-12) for g in gradients]


@pytest.mark.parametrize("mode", ["none", "clip", "unit-global", "unit-per-layer"])
@pytest.mark.parametrize("c", [0.5, 100.0])
def test_normalise_gradients(mode, c):
    gradients = [normal(i, *shape) for i, shape in enumerate([(3, 4), (3,), (5,), (2, 2, 2)])]
    layers = [0, 0, 1, 2]
    expected = numpy_normalised([g.numpy().copy() for g in gradients], mode, c, layers)
    gradient_step.normalise_gradients(gradients, mode, c, torch.tensor(layers))
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_layers_are_modules():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    found = gradient_step.layer_numbers(net, list(net.parameters()))
    assert found.tolist() == [0, 0, 1, 1]
    assert gradient_step.layer_numbers(net, [net[1].bias, torch.zeros(1)]).tolist() == [0, 1]


def test_build_optimiser():
    weights = [nn.Parameter(torch.zeros(2))]
    adam = gradient_step.build_optimiser("adam", weights, lr=0.1, momentum=0.8, weight_decay=0.0)
    assert isinstance(adam, torch.optim.Adam)
    assert adam.defaults["betas"] == (0.8, 0.999)
    sgd = gradient_step.build_optimiser("sgd", weights, lr=0.1, momentum=0.8, weight_decay=0.5)
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.8, 0.5)


RATE = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}


def test_what_is_not_frozen_is_learnable():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    net[0].requires_grad_(False)
    assert list(gradient_step.learnable(net)) == ["1.weight", "1.bias"]
    frozen = [gradient_step.learnable, lambda net: gradient_step.build_optimiser("sgd", [], **RATE)]
    for call in frozen:
        with pytest.raises(ConfigError, match="every weight that this method could change"):
            call(net.requires_grad_(False))


class Notes:
    """A recorder that remembers."""

    def __init__(self):
        self.kept = {}

    def put(self, name, step, value):
        self.kept.setdefault(name, []).append((step, value))


def stepper(mode="none", c=1.0, lr=0.1, momentum=0.0, weight_decay=0.0, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).double()
    notes = Notes()
    optimiser = torch.optim.SGD(
        net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay
    )
    return net, gradient_step.GradientStep(net, optimiser, notes.put, mode, c), notes


def vector(net):
    return nn.utils.parameters_to_vector(net.parameters()).detach().clone()


@pytest.mark.parametrize("c", [1.0, 0.25])
def test_the_update_of_unit_global_has_length_lr_times_c(c):
    net, update, notes = stepper("unit-global", c)
    before = vector(net)
    assert update(net(normal(1, 8, 4)).square().mean())
    assert float((vector(net) - before).norm()) == pytest.approx(0.1 * c)
    assert notes.kept["gradient/after"] == [(0, pytest.approx(c))]
    assert notes.kept["gradient/before"][0][1] > 0


@pytest.mark.parametrize("mode", ["unit-global", "unit-per-layer"])
def test_the_scale_of_the_loss_does_not_matter(mode):
    results = []
    for scale in (1.0, 1000.0):
        net, update, _ = stepper(mode, momentum=0.9, weight_decay=0.01)
        for i in range(3):
            update(scale * net(normal(i, 8, 4)).square().mean())
        results.append(vector(net))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


def test_without_normalisation_it_does():
    moved = []
    for scale in (1.0, 1000.0):
        net, update, _ = stepper("none")
        before = vector(net)
        update(scale * net(normal(0, 8, 4)).square().mean())
        moved.append(float((vector(net) - before).norm()))
    assert moved[1] == pytest.approx(1000 * moved[0])


@pytest.mark.parametrize("mode", ["none", "clip", "unit-global", "unit-per-layer"])
@pytest.mark.parametrize("factor", [0.0, float("nan"), float("inf")])
def test_useless_gradients_are_skipped_and_counted(mode, factor):
    net, update, notes = stepper(mode, momentum=0.9, weight_decay=0.1)
    before = vector(net)
    assert not update(net(normal(0, 8, 4)).square().mean() * factor)
    assert torch.equal(before, vector(net))
    assert update.skipped == 1
    assert notes.kept["gradient/skipped"] == [(0, 1)]
    assert "gradient/before" not in notes.kept
    assert update(net(normal(0, 8, 4)).square().mean())
    assert torch.isfinite(vector(net)).all()


def test_weight_decay_acts_after_normalisation():
    net, update, _ = stepper("unit-global", 1.0, lr=0.1, weight_decay=0.5)
    before = vector(net)
    loss = net(normal(0, 8, 4)).square().mean()
    g = online.flatten_all(torch.autograd.grad(loss, list(net.parameters()), retain_graph=True))
    update(loss)
    torch.testing.assert_close(vector(net), before - 0.1 * (g / g.norm() + 0.5 * before))


def test_frozen_parameters_stay_out_of_the_norm():
    net, update, notes = stepper("unit-global")
    net[1].requires_grad_(False)
    before = [p.detach().clone() for p in net.parameters()]
    update(net(normal(0, 8, 4)).square().mean())
    moved = [p.detach() - q for p, q in zip(net.parameters(), before, strict=True)]
    assert not any(part.any() for part in moved[2:])
    assert float(online.flatten_all(moved).norm()) == pytest.approx(0.1)
    assert notes.kept["gradient/after"] == [(0, pytest.approx(1.0))]


def test_group_rates_act_after_normalisation():
    net, _, _ = stepper()
    groups = [{"params": net[0].parameters(), "lr": 0.01}, {"params": net[1].parameters()}]
    optimiser = torch.optim.SGD(groups, lr=1.0)
    update = gradient_step.GradientStep(net, optimiser, Notes().put, "unit-global")
    before = [p.detach().clone() for p in net.parameters()]
    loss = net(normal(0, 8, 4)).square().mean()
    gradients = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
    norm = online.flatten_all(gradients).norm()
    update(loss)
    rates = (0.01, 0.01, 1.0, 1.0)
    for p, q, g, rate in zip(net.parameters(), before, gradients, rates, strict=True):
        torch.testing.assert_close(p.detach(), q - rate * g / norm)


def saved(module):
    """Return the state as a checkpoint would hold it."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_the_optimisers_state_is_in_the_state_dict():
    net, update, _ = stepper("clip", momentum=0.9)
    update(net(normal(0, 8, 4)).square().mean())
    weights, state = copy.deepcopy(net.state_dict()), saved(update)
    update(net(normal(1, 8, 4)).square().mean())
    other, again, _ = stepper("clip", momentum=0.9, seed=5)
    other.load_state_dict(weights)
    again.load_state_dict(state)
    kept = copy.deepcopy(state)
    again(other(normal(1, 8, 4)).square().mean())
    assert torch.equal(vector(net), vector(other))
    assert again.steps == 2
    before = kept["_extra_state"]["optimiser"]["state"][0]["momentum_buffer"]
    assert torch.equal(state["_extra_state"]["optimiser"]["state"][0]["momentum_buffer"], before)
    update.reset_optimiser()
    assert not update.optimiser.state


# -- normalisation layers -----------------------------------------------------------------------


def batch_norm(layer, seed=0):
    """Give a layer statistics and weights that are not the identity's."""
    with torch.no_grad():
        for i, value in enumerate((layer.weight, layer.bias, layer.running_mean)):
            value.copy_(normal(seed + i, len(value)))
        layer.running_var.copy_(normal(seed + 9, len(layer.running_var)).square() + 0.5)
    return layer.double()


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 5)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gradient", [True, False])
def test_blended_batch_norm_against_numpy(rho, shape, training, gradient):
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    layer = batch_norm(kind(3))
    net = nn.Sequential(layer)
    assert normalisation.adapt_normalisation(net, rho) == 1
    net.train(training)
    state = copy.deepcopy(net.state_dict())
    x = normal(3, *shape) * 3 + 1
    with torch.set_grad_enabled(gradient):
        out = net(x).detach().numpy()
    axes = (0, 2, 3)[: len(shape) - 1]
    by = (1, 3, 1, 1)[: len(shape)]
    a = x.numpy()
    mean = rho * a.mean(axes) + (1 - rho) * layer.running_mean.numpy()
    var = rho * a.var(axes) + (1 - rho) * layer.running_var.numpy()
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    expected = (a - mean.reshape(by)) / np.sqrt(var.reshape(by) + layer.eps)
    expected = expected * weight.reshape(by) + bias.reshape(by)
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-9)
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_gradients_pass_through_blended_statistics(rho):
    layer = normalisation.BlendedNorm(batch_norm(nn.BatchNorm2d(2)), rho)
    assert gradcheck(layer, (normal(0, 3, 2, 2, 2).requires_grad_(),))
    wide = nn.BatchNorm2d(2, affine=False).double()
    assert gradcheck(normalisation.BlendedNorm(wide, rho), (normal(0, 3, 2, 2).requires_grad_(),))
    x = normal(0, 3, 2, 2, 2)
    mean, var, centred = normalisation.blended_statistics(x, torch.zeros(2), torch.ones(2), 1.0)
    torch.testing.assert_close(mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(var, x.var((0, 2, 3), correction=0))
    torch.testing.assert_close(centred.mean((0, 2, 3)), torch.zeros(2).double())


def test_one_value_a_channel_falls_back_to_the_source():
    layer = batch_norm(nn.BatchNorm1d(3))
    blended = normalisation.BlendedNorm(layer, 1.0)
    x = normal(0, 1, 3)
    torch.testing.assert_close(blended(x), layer.eval()(x))


def test_names_and_activations_stay():
    from timm.layers import BatchNormAct2d

    net = nn.Sequential(nn.Conv2d(3, 4, 1), BatchNormAct2d(4))
    names = set(net.state_dict())
    x = torch.randn(5, 3, 4, 4)
    expected = net.train()(x)
    assert normalisation.adapt_normalisation(net, 1.0) == 1
    assert set(net.state_dict()) == names
    torch.testing.assert_close(net.eval()(x), expected)
    assert float(net(x).detach().min()) >= 0  # the ReLU is still there


def test_norm_layers_and_what_is_trained():
    net = nn.Sequential(
        nn.Linear(3, 4),
        nn.LayerNorm(4),
        nn.BatchNorm1d(4),
        nn.GroupNorm(2, 4),
        nn.BatchNorm1d(4, affine=False),
    )
    normalisation.adapt_normalisation(net)
    net[3].requires_grad_(False)  # a frozen stage stays frozen
    assert normalisation.norm_layers(net) == [net[1], net[2]]
    trained = normalisation.train_only_norms(net)
    assert [id(p) for p in trained] == [id(p) for i in (1, 2) for p in net[i].parameters()]
    assert {id(p) for p in net.parameters() if p.requires_grad} == {id(p) for p in trained}
    with pytest.raises(ConfigError, match="LayerNorm"):
        normalisation.train_only_norms(nn.Sequential(nn.Linear(2, 2)))


# -- the buffer ---------------------------------------------------------------------------------


def pictures(seed, count):
    values = torch.randint(0, 256, (count, 3, 4, 4), generator=generator(seed))
    return values.to(torch.float32).div_(255.0)


def numpy_largest(labels, keys, quota):
    keep = np.zeros(len(labels), dtype=bool)
    for c in set(labels.tolist()) - {-1}:
        rows = np.flatnonzero(labels == c)
        best = sorted(rows, key=lambda i: (-keys[i], i))
        most = quota if isinstance(quota, int) else quota[c]
        keep[best[:most]] = True
    return keep


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("quota", [1, 3, [0, 5, 2, 1]])
def test_largest_per_class(seed, quota):
    rng = np.random.default_rng(seed)
    labels, keys = rng.integers(-1, 4, 30), rng.integers(0, 6, 30).astype(float)
    expected = numpy_largest(labels, keys, quota)
    given = quota if isinstance(quota, int) else torch.tensor(quota)
    found = replay.largest_per_class(torch.tensor(labels), torch.tensor(keys), given)
    np.testing.assert_array_equal(found, expected)


def test_missing_per_class():
    labels = torch.tensor([0, 0, 0, 0, 2, 2, 3])
    assert replay.missing_per_class(labels, 4).tolist() == [0, 2, 0, 1]  # an even share is 2


@pytest.mark.parametrize("policy", ["confident", "fifo", "reservoir"])
def test_the_buffer_never_exceeds_its_size_and_stays_balanced(policy):
    torch.manual_seed(0)
    buffer = replay.ReplayBuffer(4, 3, 4, policy)
    for i in range(30):
        labels = torch.randint(0, 4, (8,), generator=generator(i))
        stored, places = buffer.recall(None if i % 2 else 5)
        assert len(stored) == len(places) <= len(buffer)
        every = torch.cat((labels, torch.randint(0, 4, (len(places),), generator=generator(-i))))
        buffer.update(pictures(i, 8), places, every, torch.rand(len(every)))
        assert len(buffer) <= 12
        assert int(buffer.counts().max()) <= 3
    for i in range(5):
        buffer.add(pictures(i, 12), torch.arange(4).repeat(3), torch.rand(12))
    assert buffer.counts().tolist() == [3, 3, 3, 3]
    notes = Notes()
    buffer.record(notes.put, 10)
    assert notes.kept["buffer/size"] == [(10, 12.0)]
    ((step, counts),) = notes.kept["buffer/histogram"]
    assert (step, counts.tolist()) == (10, [3, 3, 3, 3])
    buffer.record(notes.put, 15)
    assert len(notes.kept["buffer/histogram"]) == 1


def held(buffer):
    """Return the stored pictures, as a set of bytes."""
    return {image.numpy().tobytes() for image in buffer.images(buffer.stored_places())}


def test_images_come_back_without_loss():
    buffer = replay.ReplayBuffer(2, 4, 4, "fifo")
    images = pictures(0, 6)
    buffer.add(images, torch.tensor([0, 1, 0, 1, 0, 1]), torch.zeros(6))
    assert torch.equal(buffer.images(buffer.stored_places()), images)


def test_answers_stay_with_their_images():
    torch.manual_seed(0)
    buffer = replay.ReplayBuffer(2, 3, 4, "reservoir", answer_size=2)
    for i in range(6):
        images = pictures(i, 5)
        answers = torch.stack((images[:, 0, 0, 0], images[:, 1, 2, 3]), 1)
        buffer.add(images, torch.randint(2, (5,)), torch.rand(5), answers)
    places = buffer.stored_places()
    stored = buffer.images(places)
    assert torch.equal(buffer.answers[places][:, 0], stored[:, 0, 0, 0])
    assert torch.equal(buffer.answers[places][:, 1], stored[:, 1, 2, 3])
    assert "answers" in buffer.state_dict()


def test_policies():
    images, labels = pictures(0, 8), torch.zeros(8, dtype=torch.int64)
    confidence = torch.tensor([0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.5, 0.4])
    confident = replay.ReplayBuffer(2, 3, 4, "confident")
    fifo = replay.ReplayBuffer(2, 3, 4, "fifo")
    for buffer in (confident, fifo):
        for part in (slice(0, 5), slice(5, 8)):
            buffer.add(images[part], labels[part], confidence[part])
    assert held(confident) == {images[i].numpy().tobytes() for i in (1, 3, 5)}
    assert held(fifo) == {images[i].numpy().tobytes() for i in (5, 6, 7)}


def test_a_new_confidence_decides_what_confident_memories_keep_alone():
    images, labels = pictures(0, 3), torch.zeros(3, dtype=torch.int64)
    for policy, gone in (("confident", 1), ("fifo", 0)):
        buffer = replay.ReplayBuffer(2, 2, 4, policy)
        buffer.add(images[:2], labels[:2], torch.tensor([0.5, 0.6]))
        buffer.rescore(buffer.stored_places(), labels[:2], torch.tensor([0.9, 0.1]))
        buffer.add(images[2:], labels[2:], torch.tensor([0.7]))
        assert held(buffer) == {images[i].numpy().tobytes() for i in range(3) if i != gone}


def test_new_labels_can_make_room():
    buffer = replay.ReplayBuffer(2, 2, 4, "confident")
    images = pictures(0, 4)
    buffer.add(images, torch.tensor([0, 0, 1, 1]), torch.tensor([0.5, 0.6, 0.7, 0.8]))
    places = buffer.stored_places()
    buffer.rescore(places, torch.tensor([0, 0, 0, 1]), torch.tensor([0.1, 0.9, 0.8, 0.2]))
    assert buffer.counts().tolist() == [2, 1]
    assert images[0].numpy().tobytes() not in held(buffer)


def test_groups_pass_apart():
    layer = normalisation.BlendedNorm(nn.BatchNorm1d(3), 1.0)
    groups = [torch.randn(6, 3), torch.randn(0, 3), torch.randn(5, 3) + 9]
    out = replay.forward_separately(layer, *groups)
    assert out.shape == (11, 3)
    for part in (out[:6], out[6:]):
        torch.testing.assert_close(part.mean(0), torch.zeros(3), atol=1e-5, rtol=0)


def test_the_reservoir_is_uniform():
    torch.manual_seed(0)
    counts = np.zeros(20)
    images = torch.arange(20.0).view(20, 1, 1, 1).expand(20, 3, 1, 1) / 255
    for _ in range(600):
        buffer = replay.ReplayBuffer(1, 5, 1, "reservoir")
        for part in images.split(4):
            buffer.add(part, torch.zeros(4, dtype=torch.int64), torch.zeros(4))
        counts[(buffer.images(buffer.stored_places())[:, 0, 0, 0] * 255).round().int()] += 1
    expected = 600 * 5 / 20
    assert ((counts - expected) ** 2 / expected).sum() < 43.8  # chi-squared, 19 degrees, p = .001


def test_samples():
    buffer = replay.ReplayBuffer(2, 4, 4)
    assert len(buffer.sample(3)) == len(buffer) == 0
    buffer.add(pictures(0, 6), torch.tensor([0, 0, 0, 1, 1, 1]), torch.rand(6))
    torch.manual_seed(3)
    first = buffer.sample(4)
    assert len(set(first.tolist())) == 4
    torch.manual_seed(3)
    assert torch.equal(first, buffer.sample(4))
    assert torch.equal(buffer.sample(99), buffer.stored_places())


def test_the_buffer_survives_a_checkpoint():
    buffer = replay.ReplayBuffer(3, 2, 4, "fifo")
    buffer.add(pictures(0, 5), torch.tensor([0, 1, 1, 2, 1]), torch.rand(5))
    other = replay.ReplayBuffer(3, 2, 4, "fifo")
    other.load_state_dict(saved(buffer))
    for one in (buffer, other):
        one.add(pictures(1, 4), torch.tensor([2, 2, 2, 0]), torch.zeros(4))
    assert torch.equal(buffer.pictures, other.pictures)
    assert torch.equal(buffer.labels, other.labels)


# -- losses and labels --------------------------------------------------------------------------


def numpy_contrast(z, y, m, ym, t):
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    m = m / np.linalg.norm(m, axis=1, keepdims=True)
    found = []
    for i in range(len(z)):
        partners = [j for j in range(len(m)) if ym[j] == y[i]]
        if not partners:
            continue
        total = sum(math.exp(z[i] @ a / t) for a in m)
        total += sum(math.exp(z[i] @ z[a] / t) for a in range(len(z)) if a != i)
        shares = [math.log(math.exp(z[i] @ m[j] / t) / total) for j in partners]
        found.append(-sum(shares) / len(partners))
    return sum(found) / len(found)


def test_memory_contrast():
    z, m = normal(0, 6, 5), normal(1, 9, 5)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    ym = torch.tensor([0, 0, 1, 1, 2, 2, 2, 5, 5])  # nobody of class 3
    expected = numpy_contrast(z.numpy(), y.numpy(), m.numpy(), ym.numpy(), 0.1)
    assert float(contrastive.memory_contrast(z, y, m, ym, 0.1)) == pytest.approx(expected)
    inputs = (z.requires_grad_(), y, m.requires_grad_(), ym, 0.5)
    assert gradcheck(contrastive.memory_contrast, inputs)


@pytest.mark.parametrize("count", [1, 4])
def test_contrast_without_partners_is_nothing(count):
    z = normal(0, count, 5).requires_grad_()
    y = torch.zeros(count, dtype=torch.int64)
    for m, ym in ((z[:0], y[:0]), (normal(1, 3, 5), torch.ones(3, dtype=torch.int64))):
        loss = contrastive.memory_contrast(z, y, m, ym)
        (gradient,) = torch.autograd.grad(loss, z)
        assert float(loss.detach()) == 0
        assert not gradient.any()


def test_running_labels_without_memory_are_centroid_labels():
    features, p = normal(0, 40, 6), normal(1, 40, 5).mul(3).softmax(1)
    zeros = torch.zeros(5, 7, dtype=torch.float64)
    junk = normal(2, 5, 7)
    labels, sums, mass = centroids.running_labels(features, p, junk, junk[:, 0].abs(), 0.0)
    assert torch.equal(labels, centroids.centroid_labels(features, p))
    z = centroids.unit_features(features)
    assert torch.allclose(z[:, -1].square() * (features.square().sum(1) + 1), z.new_ones(40))
    torch.testing.assert_close(sums, F.one_hot(labels, 5).double().T @ z)
    assert mass.sum() == 40
    # with memory the past weighs: a class that is absent now remains a candidate
    one_class = torch.eye(5, dtype=torch.float64)[torch.zeros(40, dtype=torch.int64)]
    alone, _, _ = centroids.running_labels(features, one_class, zeros, mass * 0, 0.9)
    assert set(alone.tolist()) == {0}
    again, new_sums, new_mass = centroids.running_labels(features, one_class, sums, mass, 0.9)
    assert len(set(again.tolist())) > 1
    hard = F.one_hot(again, 5).double()
    torch.testing.assert_close(new_sums, 0.9 * sums + hard.T @ z)
    torch.testing.assert_close(new_mass, 0.9 * mass + hard.sum(0))
    # a probability alone makes no class a candidate, now or later
    soft = 0.8 * one_class + 0.04
    _, _, left = centroids.running_labels(features, soft, zeros, mass * 0, 0.9)
    assert left.tolist() == [40, 0, 0, 0, 0]


def test_mixup_weights_of_their_own():
    torch.manual_seed(0)
    draws = distillation.mixup_weights(20000, 1.0)
    assert draws.shape == (20000,)
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(draws.var()) == pytest.approx(1 / 12, abs=0.003)
    values, order = normal(0, 3, 2, 2), torch.tensor([1, 2, 0])
    mixed = distillation.mix(values, order, torch.tensor([1.0, 0.0, 0.25]))
    torch.testing.assert_close(mixed[0], values[0])
    torch.testing.assert_close(mixed[1], values[2])
    torch.testing.assert_close(mixed[2], 0.25 * values[2] + 0.75 * values[0])


def test_reliability_and_novelty():
    h = torch.tensor([0.1, 0.5, 0.49, 2.0])
    expected = [math.exp(0.4), 0.0, math.exp(0.01), 0.0]
    np.testing.assert_allclose(online.reliability_weights(h, 0.5), expected, rtol=1e-6)
    p = normal(0, 10, 4).softmax(1)
    mean = normal(1, 4).softmax(0)
    a, b = p.numpy(), mean.numpy()
    cos = a @ b / np.linalg.norm(a, axis=1) / np.linalg.norm(b)
    np.testing.assert_array_equal(online.is_novel(p, mean, 0.9), np.abs(cos) < 0.9)
    assert online.is_novel(p, torch.zeros(4).double(), 0.01).all()


def test_fisher_by_hand():
    w = nn.Parameter(normal(0, 3))
    unused = nn.Parameter(normal(1, 2))
    xs = [normal(i, 5, 3) for i in range(2, 5)]
    found = online.fisher_information(
        (((x @ w) ** 2).mean() for x in xs), [w, unused], torch.zeros(5, dtype=torch.float64)
    )
    a = w.detach().numpy()
    by_hand = [(2 * (x.numpy() @ a)[:, None] * x.numpy()).mean(0) ** 2 for x in xs]
    np.testing.assert_allclose(found[:3], np.mean(by_hand, 0))
    assert not found[3:].any()
    start = normal(9, 5)
    penalty = online.fisher_penalty([w, unused], start, found)
    here = np.concatenate((a, unused.detach().numpy()))
    assert float(penalty.detach()) == pytest.approx(
        float((found.numpy() * (here - start.numpy()) ** 2).sum())
    )
    (gradient,) = torch.autograd.grad(penalty, w)
    np.testing.assert_allclose(gradient, 2 * found[:3] * (w.detach() - start[:3]))


def test_climb_and_put_back():
    weights = [normal(0, 3, 2), normal(1, 4)]
    before = [w.clone() for w in weights]
    gradients = [normal(2, 3, 2), normal(3, 4)]
    kept = online.ascent_step(weights, gradients, 0.05)
    moved = online.flatten_all(weights) - online.flatten_all(before)
    g = online.flatten_all(gradients)
    torch.testing.assert_close(moved, 0.05 * g / g.norm())
    online.restore_values(weights, kept)
    assert torch.equal(online.flatten_all(weights), online.flatten_all(before))
    online.ascent_step(weights, [0 * g for g in gradients], 0.05)
    assert torch.equal(online.flatten_all(weights), online.flatten_all(before))


def test_ema_update_and_restoration():
    teacher, student = [normal(0, 3), normal(1, 2, 2)], [normal(2, 3), normal(3, 2, 2)]
    expected = [0.9 * t + 0.1 * s for t, s in zip(teacher, student, strict=True)]
    online.ema_update(teacher, student, 0.9)
    torch.testing.assert_close(teacher, expected)
    torch.manual_seed(0)
    weights, source = [torch.ones(20000)], [torch.zeros(20000)]
    online.stochastic_restore(weights, source, 0.1)
    assert float(1 - weights[0].mean()) == pytest.approx(0.1, abs=0.01)
    online.stochastic_restore(weights, source, 1.0)
    assert not weights[0].any()
