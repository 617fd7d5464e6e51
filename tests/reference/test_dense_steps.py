"""Whole steps of methods on frames against loops of their own: float64, a network by hand.

Pixels are visited one by one. Nothing of a method is used here but its step.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dabench import registry
from dabench.contract.access import Online, Recorder, TargetBatch
from dabench.contract.types import Task
from dabench.errors import ConfigError
from dabench.methods.functional import many_views, online, pixel_prototypes
from dabench.networks.dense import DenseNetwork
from dabench.networks.dense_backbones import SegmenterParts
from dabench.views.photometric import Photometric
from dabench.views.warps import Warp

K, D, SHAPE = 4, 6, (10, 14)
TASK = Task("segmentation", tuple("abcd"), SHAPE[0], width=SHAPE[1])
AFFINE = ("1.weight", "1.bias", "4.weight", "4.bias")


def network(seed=0, sure=9.0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = nn.Sequential(
            *(nn.Conv2d(3, 5, 3, 2, 1), nn.BatchNorm2d(5), nn.ReLU()),
            *(nn.Conv2d(5, D, 3, 1, 1), nn.BatchNorm2d(D), nn.ReLU()),
        )
        for i in (1, 4):
            backbone[i].running_mean.normal_(std=0.2)
            backbone[i].running_var.uniform_(0.1, 0.5)
        half = ((0.5,) * 3, (0.5,) * 3)
        net = DenseNetwork(SegmenterParts(backbone, nn.Identity(), D, 2, half), K).double().eval()
        net.classifier.weight.data *= sure
    return net


def frames(count=4):
    """Return frames of different light, with a bright block that wanders."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for i in range(count):
        x = torch.rand(1, 3, *SHAPE, generator=generator, dtype=torch.float64) * 0.4
        x[0, i % 3, 2:8, 3 * (i % 3) : 3 * (i % 3) + 6] += 0.3 + 0.1 * i
        found.append(x)
    return found


class Plain:
    """The same network written out, with its own copies of all numbers."""

    def __init__(self, share=1.0, sure=9.0):
        net = network(sure=sure)
        self.w = {k: v.clone() for k, v in net.backbone.state_dict().items()}
        self.head, self.bias = net.classifier.weight.detach(), net.classifier.bias.detach()
        self.share = share
        for name in AFFINE:
            self.w[name].requires_grad_(True)
        self.source = {name: self.w[name].detach().clone() for name in AFFINE}

    def norm(self, x, at):
        n = x.numel() // x.shape[1]
        own = x.sum((0, 2, 3)) / n
        spread = ((x - own.view(1, -1, 1, 1)) ** 2).sum((0, 2, 3)) / n
        r = self.share
        mean = r * own + (1 - r) * self.w[f"{at}.running_mean"]
        var = r * spread + (1 - r) * self.w[f"{at}.running_var"]
        x = (x - mean.view(1, -1, 1, 1)) / torch.sqrt(var + 1e-5).view(1, -1, 1, 1)
        return x * self.w[f"{at}.weight"].view(1, -1, 1, 1) + self.w[f"{at}.bias"].view(1, -1, 1, 1)

    def features(self, x):
        x = F.conv2d((x - 0.5) / 0.5, self.w["0.weight"], self.w["0.bias"], stride=2, padding=1)
        x = self.norm(x, 1).clamp_min(0)
        return self.norm(F.conv2d(x, self.w["3.weight"], self.w["3.bias"], padding=1), 4).clamp_min(
            0
        )

    def __call__(self, x):
        small = F.conv2d(self.features(x), self.head, self.bias)
        return torch.einsum("bkhw,yh,xw->bkyx", small, weights_of(10, 5), weights_of(14, 7))

    def trained(self):
        return [self.w[name] for name in AFFINE]

    def set_back(self):
        with torch.no_grad():
            for name, value in self.source.items():
                self.w[name].copy_(value)


def weights_of(to, start):
    """Return (to, start) weights of linear interpolation, corners not aligned."""
    found = np.zeros((to, start))
    for i in range(to):
        at = max(0.0, (i + 0.5) * start / to - 0.5)
        low = min(int(at), start - 1)
        found[i, low] += 1 - (at - low)
        found[i, min(low + 1, start - 1)] += at - low
    return torch.from_numpy(found)


def pixels(logits):
    """Return a list of (K,) logits, pixel by pixel."""
    return [logits[0, :, i, j] for i in range(logits.shape[2]) for j in range(logits.shape[3])]


def entropy(z):
    return -(z.softmax(0) * z.log_softmax(0)).sum()


def fisher_of(images):
    net, total = Plain(), [0.0] * len(AFFINE)
    for x in images:
        z = pixels(net(x))
        loss = sum(-row.log_softmax(0)[int(row.argmax())] for row in z) / len(z)
        squares = [g**2 for g in torch.autograd.grad(loss, net.trained())]
        total = [a + b / len(images) for a, b in zip(total, squares, strict=True)]
    return total


def eata(images, fisher_weight, reset_every=None):
    """EATA's equations with pixels for images: the penalty, and the average of chosen answers.

    RDumb's where all goes back to the start every so many frames.
    """
    net, average = Plain(), None
    sgd = torch.optim.SGD(net.trained(), lr=2e-3, momentum=0.9)
    limit, margin = 0.8 * math.log(K), 0.9
    fisher = fisher_of(frames(2))
    for number, x in enumerate(images):
        if reset_every and number % reset_every == 0:
            net.set_back()
            sgd, average = torch.optim.SGD(net.trained(), lr=2e-3, momentum=0.9), None
        logits = net(x)
        terms, kept = [], []
        for z in pixels(logits):
            p, h, amount = z.detach().softmax(0), entropy(z), float(entropy(z.detach()))
            if amount >= limit:
                continue
            if (
                average is not None
                and abs(float(p @ average / p.norm() / average.norm())) >= margin
            ):
                continue
            terms.append(h * math.exp(limit - amount))
            kept.append(p)
        loss = sum(terms) / len(terms)
        for f, name in zip(fisher, AFFINE, strict=True):
            loss = loss + fisher_weight * (f * (net.w[name] - net.source[name]) ** 2).sum()
        sgd.zero_grad()
        torch.autograd.backward(loss)
        sgd.step()
        mean = sum(kept) / len(kept)
        average = mean if average is None else 0.9 * average + 0.1 * mean
        yield logits, net, 0 < len(kept) < SHAPE[0] * SHAPE[1]


def changed(images):
    """What stands for a view's colours: nothing is drawn."""
    return (images * 0.8 + 0.05) ** 1.2


def roid(images, noise=None):
    """ROID's code with pixels for images, and without a prior; a coin says whether to mirror.

    With noise, CMF's filter over the weights takes the place of the way back.
    """
    net, average = Plain(), torch.full((K,), 1 / K, dtype=torch.float64)
    hidden, variance = {name: value.clone() for name, value in net.source.items()}, 0.0
    more = (noise or 0) * sum(value.numel() for value in hidden.values()) / 38400
    adam = torch.optim.Adam(net.trained(), lr=1e-3)
    for x in images:
        logits = net(x)
        rows = pixels(logits)
        p = [z.detach().softmax(0) for z in rows]
        other = [1 - float(q @ average / q.norm() / average.norm()) for q in p]
        sure = [-float(entropy(z.detach())) for z in rows]
        other, sure = ([(v - min(vs)) / (max(vs) - min(vs)) for v in vs] for vs in (other, sure))
        least = sum(other) / len(other)
        average = 0.9 * average + 0.1 * sum(p) / len(p)
        mirrored = bool(torch.rand(()) < 0.5)
        view = changed(x)
        back = net(torch.flip(view, (3,)) if mirrored else view)
        views = pixels(torch.flip(back, (3,)) if mirrored else back)
        loss = 0.0
        for z, v, d, c in zip(rows, views, other, sure, strict=True):
            if d < least:
                continue
            q = z.softmax(0).clamp(max=0.99)
            ratio = -(q * torch.log(q / (1 - q) + 1e-5)).sum()
            both = (
                -(z.softmax(0) * v.log_softmax(0)).sum() - (v.softmax(0) * z.log_softmax(0)).sum()
            )
            loss = loss + math.exp(3 * d * c) * (ratio + both / 2)
        adam.zero_grad()
        torch.autograd.backward(loss / len(rows))
        adam.step()
        with torch.no_grad():
            variance = 0.99**2 * variance + more
            gain = max((1 - more) / (variance + 1 - more), 0.89)
            gain = 1.0 if gain >= 0.9999 else gain
            variance = gain * variance
            for name, source in net.source.items():
                pull = source
                if noise:
                    back = 0.99 * hidden[name] + 0.01 * source
                    pull = hidden[name] = gain * back + (1 - gain) * net.w[name]
                net.w[name].copy_(0.99 * net.w[name] + 0.01 * pull)
        yield logits, net, gain < 1


def diga(images, sure=9.0):
    """DIGA's code, but that the stream's prototypes follow the predicted classes: in NumPy."""
    net, running = Plain(0.2, sure), {}
    for x in images:
        maps = net.features(x).detach()
        p = F.conv2d(maps, net.head, net.bias).softmax(1)[0].numpy()
        z, members = maps[0].numpy(), {}
        for i in range(z.shape[1]):
            for j in range(z.shape[2]):
                if p[:, i, j].max() >= 0.9:
                    members.setdefault(int(p[:, i, j].argmax()), []).append(z[:, i, j])
        own = {k: np.mean(rows, 0) for k, rows in members.items()}
        for k, mean in own.items():
            running[k] = 0.9 * running[k] + 0.1 * mean if k in running else mean
        answer = np.zeros_like(p)
        for i in range(z.shape[1]):
            for j in range(z.shape[2]):
                of = [near(z[:, i, j], found) for found in (running, own)]
                if not own:
                    of[1] = of[0]
                both = 0.8 * of[0] + 0.2 * of[1]
                answer[:, i, j] = 0.8 * both + 0.2 * p[:, i, j] if running else p[:, i, j]
        large = np.einsum("khw,yh,xw->kyx", answer, weights_of(10, 5), weights_of(14, 7))
        yield torch.from_numpy(np.log(np.maximum(large, 1e-10)))[None], net, set(own)


def memo(images, views=2, lr=0.02, decay=0.1):
    """MEMO on all weights, a pixel's mean over what shows it; the views are the suite's."""
    for x in images:
        net, counts = Plain(1 / 17), set()
        every = [v for k, v in net.w.items() if v.is_floating_point() and "running" not in k]
        every += [net.head, net.bias]
        draw = torch.Generator().manual_seed(2)
        colours = Photometric.draw(views, generator=draw)
        warp = Warp.draw(views, flip=TASK.flip, generator=draw)
        back = warp.inverse()
        for value in every:
            value.requires_grad_(True)
        made = warp.apply(colours.apply(x.expand(views, -1, -1, -1)))
        p, shown, terms = back.apply(net(made).softmax(1)), back.valid(SHAPE), []
        for i in range(SHAPE[0]):
            for j in range(SHAPE[1]):
                seen = [p[v, :, i, j] for v in range(views) if shown[v, i, j]]
                counts.add(len(seen))
                if seen:
                    mean = sum(seen) / len(seen)
                    terms.append(-(mean * mean.log()).sum())
        gradients = torch.autograd.grad(sum(terms) / len(terms), every)
        with torch.no_grad():
            for value, gradient in zip(every, gradients, strict=True):
                value -= lr * (gradient + decay * value)
        yield net(x), Plain(1 / 17), counts


def near(z, found):
    """Return the share of every class by e to the minus of its distance."""
    shares = np.array(
        [math.exp(-np.linalg.norm(z - found[k])) if k in found else 0.0 for k in range(K)]
    )
    return shares / shares.sum() if found else shares


def begun(name, net=None, seed=0, **options):
    method = registry.method(name)(**options)
    extras = {"fisher-images": torch.cat(frames(2))} if name == "eata" else {}
    method.begin(Online(TASK, net or network(), 1, seed, Recorder(), extras))
    return method


def compare(method, images, expected):
    for i, (x, (logits, net, _)) in enumerate(zip(images, expected, strict=True)):
        found = method.step(TargetBatch(x.clone(), torch.tensor([i])))
        torch.testing.assert_close(found, logits, rtol=1e-8, atol=1e-8)
        now = method.net.backbone.state_dict()
        for key, value in net.items():
            if "tracked" not in key:
                torch.testing.assert_close(now[key], value, rtol=1e-9, atol=1e-10)


def run(reference):
    """Return what a reference yields, with its weights as they are at that moment."""
    return [
        (z.detach(), {k: v.detach().clone() for k, v in net.w.items()}, extra)
        for z, net, extra in reference
    ]


@pytest.mark.parametrize(
    ("name", "fisher_weight"), [("eata", 2000.0), ("eata", 0.0), ("eta", 0.0), ("rdumb", 0.0)]
)
def test_eata_takes_every_pixel_for_a_sample(name, fisher_weight):
    options = {"lr": 2e-3, "limit": 0.8, "margin": 0.9}
    reset_every = None
    if name == "rdumb":
        options["reset_every"] = reset_every = 2
    if name == "eata":
        options["fisher_weight"] = fisher_weight
    expected = run(eata(frames(), fisher_weight, reset_every))
    assert all(some for *_, some in expected)  # pixels are chosen, and others are not
    compare(begun(name, **options), frames(), expected)
    first, last = network().backbone.state_dict(), expected[-1][1]
    assert all(not torch.equal(first[key], last[key]) for key in AFFINE)


@pytest.mark.parametrize(("name", "noise"), [("roid", None), ("cmf", 0.005), ("cmf", 50.0)])
def test_roid_takes_every_pixel_for_a_sample(name, noise, monkeypatch):
    monkeypatch.setattr("dabench.methods.online.roid.recolour", changed)
    torch.manual_seed(4)
    expected = run(roid(frames(), noise))
    assert {some for *_, some in expected} == {noise == 50.0}  # the filter counts, or is ROID's
    torch.manual_seed(4)
    coins = [bool(torch.rand(()) < 0.5) for _ in range(4)]
    assert len(set(coins)) == 2
    torch.manual_seed(4)
    compare(begun(name, **({"noise": noise} if noise else {})), frames(), expected)


def test_memo_takes_a_pixels_mean_over_the_views_that_show_it():
    """One step an image, on all weights, and back: the network is the source's after each."""
    images = frames(3)
    expected = run(memo(images))
    assert expected[0][2] == {0, 1, 2}  # views show a pixel, or not
    for x, (logits, *_) in zip(images, expected, strict=True):
        assert float((logits - Plain(1 / 17)(x).detach()).abs().max()) > 1e-2  # the step counts
    method = begun("memo", seed=2, views=2, lr=0.02, weight_decay=0.1)
    compare(method, images, expected)
    torch.testing.assert_close(method.predict(images[0]).logits, expected[0][0])


def test_no_prior_in_segmentation():
    with pytest.raises(ConfigError, match=r"prior probabilities: .* leave the option out"):
        begun("roid", prior="probabilities")
    x = frames(1)[0]
    torch.testing.assert_close(begun("roid").predict(x).logits, Plain()(x))


def test_diga_against_numpy():
    expected = run(diga(frames(5), sure=60.0))
    shown = [classes for *_, classes in expected]
    assert len(set.union(*shown)) > len(shown[0])  # a class comes later
    assert any(shown[i] != shown[i + 1] for i in range(4))
    compare(begun("diga", network(sure=60.0)), frames(5), expected)


def test_diga_without_a_sure_pixel_is_the_source_model_under_its_statistics():
    """The authors' code divides by 0."""
    method, images = begun("diga", network(sure=0.1)), frames(3)
    compare(method, images, run(diga(images, sure=0.1)))
    assert not method.known.any()
    x = images[0]
    small = Plain(0.2, 0.1)
    p = F.conv2d(small.features(x), small.head, small.bias).softmax(1)
    p = torch.einsum("bkhw,yh,xw->bkyx", p, weights_of(10, 5), weights_of(14, 7))
    torch.testing.assert_close(method.predict(x).logits.exp(), p)


def test_diga_remembers_what_an_image_does_not_show():
    """Sure pixels of an earlier image serve one that has none."""
    method = begun("diga")
    method.step(TargetBatch(frames(1)[0], torch.tensor([0])))
    kept = method.prototypes.clone()
    assert method.known.any()
    method.confident = 1.0  # nobody is so sure
    maps = method.net.features(frames(1)[0])
    found = method.step(TargetBatch(frames(1)[0], torch.tensor([1]))).exp()
    assert torch.equal(method.prototypes, kept)
    p = method.net.classifier(maps).softmax(1)[0].detach().numpy()
    running = {k: kept[k].numpy() for k in range(K) if method.known[k]}
    z, answer = maps[0].detach().numpy(), np.zeros_like(p)
    for i in range(5):
        for j in range(7):
            answer[:, i, j] = 0.8 * near(z[:, i, j], running) + 0.2 * p[:, i, j]
    large = np.einsum("khw,yh,xw->kyx", answer, weights_of(10, 5), weights_of(14, 7))
    torch.testing.assert_close(found[0], torch.from_numpy(large))


def test_diga_needs_feature_maps():
    net = network()
    net.backbone, net.classifier = nn.Sequential(net.backbone, net.classifier), nn.Identity()
    with pytest.raises(ConfigError, match=r"^diga: .* does not end in one .* tent takes it"):
        begun("diga", net)


# -- its pieces ---------------------------------------------------------------------------------


def test_pixels_as_samples():
    x = torch.arange(2 * 3 * 2 * 2.0).view(2, 3, 2, 2)
    rows = [x[b, :, i, j] for b in range(2) for i in range(2) for j in range(2)]
    assert torch.equal(online.as_samples(x), torch.stack(rows))
    assert torch.equal(online.as_samples(x[:, :, 0, 0]), x[:, :, 0, 0])


def test_entropy_of_a_pixels_mean():
    """A pixel that one view shows has that view's entropy; none that shows it divides by 0."""
    z = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z.requires_grad_(True)
    shown = torch.zeros(2, 4, 6, dtype=torch.bool)
    shown[0, :3], shown[1, 2:, 1:] = True, True
    expected = []
    for i in range(4):
        for j in range(6):
            of = [z[v, :, i, j].detach().softmax(0) for v in range(2) if shown[v, i, j]]
            if of:
                p = sum(of) / len(of)
                expected.append(float(-(p @ p.log())))
    assert len(expected) == 23
    some = many_views.pixel_marginal_entropy(z.softmax(1), shown)
    np.testing.assert_allclose(float(some.detach()), np.mean(expected))
    none = many_views.pixel_marginal_entropy(z.softmax(1), torch.zeros_like(shown))
    assert float(none.detach()) == 0
    assert all(torch.isfinite(torch.autograd.grad(v, z)[0]).all() for v in (some, none))


def test_sure_labels_and_class_means():
    p = torch.tensor([[0.9, 0.1, 0.0], [0.89, 0.1, 0.01], [0.0, 0.05, 0.95]])
    labels, sure = pixel_prototypes.sure_labels(p, 0.9)
    assert (labels.tolist(), sure.tolist()) == ([0, 0, 2], [True, False, True])
    z = torch.tensor([[1.0, 2.0], [3.0, 4.0], [-1.0, 0.0]])
    means, present = pixel_prototypes.class_means(z, labels, 3)
    assert means.tolist() == [[2.0, 3.0], [0.0, 0.0], [-1.0, 0.0]]
    assert present.tolist() == [True, False, True]
    nobody = pixel_prototypes.class_means(z[:0], labels[:0], 3)
    assert not nobody[0].any()
    assert not nobody[1].any()


def test_moved_prototypes():
    old, new = (
        torch.tensor([[1.0], [5.0], [9.0], [9.0]]),
        torch.tensor([[3.0], [7.0], [2.0], [2.0]]),
    )
    known, present = (
        torch.tensor(v) for v in ([True, True, False, False], [True, False, True, False])
    )
    moved, both = pixel_prototypes.moved_prototypes(old, known, new, present, 0.25)
    # averaged; not shown; shown for the first time; never shown
    assert moved.flatten().tolist() == [1.5, 5.0, 2.0, 9.0]
    assert both.tolist() == [True, True, True, False]


def test_prototype_probabilities_far_from_everything():
    """exp(-distance) of all classes is 0 there, and the authors' code divides by their sum."""
    z, r = torch.full((1, 2), 1e4), torch.tensor([[0.0, 0.0], [1.0, 1.0], [1e4, 1e4]])
    p = pixel_prototypes.prototype_probabilities(z, r, torch.tensor([True, True, False]))
    distance = math.sqrt(2.0)
    expected = [1 / (1 + math.exp(distance)), 1 / (1 + math.exp(-distance)), 0.0]
    np.testing.assert_allclose(p[0], expected, atol=1e-3)
    assert float(p[0, 2]) == 0
    none = pixel_prototypes.prototype_probabilities(z, r * 0, torch.zeros(3, dtype=torch.bool))
    np.testing.assert_allclose(none[0], np.full(3, 1 / 3))
