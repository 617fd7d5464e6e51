"""Steps of online methods in plain torch: what ``online.py`` holds the suite's own loop against.

``rotta`` is not here: its memory alone is longer than all of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dabench.methods.online.cotta import jitter

Step = Callable[[Tensor], Tensor]


def _norms(net: nn.Module) -> list[nn.Module]:
    """Let every BatchNorm layer normalise by the batch, and return them."""
    layers = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.train()
        layer.track_running_stats = False
    return list(layers)


def _trained(net: nn.Module) -> list[Tensor]:
    """Freeze a network but for weight and bias of its BatchNorm layers, and return these."""
    net.requires_grad_(False)
    return [p.requires_grad_(True) for layer in _norms(net) for p in layer.parameters()]


def _entropy(logits: Tensor) -> Tensor:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def batchnorm(net: Any) -> Step:
    """Return a forward pass in batch statistics."""
    _norms(net)

    @torch.no_grad()
    def step(images: Tensor) -> Tensor:
        out: Tensor = net(images)
        return out

    return step


def tent(net: Any) -> Step:
    """Return Tent's step."""
    optimiser = torch.optim.Adam(_trained(net), lr=1e-3)

    def step(images: Tensor) -> Tensor:
        logits: Tensor = net(images)
        optimiser.zero_grad()
        torch.autograd.backward(_entropy(logits).mean())
        optimiser.step()
        return logits.detach()

    return step


@torch.no_grad()
def _lame(net: Any, images: Tensor) -> Tensor:
    z = net.features(images)
    unary = -(net.classifier(z).softmax(1) + 1e-10).log()
    z = F.normalize(z, dim=1)
    distance = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    width = distance.topk(5, largest=False).values[:, -1].mean()
    w = (-0.5 * (distance / width) ** 2).exp()
    y, before = (-unary).softmax(1), float("inf")
    for i in range(100):
        pairwise = w @ y
        y = (pairwise - unary).softmax(1)
        bound = float((y * (unary - pairwise + y.clamp_min(1e-20).log())).sum())
        if i > 1 and abs(bound - before) <= 1e-8 * abs(before):
            break
        before = bound
    return y.clamp_min(torch.finfo(y.dtype).tiny).log()


def lame(net: Any) -> Step:
    """Return LAME's answer, which learns nothing."""
    return lambda images: _lame(net, images)


def t3a(net: Any) -> Step:
    """Return T3A's step with 20 supports a class."""
    head = net.classifier
    kept: list[Tensor] = []

    def add(z: Tensor) -> None:
        logits = head(z)
        new = [z, logits.argmax(1), _entropy(logits)]
        rows, labels, entropies = (
            [torch.cat(pair) for pair in zip(kept, new, strict=True)] if kept else new
        )
        order = entropies.argsort()
        places = F.one_hot(labels[order], len(head.weight)).cumsum(0)
        place = places.gather(1, labels[order][:, None])[:, 0]
        chosen = order[place <= 20]
        kept[:] = [rows[chosen], labels[chosen], entropies[chosen]]

    with torch.no_grad():
        add(head.weight.clone())

    @torch.no_grad()
    def step(images: Tensor) -> Tensor:
        z: Tensor = net.features(images)
        add(z)
        of_class = F.one_hot(kept[1], len(head.weight)).to(z)
        return z @ F.normalize(of_class.T @ F.normalize(kept[0], dim=1), dim=1).T

    return step


def roid(net: Any) -> Step:
    """Return ROID's step; its view is the suite's."""
    own = _trained(net)
    start, optimiser = [p.detach().clone() for p in own], torch.optim.Adam(own, lr=1e-3)
    average: Tensor | None = None

    def step(images: Tensor) -> Tensor:
        nonlocal average
        logits: Tensor = net(images)
        p = logits.detach().softmax(1)
        average = torch.full_like(p[0], 1 / p.shape[1]) if average is None else average
        other, sure = 1 - F.cosine_similarity(p, average[None], dim=1), -_entropy(logits.detach())
        other, sure = ((v - v.min()) / (v.max() - v.min()) for v in (other, sure))
        kept, weights = other >= other.mean(), (3 * other * sure).exp()
        average = 0.9 * average + 0.1 * p.mean(0)
        one, two = logits[kept], net(jitter(images[kept], flip=True))
        q = one.softmax(1).clamp(max=0.99)
        losses = -(q * (q / (1 - q) + 1e-5).log()).sum(1)
        losses = losses - (one.softmax(1) * two.log_softmax(1)).sum(1) / 2
        losses = losses - (two.softmax(1) * one.log_softmax(1)).sum(1) / 2
        optimiser.zero_grad()
        torch.autograd.backward((weights[kept] * losses).sum() / len(images))
        optimiser.step()
        with torch.no_grad():
            for parameter, source in zip(own, start, strict=True):
                parameter.lerp_(source, 0.01)
        m = p.mean(0)
        s = max(1 / len(p), 1 / len(m)) / m.max()
        return logits.detach() * (m + s) / (1 + s * len(m))

    return step


#: by the method's name
BARE: dict[str, Callable[[Any], Step]] = {
    "bn-adapt": batchnorm,
    "lame": lame,
    "t3a": t3a,
    "tent": tent,
    "roid": roid,
}
