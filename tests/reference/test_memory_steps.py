"""Steps of methods with a memory, a source anchor or views, against loops of their own in float64.

Nothing of a method is used here but its step. The network is written out; Adam is torch's.
"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dabench import registry
from dabench.contract.access import Online, Recorder, TargetBatch
from dabench.contract.statistics import SourceStatistics
from dabench.contract.types import Task
from dabench.networks.network import ClassifierNetwork

K, SIDE, BATCH, D = 5, 10, 12, 8
AFFINE = ("1.weight", "1.bias", "4.weight", "4.bias")


def network():
    """Two convolutions with BatchNorm, mean pooling, a linear layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, D, 3, stride=2), nn.BatchNorm2d(D), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        for i in (1, 4):
            backbone[i].running_mean.normal_(std=0.2)
            backbone[i].running_var.uniform_(0.2, 0.6)
            backbone[i].weight.data.uniform_(0.5, 1.5)
            backbone[i].bias.data.normal_(std=0.2)
        net = ClassifierNetwork(backbone, D, K, bottleneck=0, weight_norm=False).double().eval()
        net.classifier.weight.data *= 12
    return net


def batches(count=3, size=BATCH):
    """8-bit pictures, so that a memory of 8-bit pictures loses nothing."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for number in range(count):
        x = torch.rand(size, 3, SIDE, SIDE, generator=generator) * 0.4
        for i in range(size):
            x[i, (i + number) % 3, (i % K) * 2 :, i % K :] += 0.3 + 0.2 * (number % 3)
        found.append(((x.clamp(0, 1) * 255).round() / 255).double())
    return found


def numbers(net):
    head = {f"head.{k}": v for k, v in net.classifier.state_dict().items()}
    return net.backbone.state_dict() | head


START = numbers(network())


class Plain:
    """The same network written out, with its own copies of all numbers.

    Attributes:
        mode: how BatchNorm normalises: by running statistics, by the batch, by a blend of both
            (a number: the batch's weight), or robustly: the running ones take 5 % of the batch in
            first.
    """

    def __init__(self, mode="running"):
        self.w = {k: v.clone() for k, v in START.items()}
        self.mode = mode
        for name in AFFINE:
            self.w[name].requires_grad_(True)

    def norm(self, x, at):
        n = x.numel() // x.shape[1]
        mean, var = self.w[f"{at}.running_mean"], self.w[f"{at}.running_var"]
        own = x.sum((0, 2, 3)) / n
        own_var = ((x - own.view(1, -1, 1, 1)) ** 2).sum((0, 2, 3)) / n
        if self.mode == "batch":
            mean, var = own, own_var
        elif self.mode != "running":
            m = 0.05 if self.mode == "robust" else self.mode
            mean, var = (1 - m) * mean + m * own, (1 - m) * var + m * own_var
            if self.mode == "robust":
                self.w[f"{at}.running_mean"], self.w[f"{at}.running_var"] = (
                    mean.detach().clone(),
                    var.detach().clone(),
                )
        x = (x - mean.view(1, -1, 1, 1)) / torch.sqrt(var.view(1, -1, 1, 1) + 1e-5)
        return x * self.w[f"{at}.weight"].view(1, -1, 1, 1) + self.w[f"{at}.bias"].view(1, -1, 1, 1)

    def features(self, x):
        x = F.conv2d((x - 0.5) / 0.5, self.w["0.weight"], self.w["0.bias"], padding=1)
        x = F.conv2d(self.norm(x, 1).clamp_min(0), self.w["3.weight"], self.w["3.bias"], stride=2)
        return self.norm(x, 4).clamp_min(0).mean((2, 3))

    def head(self, z):
        return z @ self.w["head.weight"].T + self.w["head.bias"]

    def __call__(self, x, mode=None):
        before, self.mode = self.mode, mode or self.mode
        out = self.head(self.features(x))
        self.mode = before
        return out

    def trained(self):
        return [self.w[name] for name in AFFINE]


def learn(optimiser, loss):
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step()


def view(images, *, flip):
    """What stands for a drawn view."""
    return images.flip(-1) * 0.8 + 0.05


def cross_entropy(target, logits):
    """CE(a -> b), the target's probabilities first."""
    return -(target.softmax(1) * logits.log_softmax(1)).sum(1)


class Store:
    """CSTU by its rules: lists of items by class, which are taken out and appended."""

    def __init__(self, size):
        self.size, self.items = size, [[] for _ in range(K)]

    def score(self, h, age):
        return 1 / (1 + math.exp(-age / self.size)) + h / math.log(K)

    def offer(self, x, label, h):
        counts = [len(items) for items in self.items]
        accepted, rivals = True, []
        if counts[label] >= self.size / K:
            rivals = [label]
        elif sum(counts) >= self.size:
            rivals = [k for k in range(K) if counts[k] == max(counts)]
        if rivals:
            pairs = [
                (self.score(*item[1:]), k, i)
                for k in rivals
                for i, item in enumerate(self.items[k])
            ]
            worst, k, i = max(pairs)
            accepted = worst > self.score(h, 0)
            if accepted:
                del self.items[k][i]
        if accepted:
            self.items[label].append([x, h, 0])
        for items in self.items:
            for item in items:
                item[2] += 1

    def recall(self):
        found = [item for items in self.items for item in items]
        return torch.stack([item[0] for item in found]), [item[2] / self.size for item in found]


def rotta(size, every):
    def reference(images):
        student, teacher, store, seen = Plain(), Plain(), Store(size), 0
        adam = torch.optim.Adam(student.trained(), lr=1e-3)
        for batch in images:
            answer = teacher(batch).detach()
            for x, logits in zip(batch, answer, strict=True):
                p = logits.softmax(0)
                store.offer(x, int(p.argmax()), float(-(p * torch.log(p + 1e-6)).sum()))
                seen += 1
                if seen % every == 0:
                    kept, ages = store.recall()
                    target = teacher(kept, "robust").detach()
                    logits = student(view(kept, flip=True), "robust")
                    weights = [math.exp(-a) / (1 + math.exp(-a)) for a in ages]
                    losses = torch.tensor(weights) * cross_entropy(target, logits)
                    learn(adam, losses.mean())
                    with torch.no_grad():
                        for name in AFFINE:
                            teacher.w[name].copy_(0.999 * teacher.w[name] + 0.001 * student.w[name])
            yield answer, {"net": student, "teacher": teacher}

    return reference


def statistics():
    """Means and variances of made-up clear features; the last class has one image."""
    images = torch.cat(batches(3)) * 0.7 + 0.1
    with torch.no_grad():
        z = network().features(images)
    labels = torch.arange(len(z)) % (K - 1)
    labels[0] = K - 1
    rows = [z[labels == k] for k in range(K)]
    by_class = [torch.stack([f(r) for r in rows]) for f in (lambda r: r.mean(0), spread)]
    count = torch.tensor([len(r) for r in rows])
    return SourceStatistics(z.mean(0), spread(z), *by_class, count)


def spread(rows):
    return ((rows - rows.mean(0)) ** 2).mean(0)


def petta(form):
    def reference(images):
        source, student, teacher, store = Plain(), Plain(), Plain(), Store(64)
        known = statistics()
        mean, var, means = known.class_mean, known.class_var, known.class_mean.clone()
        adam = torch.optim.Adam(student.trained(), lr=1e-3)
        for batch in images:
            z = teacher.features(batch).detach()
            answer = teacher.head(z).detach()
            labels = answer.argmax(1).tolist()
            for x, logits, label in zip(batch, answer, labels, strict=True):
                p = logits.softmax(0)
                store.offer(x, label, float(-(p * torch.log(p + 1e-6)).sum()))
            kept, _ = store.recall()
            taught = teacher(kept, "robust").detach()
            plain, anchor = student(kept, "robust"), source(kept, "robust").detach()
            changed = student(view(kept, flip=True), "robust")
            here = [k for k in sorted(set(labels)) if k < K - 1]
            terms = [((means[k] - mean[k]) ** 2 / (var[k] + 1e-6)).mean() for k in here]
            gamma = 1 - math.exp(-float(sum(terms) / len(terms))) if here else 0.0
            for k in set(labels):
                own = torch.stack([z[i] for i in range(len(z)) if labels[i] == k]).mean(0)
                means[k] = 0.95 * means[k] + 0.05 * own
            if form == "sce":
                loss = 0.25 * (cross_entropy(taught, plain) + cross_entropy(plain, taught))
                loss = loss + 0.25 * (
                    cross_entropy(taught, changed) + cross_entropy(changed, taught)
                )
            else:
                loss = cross_entropy(taught, changed)
            pull = 0.0
            for name in AFFINE:
                a, b = student.w[name], source.w[name].detach()
                pull = pull - (a * b).sum() / (a.norm() * b.norm()) / len(AFFINE)
            loss = loss.mean() + 10 * gamma * pull + cross_entropy(anchor, changed).mean()
            learn(adam, loss)
            rate = (1 - gamma) * 1e-3
            with torch.no_grad():
                for name in AFFINE:
                    teacher.w[name].copy_((1 - rate) * teacher.w[name] + rate * student.w[name])
            yield answer, {"net": student, "teacher": teacher, "anchor": source}

    return reference


def santa(images):
    """As the benchmark's code; the projector is drawn as the method draws it."""
    net, source, known = Plain("batch"), Plain("batch"), statistics().class_mean
    first, last = nn.Linear(D, 128), nn.Linear(128, 128)
    first, last = first.double(), last.double()
    projector = [*first.parameters(), *last.parameters()]
    adam = torch.optim.Adam([*net.trained(), *projector], lr=1e-3)
    for x in images:
        z, moved = net.features(x), net.features(view(x, flip=True))
        logits, other = net.head(z), net.head(moved)
        anchor = source(x).detach()
        loss = 0.5 * (cross_entropy(logits, anchor) + cross_entropy(other, anchor)).mean()
        near = []
        for row in z.detach():
            cosines = [float(F.cosine_similarity(row, mean, dim=0)) for mean in known]
            near.append(known[cosines.index(max(cosines))])
        flat = last(first(torch.cat((torch.stack(near), z, moved))).clamp_min(0))
        flat = flat / flat.norm(dim=1, keepdim=True)
        n, total = len(x), 0.0
        for i, scores in enumerate(flat @ flat.T / 0.1):
            below = torch.cat((scores[:i], scores[i + 1 :])).logsumexp(0)
            partners = [j for j in range(3 * n) if j != i and j % n == i % n]
            total = total - (scores[partners] - below).sum() / 2
        learn(adam, loss + total / (3 * n))
        yield logits, {"net": net}


def views(image, count, *, flip, generator):
    """What stands for AugMix: darker and darker."""
    return torch.stack([image * (1 - 0.1 * i) for i in range(count)])


def memo(images):
    """Every image with a network of its own, all weights of which take one step."""
    for x in images:
        rows = []
        for image in x:
            net = Plain(1 / 17)
            weights = [
                v.requires_grad_(True) for k, v in net.w.items() if k.endswith(("ght", "ias"))
            ]
            sgd = torch.optim.SGD(weights, lr=0.005)
            p = net(views(image, 4, flip=True, generator=None)).softmax(1).mean(0)
            learn(sgd, -(p * p.log()).sum())
            rows.append(net(image[None])[0])
        yield torch.stack(rows), {"net": Plain()}


def foa_shift(images):
    net, mean, history = Plain(), statistics().mean, None
    for x in images:
        z = net.features(x)
        yield net.head(z if history is None else z + mean - history), {"net": net}
        history = z.mean(0) if history is None else 0.9 * history + 0.1 * z.mean(0)


CASES = [
    ("rotta", {"every": 12}, rotta(64, 12)),
    ("rotta", {"every": 5, "memory": 7}, rotta(7, 5)),
    ("rotta", {"every": 6, "memory": 3}, rotta(3, 6)),
    ("petta", {}, petta("sce")),
    ("petta", {"loss": "ce"}, petta("ce")),
    ("santa", {}, santa),
    ("memo", {"views": 4}, memo),
    ("foa-shift", {}, foa_shift),
]
IDS = ["-".join((name, *(f"{k}={v}" for k, v in options.items()))) for name, options, _ in CASES]


@pytest.mark.parametrize(("name", "options", "reference"), CASES, ids=IDS)
def test_a_step_is_the_published_one(name, options, reference, monkeypatch):
    for module in ("rotta", "petta", "santa"):
        monkeypatch.setattr(f"dabench.methods.online.{module}.augment", view)
    monkeypatch.setattr("dabench.methods.online.memo.augmix_views", views)
    torch.manual_seed(3)
    images, expected = batches(), []
    for logits, nets in reference(images):
        states = {at: {k: v.detach().clone() for k, v in net.w.items()} for at, net in nets.items()}
        expected.append((logits.detach(), states))
    torch.manual_seed(3)
    method = registry.method(name)(**options)
    task = Task("classification", tuple(map(str, range(K))), SIDE)
    extras = {"source-statistics": statistics()}
    method.begin(Online(task, network(), BATCH, 0, Recorder(), extras))
    for i, (x, (logits, states)) in enumerate(zip(images, expected, strict=True)):
        found = method.step(TargetBatch(x.clone(), torch.arange(BATCH) + i * BATCH))
        torch.testing.assert_close(found, logits, rtol=1e-7, atol=1e-7)
        for at, state in states.items():
            now = numbers(getattr(method, at))
            for key, value in state.items():
                if "tracked" not in key:
                    torch.testing.assert_close(now[key], value, rtol=1e-7, atol=1e-8)
    start, last = Plain().w, expected[-1][1]["net"]
    moved = any(not torch.equal(start[k].detach(), last[k]) for k in last)
    assert moved == (name not in {"memo", "foa-shift"})
    assert not torch.equal(expected[0][0], expected[-1][0])
