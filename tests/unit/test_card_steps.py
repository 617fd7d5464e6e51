"""Three steps of usd, cabb and beta against plain loops; splits and labels are given by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from source_free_steps import (
    BATCHES,
    CLASSES,
    IMAGES,
    SIDE,
    Steps,
    compare_steps,
    mean,
    network,
    pictures,
    squeezed,
)
from torch import Tensor

from dabench import registry
from dabench.contract.access import BlackBox, Budget, Recorder, Unlabelled
from dabench.contract.cost import Cost
from dabench.contract.types import Task


def ce(target: Tensor, logits: Tensor) -> Tensor:
    return -(target * logits.log_softmax(0)).sum()


def entropy(p: Tensor) -> Tensor:
    return -(p * p.log()).sum()


def kl(t: Tensor, logits: Tensor) -> Tensor:
    return (t * (t.clamp_min(1e-10).log() - logits.log_softmax(0))).sum()


def test_usd(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "usd", open_set=True)
    squeezed(monkeypatch)
    method, omega = steps.method, torch.linspace(0, 1, IMAGES)
    method.omega, method.pseudo = omega, torch.arange(IMAGES) % CLASSES
    method.known, method.unknown = omega >= 0.8, omega <= 0.2
    teacher = copy.deepcopy(method.ema_teacher)
    for ours, theirs in zip(teacher.parameters(), method.ema_teacher.parameters(), strict=True):
        ours.data += 0.1 * torch.randn_like(ours)
        theirs.data.copy_(ours.data)
    unit = torch.eye(CLASSES + 1)
    sides: list[tuple[int, int]] = []

    def reference(index: Tensor) -> Tensor:
        weak, strong = 0.9 * steps.images[index], 0.6 * steps.images[index] + 0.2
        with torch.no_grad():
            p_teacher, p_student = teacher(weak).softmax(1), steps.net(weak).softmax(1)
        logits = steps.net(strong)
        known, unknown, entropies, used = [], [], [], []
        for n, i in enumerate(index.tolist()):
            w, p = omega[i], logits[n, :CLASSES].softmax(0)
            used.append(w * p)
            if w >= 0.8:
                label = w * unit[i % CLASSES] + (1 - w) * (p_teacher[n] + p_student[n]) / 2
                label = label**2 / (label**2).sum()
                known.append(w * ce(0.9 * label + 0.1 / (CLASSES + 1), logits[n]))
                entropies.append((w, entropy(p)))
            elif w <= 0.2:
                target = 0.9 * unit[CLASSES] + 0.1 / (CLASSES + 1)
                unknown.append((1 - w) * ce(target, logits[n]))
        sides.append((len(known), len(unknown)))
        l_known, l_unknown = (mean(side) if side else 0.0 for side in (known, unknown))
        sure = sum(w * h for w, h in entropies) / sum(w for w, _ in entropies) if entropies else 0.0
        diversity = entropy(sum(used) / omega[index].sum())
        consistency = mean([kl(p_teacher[n], logits[n]) for n in range(len(index))])
        gamma = 0.7 - 0.2 * steps.trainer.global_step / 10
        sides_loss = gamma * l_known + (1 - gamma) * l_unknown
        return sides_loss + 0.3 * consistency + 0.3 * (sure - diversity)

    steps.check(reference)
    assert any(known and unknown for known, unknown in sides)


class Answered:
    """A method with two branches that is driven by hand, in its second epoch."""

    def __init__(self, name: str, **options: Any) -> None:
        self.method: Any = registry.method(name)(**options)
        draws = np.random.default_rng(1).dirichlet(np.ones(CLASSES), IMAGES)
        answers = torch.tensor(0.6 * np.eye(CLASSES)[np.arange(IMAGES) % CLASSES] + 0.4 * draws)
        self.answers = answers.float()
        task = Task("classification", tuple("abc"), SIDE, False)
        oracle: Any = SimpleNamespace(ask_all=lambda _: self.answers, gives_probabilities=True)
        target = Unlabelled(pictures(), np.arange(IMAGES))
        make = lambda seed: network(seed=seed)  # noqa: E731
        access = BlackBox(task, target, oracle, make, Cost(), Budget(2, 4), 0, Recorder())
        self.trainer: Any = SimpleNamespace(
            current_epoch=0, max_epochs=2, global_step=0, estimated_stepping_batches=10
        )
        self.method._trainer = self.trainer
        self.method.begin(access)
        self.nets: Any = self.method.nets
        self.optimiser = self.method.configure_optimizers()
        self.trainer.optimizers = [self.optimiser]
        self.method.on_train_epoch_start()
        self.trainer.current_epoch, self.trainer.global_step = 1, 5
        self.method.on_train_epoch_start()
        self.target = target
        self.images = target.__getitems__(list(range(IMAGES))).images

    def check(self, reference: Callable[[Tensor], Tensor]) -> None:
        """Compare losses and gradients of both networks on three batches."""
        batches = [self.target.__getitems__(index.tolist()) for index in BATCHES]
        weights = list(self.nets.parameters())
        compare_steps(self, weights, batches, reference, atol=1e-5)


def drawn(count: int, alpha: float) -> tuple[Tensor, float]:
    """Return partners and share of a mixup, drawn as the methods draw."""
    order = torch.randperm(count)
    draws = torch._standard_gamma(torch.full((2,), alpha)).clamp_min(1e-12)
    return order, float(draws[0] / draws.sum())


def mixed(net: Any, x: Tensor, rows: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return logits and targets of mixed images, each mostly itself."""
    order, share = drawn(len(x), alpha)
    share = max(share, 1 - share)
    return net(share * x + (1 - share) * x[order]), share * rows + (1 - share) * rows[order]


def test_cabb(monkeypatch: pytest.MonkeyPatch) -> None:
    squeezed(monkeypatch)
    steps = Answered("cabb")
    random = np.random.default_rng(2)
    omega = [torch.tensor(random.random(IMAGES)).float() for _ in range(2)]
    banks = [torch.tensor(random.dirichlet(np.ones(3), IMAGES)).float() for _ in range(2)]
    steps.method.posterior, steps.method.banks = list(omega), list(banks)
    average = [torch.full((3,), 1 / 3) for _ in range(2)]

    def reference(index: Tensor) -> Tensor:
        noisy, total = 0.3 + 0.7 * steps.trainer.global_step / 10, torch.zeros(())
        x = steps.images[index]
        for b, net in enumerate(steps.nets):
            logits = net(0.9 * x)
            p = logits.softmax(1)
            label, sure, rows = [], [], []
            for n, i in enumerate(index.tolist()):
                w, q = omega[b][i], banks[b][i]
                y = 0.9 * torch.eye(3)[int(q.argmax())] + 0.1 / 3
                target, weight = w * y + (1 - w) * q, w + (1 - w) * noisy
                label.append(weight * ce(target, logits[n]))
                sure.append(w * entropy(p[n]))
                rows.append(weight * target)
            use = p.mean(0)
            average[b] = 0.9 * average[b] + 0.1 * use.detach()
            total = total + mean(label) + 0.1 * (mean(sure) + (use * average[b].log()).sum())
            strong, learned = mixed(net, 0.6 * x + 0.2, torch.stack(rows), 1.0)
            rows_of = zip(learned, strong, strict=True)
            total = total + 0.5 * mean([ce(target, one) for target, one in rows_of])
        return total

    steps.check(reference)


def test_beta(monkeypatch: pytest.MonkeyPatch) -> None:
    squeezed(monkeypatch)
    steps = Answered("beta")
    random = np.random.default_rng(2)
    posterior = [torch.tensor(random.random(IMAGES)).float() for _ in range(2)]
    posterior[0][[0, 7, 2]], posterior[1][[9, 5, 8]] = 0.9, 0.95  # some are easy in each batch
    bank = torch.tensor(random.dirichlet(np.ones(3), IMAGES)).float()
    steps.method.posterior, steps.method.bank = list(posterior), bank
    steps.method.divided = [True, True]
    named = steps.answers.argmax(1)

    def reference(index: Tensor) -> Tensor:
        x, total = steps.images[index], torch.zeros(())
        logits = [net(0.9 * x) for net in steps.nets]
        p_mean = sum(each.detach().softmax(1) for each in logits) / 2
        for b, net in enumerate(steps.nets):
            p, rows = logits[b].softmax(1), range(len(index))
            use = p.mean(0)
            total = total + mean([entropy(p[n]) for n in rows]) + (use * use.log()).sum()
            total = total + mean([kl(bank[i], logits[b][n]) for n, i in enumerate(index)])
            order, share = drawn(len(x), 0.3)
            answer = p.detach()
            found = net(share * 0.9 * x + (1 - share) * 0.9 * x[order])
            answer = share * answer + (1 - share) * answer[order]
            total = total + mean([kl(answer[n], found[n]) for n in rows])
            targets, easy = [], []
            for n, i in enumerate(index.tolist()):
                if posterior[b][i] >= 0.8:
                    w = posterior[1 - b][i]
                    row = w * torch.eye(3)[named[i]] + (1 - w) * p[n].detach()
                    easy.append(n)
                else:
                    row = p_mean[n]
                targets.append(row**2 / (row**2).sum())
            strong, learned = mixed(net, 0.6 * x + 0.2, torch.stack(targets), 1.0)
            if easy:
                total = total + mean([ce(learned[n], strong[n]) for n in easy])
                prior = strong.softmax(1)[easy].mean(0)
                total = total - (3 * prior).log().mean()
        return total

    steps.check(reference)
