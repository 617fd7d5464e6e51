"""Whole steps of methods on streams against loops of their own: float64, a network by hand.

Nothing of a method is used here but its step. The network is written out; the optimiser is torch's.
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
from dabench.networks.network import ClassifierNetwork

K, SIDE, BATCH, D = 5, 10, 12, 8
AFFINE = ("1.weight", "1.bias", "4.weight", "4.bias")


def network(seed=0):
    """Two convolutions with BatchNorm, mean pooling, a linear layer; sure of what it sees."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, D, 3, stride=2), nn.BatchNorm2d(D), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        for i in (1, 4):
            backbone[i].running_mean.normal_(std=0.2)
            backbone[i].running_var.uniform_(0.2, 0.6)
        net = ClassifierNetwork(backbone, D, K, bottleneck=0, weight_norm=False).double().eval()
        net.classifier.weight.data *= 12
    return net


def batches(count=4, size=BATCH):
    generator = torch.Generator().manual_seed(1)
    found = []
    for number in range(count):
        x = torch.rand(size, 3, SIDE, SIDE, generator=generator, dtype=torch.float64) * 0.4
        for i in range(size):
            x[i, (i + number) % 3, (i % K) * 2 :, i % K :] += 0.3 + 0.2 * (number % 3)
        found.append(x)
    return found


class Plain:
    """The same network written out, with its own copies of all numbers."""

    def __init__(self):
        net = network()
        self.w = {k: v.clone() for k, v in net.backbone.state_dict().items()}
        self.head, self.bias = (p.detach().clone() for p in net.classifier.parameters())
        self.moving, self.share = None, 1.0
        for name in AFFINE:
            self.w[name].requires_grad_(True)
        self.source = {name: self.w[name].detach().clone() for name in AFFINE}

    def norm(self, x, at, by):
        mean, var = self.w[f"{at}.running_mean"], self.w[f"{at}.running_var"]
        if by == "batch":
            mean = x.mean((0, 2, 3))
            var = ((x - mean.view(1, -1, 1, 1)) ** 2).mean((0, 2, 3))
            mean = self.share * mean + (1 - self.share) * self.w[f"{at}.running_mean"]
            var = self.share * var + (1 - self.share) * self.w[f"{at}.running_var"]
        if self.moving is not None:
            n = x.numel() // x.shape[1]
            m, unbiased = self.moving, var * n / (n - 1)
            self.w[f"{at}.running_mean"] = (1 - m) * self.w[f"{at}.running_mean"] + m * mean
            self.w[f"{at}.running_var"] = (1 - m) * self.w[f"{at}.running_var"] + m * unbiased
        x = (x - mean.view(1, -1, 1, 1)) / torch.sqrt(var.view(1, -1, 1, 1) + 1e-5)
        return x * self.w[f"{at}.weight"].view(1, -1, 1, 1) + self.w[f"{at}.bias"].view(1, -1, 1, 1)

    def features(self, x, by):
        x = (x - 0.5) / 0.5
        x = F.conv2d(x, self.w["0.weight"], self.w["0.bias"], padding=1)
        x = self.norm(x, 1, by).clamp_min(0)
        x = F.conv2d(x, self.w["3.weight"], self.w["3.bias"], stride=2)
        return self.norm(x, 4, by).clamp_min(0).mean((2, 3))

    def __call__(self, x, by="batch"):
        return self.features(x, by) @ self.head.T + self.bias

    def trained(self, names=AFFINE):
        return [self.w[name] for name in names]

    def set_back(self):
        with torch.no_grad():
            for name, value in self.source.items():
                self.w[name].copy_(value)


def entropy(logits):
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def opinion(logits):
    """COME by the authors' formula, but for K."""
    norm = logits.norm(p=2, dim=-1, keepdim=True)
    e = torch.exp(logits / norm * norm.detach())
    total = e.sum(1, keepdim=True) + K
    q = torch.cat((e / total, K / total), 1) + 1e-7
    return -(q * torch.log(q)).sum(1)


def learn(optimiser, loss):
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step()


def by_loss(loss_of):
    def reference(images):
        net = Plain()
        adam = torch.optim.Adam(net.trained(), lr=1e-3)
        for x in images:
            logits = net(x)
            learn(adam, loss_of(logits).mean())
            yield logits, net

    return reference


def hard_labels(logits):
    p = logits.softmax(1)
    return -torch.stack([row[row.argmax()].log() for row in p])


def generalised(logits):
    p = logits.softmax(1)
    return torch.stack([(1 - row[row.argmax()] ** 0.8) / 0.8 for row in p])


def fisher_of(images):
    """EATA: mean squared gradients of the cross-entropy with the model's own hard answers."""
    net, total = Plain(), [0.0] * len(AFFINE)
    for x in images:
        loss = hard_labels(net(x)).mean()
        squares = [g**2 for g in torch.autograd.grad(loss, net.trained())]
        total = [a + b / len(images) for a, b in zip(total, squares, strict=True)]
    return total


def eta(loss_of=entropy, reset_every=None, margin=None, share=0.4, adam=False, fisher_weight=0.0):
    """As RDumb's, COME's and, with a Fisher weight, EATA's code."""

    def reference(images):
        net, average = Plain(), None
        sgd = torch.optim.SGD(net.trained(), lr=2.5e-4, momentum=0.9)
        sgd = torch.optim.Adam(net.trained(), lr=1e-3) if adam else sgd
        fisher = fisher_of(batches(2))
        limit, most = share * math.log(K), margin or min(1.0, 0.05 * math.sqrt(1000 / K))
        for number, x in enumerate(images):
            if reset_every and number % reset_every == 0:
                net.set_back()
                sgd = torch.optim.SGD(net.trained(), lr=2.5e-4, momentum=0.9)
                average = None
            logits = net(x)
            h, p = loss_of(logits), logits.softmax(1).detach()
            kept = []
            for i in range(len(x)):
                close = 0.0 if average is None else float(F.cosine_similarity(p[i], average, dim=0))
                if float(h[i].detach()) < limit and abs(close) < most:
                    kept.append(i)
            if kept:
                loss = sum(h[i] * math.exp(limit - float(h[i].detach())) for i in kept) / len(kept)
                for f, name in zip(fisher, AFFINE, strict=True):
                    loss = loss + fisher_weight * (f * (net.w[name] - net.source[name]) ** 2).sum()
                learn(sgd, loss)
                mean = p[kept].mean(0)
                average = mean if average is None else 0.9 * average + 0.1 * mean
            yield logits, net

    return reference


def sar(loss_of=entropy, reset_below=0.029):
    """As SAR's and COME's code, but that the average starts anew after a reset."""

    def reference(images):
        net, names, average = Plain(), ("1.weight", "1.bias"), None  # the last quarter is frozen
        sgd, limit = torch.optim.SGD(net.trained(names), lr=2.5e-4, momentum=0.9), 0.4 * math.log(K)
        for x in images:
            logits = net(x)
            h = loss_of(logits)
            first = h < limit
            if first.any():
                gradients = torch.autograd.grad(h[first].mean(), net.trained(names))
                length = math.sqrt(sum(float((g**2).sum()) for g in gradients)) + 1e-12
                origin = [p.detach().clone() for p in net.trained(names)]
                with torch.no_grad():
                    for p, g in zip(net.trained(names), gradients, strict=True):
                        p += 0.05 * g / length
                h2 = loss_of(net(x))
                second = first & (h2 < limit)
                sgd.zero_grad()
                if second.any():
                    torch.autograd.backward(h2[second].mean())
                with torch.no_grad():
                    for p, value in zip(net.trained(names), origin, strict=True):
                        p.copy_(value)
                if second.any():
                    sgd.step()
                    loss = float(h2[second].mean().detach())
                    average = loss if average is None else 0.9 * average + 0.1 * loss
                    if average < reset_below * math.log(K):
                        net.set_back()
                        sgd = torch.optim.SGD(net.trained(names), lr=2.5e-4, momentum=0.9)
                        average = None
            yield logits, net

    return reference


def cotta():
    """CoTTA's code for small images: its views are those below, its masks are drawn alike."""

    def reference(images):
        student, teacher, anchor = Plain(), Plain(), Plain()
        names = [n for n in student.w if "running" not in n and "tracked" not in n]
        for net in (student, teacher, anchor):
            net.every = [*(net.w[n].requires_grad_(net is student) for n in names)]
            net.every += [part.requires_grad_(net is student) for part in (net.head, net.bias)]
        adam = torch.optim.Adam(student.every, lr=1e-3, betas=(0.9, 0.999))
        for x in images:
            assert float(anchor(x).softmax(1).amax(1).mean()) < 0.92  # so that it looks at views
            answer = (teacher(view(x, flip=False)) + teacher(view(x, flip=False))) / 2
            learn(adam, -(answer.softmax(1) * student(x).log_softmax(1)).sum(1).mean())
            with torch.no_grad():
                for mine, theirs, first in zip(
                    student.every, teacher.every, anchor.every, strict=True
                ):
                    theirs.copy_(0.999 * theirs + 0.001 * mine)
                    gone = torch.rand(mine.shape, dtype=mine.dtype) < 0.01
                    mine[gone] = first[gone]
            yield answer, student

    return reference


def view(images, *, flip):
    """What stands for ROID's view: nothing is drawn."""
    return images.flip(-1) * 0.8 + 0.05


def roid(noise=None):
    """ROID's code, and CMF's Bayesian filter where there is noise."""

    def reference(images):
        net, average = Plain(), torch.full((K,), 1 / K, dtype=torch.float64)
        adam = torch.optim.Adam(net.trained(), lr=1e-3)
        hidden = {name: value.clone() for name, value in net.source.items()}
        variance, q = 0.0, (noise or 0) * sum(v.numel() for v in net.source.values()) / 38400
        for x in images:
            logits = net(x)
            p = logits.softmax(1).detach()
            with torch.no_grad():
                div = 1 - F.cosine_similarity(average[None], p, dim=1)
                div = (div - div.min()) / (div.max() - div.min())
                mask = div < div.mean()
                cert = -entropy(logits)
                cert = (cert - cert.min()) / (cert.max() - cert.min())
                weights = torch.exp(div * cert / (1 / 3))
                average = 0.9 * average + 0.1 * p.mean(0)
            c = logits.softmax(1).clamp(0.0, 0.99)
            ratio = -(c * torch.log(c / (1 - c) + 1e-5)).sum(1)
            loss = (ratio * weights)[~mask].sum() / BATCH
            other, own = net(view(x[~mask], flip=True)), logits[~mask]
            sce = -0.5 * (own.softmax(1) * other.log_softmax(1)).sum(1)
            sce = sce - 0.5 * (other.softmax(1) * own.log_softmax(1)).sum(1)
            learn(adam, loss + (sce * weights[~mask]).sum() / BATCH)
            with torch.no_grad():
                if noise:
                    variance = 0.99**2 * variance + q
                    beta = (1 - q) / (variance + 1 - q)
                    beta = beta if beta > 0.89 else 0.89
                    beta = beta if beta < 0.9999 else 1.0
                    variance = beta * variance
                for name, source in net.source.items():
                    if noise:
                        recovered = 0.99 * hidden[name] + 0.01 * source
                        hidden[name] = beta * recovered + (1 - beta) * net.w[name]
                    pull = hidden[name] if noise else source
                    net.w[name].copy_(0.99 * net.w[name] + 0.01 * pull)
            prior = p.mean(0)
            smooth = max(1 / len(x), 1 / K) / float(prior.max())
            yield logits * (prior + smooth) / (1 + smooth * K), net

    return reference


def deyo(images):
    """DeYO's code with ln K for ln 1000; sides of 10 pixels are resized to 8 and back."""
    net, names = Plain(), ("1.weight", "1.bias")
    sgd = torch.optim.SGD(net.trained(names), lr=2.5e-4, momentum=0.9)
    for x in images:
        logits = net(x)
        h, p = entropy(logits), logits.softmax(1).detach()
        first = [i for i in range(len(x)) if float(h[i].detach()) < 0.5 * math.log(K)]
        if first:
            small = F.interpolate(
                x[first], (8, 8), mode="bilinear", align_corners=False, antialias=True
            )
            order, moved = torch.rand(len(first), 16).argsort(1), small.clone()
            for i in range(len(first)):
                for to, start in enumerate(order[i].tolist()):
                    (a, b), (c, d) = divmod(to, 4), divmod(start, 4)
                    part = small[i, :, 2 * c : 2 * c + 2, 2 * d : 2 * d + 2]
                    moved[i, :, 2 * a : 2 * a + 2, 2 * b : 2 * b + 2] = part
            back = F.interpolate(
                moved, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True
            )
            with torch.no_grad():
                other = net(back).softmax(1)
            fall = [float(p[i].max() - other[j, p[i].argmax()]) for j, i in enumerate(first)]
            kept = [(i, f) for i, f in zip(first, fall, strict=True) if f > 0.3]
            if kept:
                terms = [
                    h[i] * (math.exp(0.4 * math.log(K) - float(h[i].detach())) + math.exp(f))
                    for i, f in kept
                ]
                learn(sgd, sum(terms) / len(terms))
        yield logits, net


def bn_adapt(share=1.0):
    """Schneider et al.: (1 - share) source + share batch, of each batch by itself."""

    def reference(images):
        for x in images:
            net = Plain()
            net.share = share
            yield net(x), net

    return reference


def bn_ema(images):
    net = Plain()
    for x in images:
        net.moving = 0.1
        net(x)
        net.moving = None
        yield net(x, "source"), net


def dua(images):
    """DUA's code, but that answers are those of the moment: nothing is chosen afterwards."""
    net, momentum = Plain(), 0.1
    for x in images:
        for image in x:
            momentum = momentum * 0.94
            places, turns = torch.randint(0, 3, (8, 2)), torch.randint(0, 4, (8,))
            mirrored, views = torch.rand(8) < 0.5, []
            for (top, left), turn, mirror in zip(places, turns, mirrored, strict=True):
                padded = np.zeros((3, SIDE + 2, SIDE + 2))
                padded[:, 1:-1, 1:-1] = image.numpy()
                shown = padded[:, top : top + SIDE, left : left + SIDE]
                shown = shown[:, :, ::-1] if mirror else shown
                views.append(np.rot90(shown, int(turn), (1, 2)))
            net.moving = momentum + 0.005
            net(torch.from_numpy(np.array(views)))
            net.moving = None
        yield net(x, "source"), net


def numpy_of(x):
    return x.detach().numpy()


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def lame(images):
    net = Plain()
    for x in images:
        z = net.features(x, "source")
        p = softmax(numpy_of(z @ net.head.T + net.bias))
        z = numpy_of(z)
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        distance = np.array([[np.linalg.norm(a - b) for b in z] for a in z])
        sigma = np.mean([np.sort(row)[4] for row in distance])
        w = np.exp(-(distance**2) / (2 * sigma**2))
        unary, old = -np.log(p + 1e-10), float("inf")
        y = softmax(-unary)
        for i in range(100):
            pair = w @ y
            y = softmax(-unary + pair)
            bound = (unary * y - pair * y + y * np.log(np.clip(y, 1e-20, None))).sum()
            if i > 1 and abs(bound - old) <= 1e-8 * abs(old):
                break
            old = bound
        yield torch.from_numpy(np.log(y)), net


def t3a(images, most=3):
    net = Plain()
    head, bias = numpy_of(net.head), numpy_of(net.bias)
    supports = [[], [], [], [], []]

    def offer(z):
        for row in z:
            p = softmax((row @ head.T + bias)[None])[0]
            supports[int(p.argmax())].append((-(p * np.log(p)).sum(), row))

    offer(head)
    for x in images:
        z = numpy_of(net.features(x, "source"))
        offer(z)
        columns = []
        for own in supports:
            own.sort(key=lambda pair: pair[0])
            del own[most:]
            total = sum((row / np.linalg.norm(row) for _, row in own), np.zeros(D))
            columns.append(total / max(np.linalg.norm(total), 1e-12))
        yield torch.from_numpy(z @ np.array(columns).T), net


def cofa(images):
    net, last = Plain(), None
    for x in images:
        rows = []
        for z in numpy_of(net.features(x, "source")):
            both = (z + (z if last is None else last)) / 2
            one, two = (f @ numpy_of(net.head).T + numpy_of(net.bias) for f in (z, both))
            rows.append(two if softmax(two[None]).max() > softmax(one[None]).max() else one)
            last = z
        yield torch.from_numpy(np.array(rows)), net


CASES = [
    ("lame", {}, lame),
    ("t3a", {"per_class": 3}, t3a),
    ("cofa", {}, cofa),
    ("eta", {}, eta()),
    ("eta", {"margin": 0.9, "limit": 0.8}, eta(margin=0.9, share=0.8)),
    ("eta", {"optimiser": "adam", "lr": 1e-3}, eta(adam=True)),
    ("rdumb", {"reset_every": 2}, eta(reset_every=2)),
    ("cotta", {"views": 2}, cotta()),
    ("pl", {}, by_loss(hard_labels)),
    ("rpl", {}, by_loss(generalised)),
    ("tent", {}, by_loss(entropy)),
    ("tent", {"loss": "come"}, by_loss(opinion)),
    ("eata", {"loss": "come", "fisher_weight": 0.0}, eta(opinion)),
    ("eata", {"limit": 0.8, "margin": 0.9}, eta(margin=0.9, share=0.8, fisher_weight=2000.0)),
    ("sar", {}, sar()),
    ("sar", {"loss": "come"}, sar(opinion)),
    ("sar", {"reset_below": 0.15}, sar(reset_below=0.15)),
    ("bn-adapt", {}, bn_adapt()),
    ("bn-adapt", {"rho": 0.3}, bn_adapt(0.3)),
    ("roid", {}, roid()),
    ("cmf", {}, roid(0.005)),
    ("cmf", {"noise": 50.0}, roid(50.0)),
    ("deyo", {}, deyo),
    ("bn-ema", {}, bn_ema),
    ("dua", {"views": 8}, dua),
]
STILL = {"lame", "t3a", "cofa", "bn-adapt"}


def begun(name, options, net=None, k=K):
    task = Task("classification", tuple(map(str, range(k))), SIDE)
    extras = {"fisher-images": torch.cat(batches(2))}
    method = registry.method(name)(**options)
    method.begin(Online(task, net or network(), BATCH, 0, Recorder(), extras))
    return method


IDS = ["-".join((name, *(f"{k}={v}" for k, v in options.items()))) for name, options, _ in CASES]


@pytest.mark.parametrize(("name", "options", "reference"), CASES, ids=IDS)
def test_a_step_is_the_published_one(name, options, reference, monkeypatch):
    monkeypatch.setattr("dabench.methods.online.roid.jitter", view)
    monkeypatch.setattr("dabench.methods.online.cotta.augment", view)
    images = batches()
    torch.manual_seed(3)
    expected = []
    for logits, net in reference(images):
        state = {key: value.detach().clone() for key, value in net.w.items()}
        expected.append((logits.detach(), state))
    torch.manual_seed(3)
    method = begun(name, options)
    for i, (x, (logits, state)) in enumerate(zip(images, expected, strict=True)):
        found = method.step(TargetBatch(x.clone(), torch.arange(BATCH) + i * BATCH))
        torch.testing.assert_close(found, logits, rtol=1e-8, atol=1e-8)
        now = method.net.backbone.state_dict()
        for key, value in state.items():
            if "tracked" not in key:
                torch.testing.assert_close(now[key], value, rtol=1e-9, atol=1e-10)
    start, last = network().backbone.state_dict(), expected[-1][1]
    kinds = ("running", "weight") if name in {"bn-ema", "dua"} else ("weight", "running")
    moved, stays = (
        any(kind in k and not torch.equal(start[k], last[k]) for k in last) for kind in kinds
    )
    assert (moved, stays) == (name not in STILL, False)
