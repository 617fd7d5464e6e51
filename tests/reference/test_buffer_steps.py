"""Steps of methods with SHOT's frozen classifier and a buffer, against loops of their own.

The network written out and its batches are those of test_stream_steps.py, which lies beside.
Labels, buffers and losses go image by image; the optimiser is torch's.
"""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dabench.contract.access import TargetBatch

_spec = importlib.util.spec_from_file_location(
    "stream_steps", Path(__file__).with_name("test_stream_steps.py")
)
steps = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(steps)

K, BATCH, COUNT = steps.K, steps.BATCH, 4
WEIGHTS = ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias", "4.weight", "4.bias")


def eight_bit_batches():
    """Pictures of which an 8-bit buffer loses nothing."""
    made = steps.batches(COUNT)
    return [(x * 255).round().to(torch.uint8).float().div(255).double() for x in made]


class Learner(steps.Plain):
    """All learns but the classifier: SGD with Nesterov's momentum, a tenth of the rate."""

    def __init__(self, lr, unit=False):
        super().__init__()
        self.every = [self.w[name].requires_grad_(True) for name in WEIGHTS]
        self.sgd = torch.optim.SGD(
            self.every, lr=0.1 * lr, momentum=0.9, weight_decay=1e-3, nesterov=True
        )
        self.unit = unit

    def answer(self, z):
        return z @ self.head.T + self.bias

    def learn(self, loss):
        gradients = torch.autograd.grad(loss, self.every)
        length = math.sqrt(sum(float((g**2).sum()) for g in gradients)) if self.unit else 1.0
        for value, gradient in zip(self.every, gradients, strict=True):
            value.grad = gradient / length
        self.sgd.step()


def entropy(p):
    return -(p * p.log()).sum()


def sure_and_diverse(p):
    """Mean entropy, less the entropy of the mean."""
    return sum(entropy(row) for row in p) / len(p) - entropy(sum(p) / len(p))


def cross_entropy(logits, targets):
    """Mean cross-entropy with rows of probabilities."""
    rows = zip(logits, targets, strict=True)
    return sum(-(t * z.log_softmax(0)).sum() for z, t in rows) / len(logits)


def onehot(labels):
    return torch.eye(K, dtype=torch.float64)[list(labels)]


def centroid_labels(features, p, sums=None, mass=None):
    """SHOT's labels with one refinement; sums and mass are what earlier batches left."""
    z = [np.append(f, 1.0) / math.sqrt(float(f @ f) + 1) for f in features.detach().numpy()]
    p = p.detach().numpy()
    sums = np.zeros((K, len(z[0]))) if sums is None else sums
    mass = np.zeros(K) if mass is None else mass
    labels, weights = [int(row.argmax()) for row in p], p
    for _ in range(2):
        some = [k for k in range(K) if k in labels or mass[k] > 0]
        found = {k: sums[k] + sum(w[k] * f for w, f in zip(weights, z, strict=True)) for k in some}
        found = {k: c / np.linalg.norm(c) for k, c in found.items()}
        labels = [max(some, key=lambda k, f=f: f @ found[k]) for f in z]
        weights = np.eye(K)[labels]
    return labels, sums + weights.T @ np.array(z), mass + weights.sum(0)


class Buffer:
    """Places of which a class has ``most``; the largest keys stay."""

    def __init__(self, most):
        self.most, self.places, self.arrived = most, [None] * (K * most), 0

    def stored(self):
        return [item for item in self.places if item is not None]

    def settle(self, new=()):
        everyone = [*self.stored(), *new]
        kept = []
        for k in range(K):
            own = [item for item in everyone if item["label"] == k]
            kept += sorted(own, key=lambda item: -item["key"])[: self.most]
        kept = {id(item) for item in kept}
        self.places = [i if i is not None and id(i) in kept else None for i in self.places]
        for item in new:
            if id(item) in kept:
                self.places[self.places.index(None)] = item

    def offer(self, images, labels, keys, answers=None):
        answers = [None] * len(images) if answers is None else answers
        rows = zip(images, labels, keys, answers, strict=True)
        self.settle([{"image": x, "label": k, "key": float(v), "answer": a} for x, k, v, a in rows])


def union(net, x, stored):
    """Features of the batch and of stored images, each in statistics of their own."""
    return torch.cat([net.features(part, "batch") for part in (x, stored) if len(part)])


def stacked(items):
    return torch.stack([item["image"] for item in items]) if items else torch.zeros(0)


def shot_online(images):
    net, sums, mass = Learner(1e-2), None, None
    for x in images:
        z = net.features(x, "batch")
        logits = net.answer(z)
        p = logits.softmax(1)
        sums, mass = (None, None) if sums is None else (0.9 * sums, 0.9 * mass)
        labels, sums, mass = centroid_labels(z, p, sums, mass)
        net.learn(0.3 * cross_entropy(logits, onehot(labels)) + sure_and_diverse(p))
        yield logits, net, None


def conda(mixing, most=2):
    """docs/reconstructions.md: the surest images stay; all of them join every batch."""

    def reference(images):
        net, buffer = Learner(1e-2), Buffer(most)
        for x in images:
            items = buffer.stored()
            both = torch.cat((x, stacked(items))) if items else x
            z = union(net, x, stacked(items))
            logits = net.answer(z)
            p = logits.detach().softmax(1)
            labels, _, _ = centroid_labels(z, p)
            target, used = onehot(labels), list(range(len(both)))
            confidence = [float(row[k]) for row, k in zip(p, labels, strict=True)]
            seen = logits
            if mixing == "mixup":
                order = torch.randperm(len(both)).tolist()
                gamma = torch.distributions.Gamma(1.0, 1.0).sample((2, len(both)))
                share = (gamma[0] / (gamma[0] + gamma[1])).double()  # Beta(1, 1)
                pairs = [(i, order[i], float(share[i])) for i in range(len(both))]
                both = torch.stack([v * both[i] + (1 - v) * both[j] for i, j, v in pairs])
                target = torch.stack([v * target[i] + (1 - v) * target[j] for i, j, v in pairs])
                seen = net(both)
            if mixing == "selective":
                used = list(range(len(x)))
                for k in range(K):
                    lacks = max(0, math.ceil(len(x) / K) - labels[: len(x)].count(k))
                    own = [i for i in range(len(x), len(both)) if labels[i] == k]
                    used += sorted(own, key=lambda i: -confidence[i])[:lacks]
            seen, target = seen[used], target[used]
            loss = 0.3 * cross_entropy(seen, target) + sure_and_diverse(seen.softmax(1))
            net.learn(loss)
            for item, k, sure in zip(items, labels[len(x) :], confidence[len(x) :], strict=True):
                item["label"], item["key"] = k, sure
            buffer.settle()
            buffer.offer(x, labels[: len(x)], confidence[: len(x)])
            yield logits[: len(x)], net, buffer

    return reference


def ucl_gv(images, most=2):
    """docs/reconstructions.md: the last images stay; contrast with stored ones of the own class."""
    net, buffer = Learner(1e-2), Buffer(most)
    for x in images:
        items = buffer.stored()
        z = union(net, x, stacked(items))
        logits = net.answer(z)
        p = logits.softmax(1)
        labels, _, _ = centroid_labels(z, p)
        terms, unit = [], [row / row.norm() for row in z]
        for i in range(len(x)):
            partners = [j for j in range(len(x), len(z)) if labels[j] == labels[i]]
            if partners:
                all_but_own = [unit[i] @ unit[a] / 0.1 for a in range(len(z)) if a != i]
                total = torch.stack(all_but_own).exp().sum().log()
                terms.append(sum(total - unit[i] @ unit[j] / 0.1 for j in partners) / len(partners))
        contrast = sum(terms) / len(terms) if terms else 0.0
        net.learn(cross_entropy(logits, onehot(labels)) + sure_and_diverse(p) + contrast)
        for item, k in zip(items, labels[len(x) :], strict=True):
            item["label"] = k
        buffer.settle()
        buffer.offer(x, labels[: len(x)], range(buffer.arrived, buffer.arrived + len(x)))
        buffer.arrived += len(x)
        yield logits[: len(x)], net, buffer


def aerial(images, most=2, replay=4):
    """docs/reconstructions.md: rehearsal of stored answers, unit gradients, the source beside."""
    net, source, buffer = Learner(0.1, unit=True), steps.Plain(), Buffer(most)
    for x in images:
        items = buffer.stored()
        if len(items) > replay:
            items = [items[i] for i in sorted(torch.randperm(len(items))[:replay].tolist())]
        pose = int(torch.randint(8, ()))
        shown = [np.rot90(item["image"].numpy(), pose % 4, (1, 2)) for item in items]
        shown = [picture[:, :, ::-1] if pose >= 4 else picture for picture in shown]
        z = union(net, x, torch.from_numpy(np.array(shown)) if shown else torch.zeros(0))
        logits = net.answer(z)
        p, n = logits.softmax(1), len(x)
        labels = centroid_labels(z, p)[0][:n]
        loss = sure_and_diverse(p[:n]) + 0.3 * cross_entropy(logits[:n], onehot(labels))
        if items:
            then = torch.stack([item["answer"] for item in items])
            loss = loss + 0.3 * cross_entropy(logits[n:], then)
        net.learn(loss)
        answers = p[:n].detach().float().double()  # kept in single precision
        buffer.offer(x, labels, torch.rand(n, dtype=torch.float64), answers)
        yield logits[:n] + 0.25 * source(x).detach(), net, buffer


CASES = [
    ("shot-online", {}, shot_online),
    ("conda", {"per_class": 2}, conda("mixup")),
    ("conda", {"per_class": 2, "mixing": "selective"}, conda("selective")),
    ("conda", {"per_class": 2, "mixing": "none"}, conda("none")),
    ("ucl-gv", {"per_class": 2}, ucl_gv),
    ("aerial", {"per_class": 2, "replay": 4}, aerial),
]
IDS = ["-".join((name, *map(str, options.values()))) for name, options, _ in CASES]


@pytest.mark.parametrize(("name", "options", "reference"), CASES, ids=IDS)
def test_a_step_is_that_of_the_equations(name, options, reference):
    images = eight_bit_batches()
    torch.manual_seed(3)
    expected = []
    for logits, net, buffer in reference(images):
        state = {key: value.detach().clone() for key, value in net.w.items()}
        kept = [] if buffer is None else [(i["label"], i["image"]) for i in buffer.stored()]
        expected.append((logits.detach(), state, kept))
    torch.manual_seed(3)
    method = steps.begun(name, options)
    for i, (x, (logits, state, kept)) in enumerate(zip(images, expected, strict=True)):
        found = method.step(TargetBatch(x.clone(), torch.arange(BATCH) + i * BATCH))
        torch.testing.assert_close(found, logits, rtol=1e-7, atol=1e-7)
        now = method.net.backbone.state_dict()
        for key, value in state.items():
            if "tracked" not in key:
                torch.testing.assert_close(now[key], value, rtol=1e-7, atol=1e-9, msg=key)
        if kept:
            places = method.buffer.stored_places()
            assert method.buffer.labels[places].tolist() == [label for label, _ in kept]
            pictures = torch.stack([image for _, image in kept]).float()
            torch.testing.assert_close(method.buffer.images(places), pictures, rtol=0, atol=1e-6)
    start = steps.network().backbone.state_dict()
    moved = {key for key, value in expected[-1][1].items() if not torch.equal(value, start[key])}
    assert moved >= {"0.weight", "1.weight", "3.weight", "4.bias"}
    assert not any("running" in key for key in moved)
    assert torch.equal(method.net.classifier.weight, steps.network().classifier.weight)
