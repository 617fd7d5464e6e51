"""Steps with memories, teachers and passes without patches, against loops of their own.

The network written out and its batches are those of test_stream_steps.py, which lies beside.
"""

import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from dabench.contract.access import TargetBatch
from dabench.networks.network import ClassifierNetwork

_spec = importlib.util.spec_from_file_location(
    "stream_steps", Path(__file__).with_name("test_stream_steps.py")
)
steps = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(steps)

K, D, BATCH, SIDE = steps.K, steps.D, steps.BATCH, steps.SIDE
WEIGHTS = ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias", "4.weight", "4.bias")


def eight_bit_batches(count):
    """Pictures of which an 8-bit memory loses nothing."""
    made = steps.batches(count)
    return [(x * 255).round().to(torch.uint8).float().div(255).double() for x in made]


class Whole(steps.Plain):
    """The network written out, with all its weights to learn."""

    def __init__(self, learns=True):
        super().__init__()
        for name in WEIGHTS:
            self.w[name].requires_grad_(learns)
        self.head.requires_grad_(learns)
        self.bias.requires_grad_(learns)

    def all(self):
        return [*self.trained(WEIGHTS), self.head, self.bias]

    def moved(self, x, momentum):
        """Features in train mode; running statistics follow."""
        self.moving = momentum
        z = self.features(x, "batch")
        self.moving = None
        for key in self.w:
            if "running" in key:
                self.w[key] = self.w[key].detach()
        return z

    def follow(self, student, decay):
        with torch.no_grad():
            for mine, other in zip(self.all(), student.all(), strict=True):
                mine.copy_(decay * mine + (1 - decay) * other)

    def state(self, prefix):
        found = {f"{prefix}.backbone.{key}": value for key, value in self.w.items()}
        return found | {
            f"{prefix}.classifier.weight": self.head,
            f"{prefix}.classifier.bias": self.bias,
        }


def weak_view(images, *, flip):
    return images.flip(-1) * 0.9


def strong_view(images, *, flip):
    return images * (0.5 + 0.5 * torch.rand(1)) + 0.05


VIEWS = SimpleNamespace(weak=weak_view, strong=strong_view)


def unit(z):
    return z / z.norm(dim=1, keepdim=True)


def adacontrast(images, queue=20, warm_up=24, near=3):
    """As the benchmark's code, but that a key keeps its own label."""
    net, teacher = Whole(), Whole(learns=False)
    keys = list(unit(torch.randn(queue, D)).double())
    key_labels = torch.randint(K, (queue,)).tolist()
    bank, seen = [], 0
    sgd = torch.optim.SGD(net.all(), lr=2e-4, momentum=0.9, weight_decay=1e-4, nesterov=True)
    for x in images:
        weak = weak_view(x, flip=True)
        one, other = strong_view(x, flip=True), strong_view(x, flip=True)
        with torch.no_grad():
            z = net.moved(weak, 0.1)
            labels = []
            for row, own in zip(z, z @ net.head.T + net.bias, strict=True):
                answer = own
                if seen >= warm_up:
                    cosine = [float(row @ b / (row.norm() * b.norm())) for b, _ in bank]
                    nearest = np.argsort(cosine)[::-1][:near]
                    answer = sum(bank[i][1] for i in nearest) / near
                labels.append(int(answer.argmax()))
        teacher.follow(net, 0.999)
        with torch.no_grad():
            k = unit(teacher.moved(other, 0.1))
        z = net.moved(one, 0.1)
        logits, q, loss = z @ net.head.T + net.bias, unit(z), 0.0
        for i, label in enumerate(labels):
            terms = [q[i] @ k[i]]
            terms += [q[i] @ u for u, c in zip(keys, key_labels, strict=True) if c != label]
            terms = torch.stack(terms) / 0.07
            loss = loss + (torch.logsumexp(terms, 0) - terms[0]) / len(x)
            loss = loss - logits[i].log_softmax(0)[label] / len(x)
        mean = logits.softmax(1).mean(0)
        steps.learn(sgd, loss + (mean * mean.log()).sum())
        keys, key_labels = [*keys, *k][-queue:], [*key_labels, *labels][-queue:]
        with torch.no_grad():
            z = teacher.moved(weak, 0.1)
            p = (z @ teacher.head.T + teacher.bias).softmax(1)
            bank, seen = [*bank, *zip(z, p, strict=True)][-queue:], seen + len(x)
            yield net(x, "source"), net.state("net") | teacher.state("teacher")


class Instance(steps.Plain):
    """The network written out with IABN, image by image."""

    k = 4.0

    def norm(self, x, at, by):
        mean, var = self.w[f"{at}.running_mean"], self.w[f"{at}.running_var"]
        if by == "batch":
            mean, var = x.mean((0, 2, 3)), x.transpose(0, 1).flatten(1).var(1, unbiased=True)
            m = self.moving
            for name, value in (("running_mean", mean), ("running_var", var)):
                old = self.w[f"{at}.{name}"]
                self.w[f"{at}.{name}"] = ((1 - m) * old + m * value).detach()
        places, rows = x.shape[2] * x.shape[3], []
        for image in x:
            maps = []
            for c, values in enumerate(image):
                far = self.k * torch.sqrt((var[c] + 1e-5) / places)
                gap = values.mean() - mean[c]
                mu = mean[c] + torch.sign(gap) * torch.clamp(gap.abs() - far, min=0)
                far = self.k * (var[c] + 1e-5) * math.sqrt(2 / (places - 1))
                gap = values.var(unbiased=True) - var[c]
                sigma = var[c] + torch.sign(gap) * torch.clamp(gap.abs() - far, min=0)
                scaled = (values - mu) / torch.sqrt(torch.clamp(sigma, min=0) + 1e-5)
                maps.append(scaled * self.w[f"{at}.weight"][c] + self.w[f"{at}.bias"][c])
            rows.append(torch.stack(maps))
        return torch.stack(rows)


def note(images, size=7, every=5):
    """As the authors' code: one image after the other."""
    net, memory, seen, count = Instance(), [], dict.fromkeys(range(K), 0), 0
    adam = torch.optim.Adam(net.trained(), lr=1e-4)
    for x in images:
        answers = []
        for image in x:
            with torch.no_grad():
                logits = net(image[None], "source")
            answers.append(logits[0])
            c = int(logits.argmax())
            seen[c], count = seen[c] + 1, count + 1
            held = [sum(label == k for _, label in memory) for k in range(K)]
            largest = [k for k in range(K) if held[k] == max(held)]
            if len(memory) < size:
                memory.append((image, c))
            else:
                giving = c
                if c not in largest:
                    giving = largest[int(torch.randint(len(largest), ()))]
                elif float(torch.rand(())) > held[c] / seen[c]:
                    giving = None
                if giving is not None:
                    own = [i for i, (_, label) in enumerate(memory) if label == giving]
                    memory[own[int(torch.randint(len(own), ()))]] = (image, c)
            if count % every == 0:
                net.moving = 0.01
                out = net(torch.stack([image for image, _ in memory]), "batch")
                net.moving = None
                steps.learn(adam, steps.entropy(out).mean())
        yield torch.stack(answers), {f"net.backbone.{k}": v for k, v in net.w.items()}


def rmt(optimiser):
    """As the benchmark's code with its weight of source images at 0, and rows for class means."""

    def reference(images):
        net, teacher = Whole(), Whole(learns=False)
        rows = net.head.detach().clone()
        first, last = nn.Linear(D, 6).double(), nn.Linear(6, 6).double()
        learning = [*net.all(), *first.parameters(), *last.parameters()]
        made = {
            "sgd": lambda: torch.optim.SGD(learning, lr=1e-2, momentum=0.9),
            "adam": lambda: torch.optim.Adam(learning, lr=1e-3),
        }[optimiser]()
        for x in images:
            z, z2 = net.features(x, "batch"), net.features(steps.view(x, flip=True), "batch")
            out, out2 = z @ net.head.T + net.bias, z2 @ net.head.T + net.bias
            with torch.no_grad():
                ema = teacher(x)
            loss = 0.0
            for a in (out, out2):
                for s, t in ((a, ema), (ema, a)):
                    loss = loss - 0.25 * (s.softmax(1) * t.log_softmax(1)).sum(1).mean()
            nearest = [int(F.cosine_similarity(row[None], rows).argmax()) for row in z]
            triples = [[rows[c], z[i], z2[i]] for i, c in enumerate(nearest)]
            v = [[last(first(t).clamp_min(0)) for t in triple] for triple in triples]
            v = [[t / t.norm() for t in triple] for triple in v]
            anchors = [(i, j) for i in range(len(x)) for j in range(3)]
            for i, j in anchors:
                total = sum(
                    torch.exp(v[i][j] @ v[m][n] / 0.1) for m, n in anchors if (m, n) != (i, j)
                )
                for n in range(3):
                    if n != j:
                        term = v[i][j] @ v[i][n] / 0.1 - torch.log(total)
                        loss = loss - term / 2 / len(anchors)
            steps.learn(made, loss)
            teacher.follow(net, 0.999)
            projector = {
                f"projector.{at}.{name}": value
                for at, layer in ((0, first), (2, last))
                for name, value in layer.state_dict().items()
            }
            yield out + ema, net.state("net") | teacher.state("teacher") | projector

    return reference


CASES = [
    ("adacontrast-online", {"queue": 20, "warm_up": 24, "neighbours": 3}, adacontrast),
    ("note", {"memory": 7, "every": 5}, note),
    ("rmt", {"projection": 6, "optimiser": "sgd", "lr": 1e-2}, rmt("sgd")),
    ("rmt", {"projection": 6}, rmt("adam")),
]
#: in front of BatchNorm by the batch their gradient is rounding noise, which Adam blows up
NOISE = ("0.bias", "3.bias")


def compare(method, images, expected, leave_out=()):
    """Push batches and compare answers and states after every one."""
    tensors = {k: v for k, v in method.state_dict().items() if isinstance(v, torch.Tensor)}
    start = {key: value.clone() for key, value in tensors.items()}
    for i, (x, (logits, state)) in enumerate(zip(images, expected, strict=True)):
        found = method.step(TargetBatch(x.clone(), torch.arange(len(x)) + i * BATCH))
        torch.testing.assert_close(found, logits, rtol=1e-7, atol=1e-8)
        now = method.state_dict()
        for key, value in state.items():
            if not key.endswith(("tracked", *leave_out)):
                torch.testing.assert_close(now[key], value, rtol=1e-7, atol=1e-9, msg=key)
    last = expected[-1][1]
    return {key for key, value in last.items() if not torch.equal(value, start[key])}


def frozen(expected):
    return [
        (logits.detach(), {key: value.detach().clone() for key, value in state.items()})
        for logits, state in expected
    ]


@pytest.mark.parametrize(
    ("name", "options", "reference"), CASES, ids=["ada", "note", "sgd", "adam"]
)
def test_a_step_is_the_published_one(name, options, reference, monkeypatch):
    monkeypatch.setattr("dabench.methods.online.adacontrast_online.views", VIEWS)
    monkeypatch.setattr("dabench.methods.online.rmt.augment", steps.view)
    images = eight_bit_batches(4 if reference is adacontrast else 3)
    torch.manual_seed(3)
    expected = frozen(reference(images))
    torch.manual_seed(3)
    method = steps.begun(name, options)
    moved = compare(method, images, expected, NOISE if options.get("optimiser") is None else ())
    assert "net.backbone.1.weight" in moved
    assert ("net.backbone.0.weight" in moved) == (name != "note")
    assert any("running" in key for key in moved) == (name != "rmt")


# -- REM: a vision transformer written out ---------------------------------------------------------

HEADS, WIDTH, PATCH, DEPTH = 2, 8, 2, 4


def transformer(seed=0, **how):
    """A tiny vision transformer of timm in ``ClassifierNetwork``, whose attention differs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH}
        vit = VisionTransformer(**sizes, num_heads=HEADS, num_classes=0, **how)
        for name, p in vit.named_parameters():
            if "norm" not in name:
                p.data += 0.3 * torch.randn_like(p)
        net = ClassifierNetwork(vit, WIDTH, K, bottleneck=0, weight_norm=False).double().eval()
        net.classifier.weight.data *= 3
    return net


class Written:
    """The same transformer by hand, from its numbers."""

    def __init__(self):
        net = transformer()
        self.w = {name: v.clone() for name, v in net.backbone.state_dict().items()}
        self.head, self.bias = (p.detach().clone() for p in net.classifier.parameters())
        self.names = [
            f"blocks.{i}.norm{j}.{part}"
            for i in range(DEPTH - 1)  # the last quarter of the blocks is frozen
            for j in (1, 2)
            for part in ("weight", "bias")
        ]
        for name in self.names:
            self.w[name].requires_grad_(True)

    def norm(self, x, name):
        mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
        x = (x - mean) / torch.sqrt(var + 1e-6)
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def one(self, image, kept=None):
        """Logits of one image, and the class token's attention in the last block."""
        x, patches, side = (image - 0.5) / 0.5, [], SIDE // PATCH
        kernel = self.w["patch_embed.proj.weight"].flatten(1)
        for i in range(side):
            for j in range(side):
                part = x[:, PATCH * i : PATCH * (i + 1), PATCH * j : PATCH * (j + 1)]
                patches.append(kernel @ part.flatten() + self.w["patch_embed.proj.bias"])
        tokens = torch.stack([self.w["cls_token"][0, 0], *patches]) + self.w["pos_embed"][0]
        if kept is not None:
            tokens = tokens[[0, *(1 + i for i in kept)]]
        for i in range(DEPTH):
            at = f"blocks.{i}"
            q, k, v = self.linear(self.norm(tokens, f"{at}.norm1"), f"{at}.attn.qkv").chunk(3, 1)
            out, size, shares = [], WIDTH // HEADS, []
            for h in range(HEADS):
                columns = slice(h * size, (h + 1) * size)
                share = (q[:, columns] @ k[:, columns].T / math.sqrt(size)).softmax(1)
                shares.append(share[0, 1:])
                out.append(share @ v[:, columns])
            tokens = tokens + self.linear(torch.cat(out, 1), f"{at}.attn.proj")
            hidden = F.gelu(self.linear(self.norm(tokens, f"{at}.norm2"), f"{at}.mlp.fc1"))
            tokens = tokens + self.linear(hidden, f"{at}.mlp.fc2")
        z = self.norm(tokens, "norm")[0]
        return z @ self.head.T + self.bias, sum(shares) / HEADS


def rem(images, counts=(22, 20), weight=1.0, margin=0.0):
    """As the authors' code: of 25 patches int(25 * .9) and int(25 * .8) stay."""
    net = Written()
    adam = torch.optim.Adam([net.w[name] for name in net.names], lr=1e-3)
    for x in images:
        loss, answers = 0.0, []
        for image in x:
            whole, attention = net.one(image)
            least = attention.detach().argsort()
            seen = [whole, *(net.one(image, least[:n].tolist())[0] for n in counts)]
            answers.append(whole)
            p = [s.softmax(0) for s in seen]
            h = [-(q * q.log()).sum() for q in p]
            for j in range(3):
                for i in range(j):
                    loss = loss - (p[i].detach() * p[j].log()).sum() / len(x)
                    gap = h[i] - h[j].detach() + margin * math.log(K)
                    loss = loss + weight * gap.clamp_min(0) / len(x)
        steps.learn(adam, loss)
        yield torch.stack(answers), {f"net.backbone.{key}": v for key, v in net.w.items()}


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_a_step_of_rem_is_the_published_one(margin):
    images = [x[:4] for x in steps.batches(3)]
    expected = frozen(rem(images, margin=margin))
    method = steps.begun("rem", {"margin": margin}, transformer())
    moved = compare(method, images, expected)
    assert moved == {f"net.backbone.{name}" for name in Written().names}


# -- parts ---------------------------------------------------------------------------------------


def normal(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_class_attention_is_that_of_the_layer():
    """Against timm's own arithmetic, with registers in front of the patches."""
    from dabench.methods.functional.vision_tokens import class_attention, vision_transformer

    net = transformer(reg_tokens=2, qk_norm=True)
    attention = vision_transformer(net, "rem").blocks[-1].attn
    tokens, kept = normal(1, 3, 3 + 25, WIDTH), []
    attention.fused_attn = False
    attention.attn_drop.register_forward_hook(lambda module, inputs, out: kept.append(out))
    attention(tokens)
    expected = kept[0].mean(1)[:, 0, 3:]
    torch.testing.assert_close(class_attention(attention, tokens, 3), expected)


def test_watched_attention_and_kept_patches_leave_no_hook():
    from dabench.methods.functional.vision_tokens import kept_patches, watched_attention

    net = transformer()
    x, vit = steps.batches(1)[0][:2], net.backbone
    with torch.no_grad():
        plain = net(x)
        with watched_attention(vit) as found, kept_patches(vit, torch.arange(25).expand(2, -1)):
            torch.testing.assert_close(net(x), plain)
        with kept_patches(vit, torch.arange(5).expand(2, -1)):
            assert not torch.allclose(net(x), plain)
        assert torch.equal(net(x), plain)
    assert [a.shape for a in found] == [(2, 25)]
    assert (found[0].sum(1) < 1).all()  # the rest is the class token's look at itself


def test_ranked_entropy_by_hand():
    from dabench.methods.functional.ranked_entropy import ranked_entropy

    logits = [normal(i, 4, 3).requires_grad_(True) for i in range(3)]
    p = [steps.softmax(x.detach().numpy()) for x in logits]
    h = [-(q * np.log(q)).sum(1) for q in p]
    expected = 0.0
    for i, j in ((0, 1), (0, 2), (1, 2)):
        expected += -(p[i] * np.log(p[j])).sum(1).mean()
        expected += 0.7 * np.maximum(h[i] - h[j] + 0.1, 0).mean()
    loss = ranked_entropy(logits, 0.7, 0.1)
    assert loss.item() == pytest.approx(expected)
    # whole passes learn by the ranking alone, the last by the common answer alone
    grads = torch.autograd.grad(ranked_entropy(logits, 0.0, 0.1), logits, allow_unused=True)
    assert grads[0] is None or not grads[0].any()
    expected_last = sum(p[2] - p[i] for i in (0, 1)) / 4
    np.testing.assert_allclose(torch.autograd.grad(loss, logits[2])[0], expected_last, rtol=1e-6)
    assert float(ranked_entropy(logits[:1], 1.0, 0.0)) == 0


def test_instance_contrast_with_and_without_negatives():
    from dabench.methods.functional.contrastive import instance_contrast

    q, k, queue = unit(normal(0, 4, 6)), unit(normal(1, 4, 6)), unit(normal(2, 5, 6))
    negative = torch.tensor([[1, 0, 1, 1, 0], [0] * 5, [1] * 5, [0, 0, 0, 0, 1]]).bool()
    total = 0.0
    for i in range(4):
        own = math.exp(float(q[i] @ k[i]) / 0.07)
        others = [math.exp(float(q[i] @ queue[j]) / 0.07) for j in range(5) if negative[i, j]]
        total -= math.log(own / (own + sum(others))) / 4
    assert float(instance_contrast(q, k, queue, negative)) == pytest.approx(total)
    alone = q.clone().requires_grad_(True)
    loss = instance_contrast(alone, k, queue, torch.zeros_like(negative))
    (gradient,) = torch.autograd.grad(loss, alone)
    assert loss.item() == 0
    assert torch.isfinite(gradient).all()


def test_view_contrast():
    from dabench.methods.functional.contrastive import view_contrast

    views = normal(0, 3, 4, 5)
    z = (views / views.norm(dim=2, keepdim=True)).flatten(0, 1).numpy()
    total = 0.0
    for a in range(12):
        share = sum(math.exp(z[a] @ z[b] / 0.5) for b in range(12) if b != a)
        for p in range(12):
            if p != a and p // 4 == a // 4:
                total -= math.log(math.exp(z[a] @ z[p] / 0.5) / share) / 3 / 12
    assert float(view_contrast(views, 0.5)) == pytest.approx(total)
    same = normal(1, 1, 1, 5).expand(1, 3, 5)
    assert float(view_contrast(same)) == pytest.approx(math.log(2))


def test_bank_probabilities():
    from dabench.methods.functional.neighbours import bank_probabilities

    z, bank, p = normal(0, 4, 6), normal(1, 9, 6), normal(2, 9, 3).softmax(1)
    bank = bank / bank.norm(dim=1, keepdim=True)
    found = bank_probabilities(z, bank, p, 3, chunk=3)
    for row, answer in zip(z, found, strict=True):
        cosine = [float(row @ b / row.norm() / b.norm()) for b in bank]
        nearest = sorted(range(9), key=lambda i: -cosine[i])[:3]
        torch.testing.assert_close(answer, p[nearest].mean(0))
    torch.testing.assert_close(bank_probabilities(z, bank, p, 50), p.mean(0).expand(4, -1))


def test_instance_aware_statistics():
    """soft_shrink in NumPy; plain statistics where k is large, an image's own where it is 0."""
    from dabench.methods.functional.instance_aware_norm import (
        instance_aware_statistics,
        soft_shrink,
    )

    x, limit = normal(0, 50), normal(1, 50).abs()
    expected = np.sign(x) * np.maximum(np.abs(x) - limit.numpy(), 0)
    np.testing.assert_allclose(soft_shrink(x, limit), expected)
    maps, mean, var = normal(2, 3, 4, 5, 5) * 2, normal(3, 4), normal(4, 4).abs() + 0.1
    m, v = instance_aware_statistics(maps, mean, var, 1e9, 1e-5)
    torch.testing.assert_close(m, mean.view(1, 4, 1, 1).expand(3, -1, -1, -1))
    torch.testing.assert_close(v, var.view(1, 4, 1, 1).expand(3, -1, -1, -1))
    m, v = instance_aware_statistics(maps, mean, var, 0.0, 1e-5)
    torch.testing.assert_close(m, maps.mean((2, 3), keepdim=True))
    torch.testing.assert_close(v, maps.var((2, 3), keepdim=True))
    # far below the usual ones: a variance is never negative
    flat = instance_aware_statistics(torch.zeros(1, 4, 5, 5).double(), mean, var, 0.5, 1e-5)[1]
    assert (flat >= 0).all()


def test_a_place_in_the_memory():
    """balanced_place: an empty one; a largest class's; of its own class as in a reservoir."""
    from dabench.methods.functional.balanced_reservoir import balanced_place

    torch.manual_seed(0)
    assert balanced_place([2, -1, -1], 0, 1) == 1
    places = [balanced_place([0, 1, 1, 2, 2, 3], 3, 9) for _ in range(400)]
    assert {p: places.count(p) for p in sorted(set(places))}.keys() == {1, 2, 3, 4}
    assert all(abs(places.count(p) - 100) < 40 for p in (1, 2, 3, 4))
    places = [balanced_place([0, 0, 0, 1], 0, 12) for _ in range(400)]  # 3 of 12 stay
    assert abs(400 - places.count(None) - 100) < 40
    assert set(places) == {None, 0, 1, 2}


def test_a_memory_of_one_class_is_a_uniform_choice():
    from dabench.methods.functional.balanced_reservoir import BalancedReservoir

    torch.manual_seed(0)
    counts = np.zeros(20)
    pictures = torch.arange(20).view(-1, 1, 1, 1).expand(-1, 3, 2, 2) / 255
    for _ in range(300):
        memory = BalancedReservoir(5, 2, 2)
        memory.add(pictures, torch.ones(20, dtype=torch.int64))
        counts[(memory.images()[:, 0, 0, 0] * 255).round().long().numpy()] += 1
    assert counts.sum() == 1500
    assert (abs(counts - 75) < 40).all()


def test_linear_head():
    from dabench.errors import ConfigError
    from dabench.methods.functional.linear_head import linear_head

    layer = nn.Linear(3, 2)
    assert linear_head(layer, "rmt", "its rows") is layer
    assert linear_head(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)), "rmt", ""
    ).in_features
    with pytest.raises(
        ConfigError, match=r"rmt: the source model ends in Identity, and its rows of"
    ):
        linear_head(nn.Identity(), "rmt", "its rows")


def test_vision_transformer_is_found_inside_a_wrapper():
    from dabench.methods.functional.vision_tokens import vision_transformer

    net = transformer()
    assert vision_transformer(nn.Sequential(nn.Identity(), net), "rem") is net.backbone


def test_statistics_move_inside_moving_statistics_alone():
    from dabench.methods.functional.instance_aware_norm import use_instance_statistics
    from dabench.methods.functional.moving_norm import moving_statistics

    net, x = steps.network(), steps.batches(1)[0]
    use_instance_statistics(net, 4.0, "note")
    layer = net.backbone[1]
    before = layer.running_mean.clone()
    net(x)
    assert torch.equal(before, layer.running_mean)
    with moving_statistics(net, 0.5):
        net(x)
    moved = layer.running_mean.clone()
    assert not torch.equal(before, moved)
    net(x)
    assert torch.equal(moved, layer.running_mean)
