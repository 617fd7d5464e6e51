"""Three steps of plue, c-sfda, sfda2, onering and rrda against plain loops, and their traps."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from source_free_steps import (
    BATCHES,
    CLASSES,
    IMAGES,
    Bank,
    Steps,
    grant,
    mean,
    network,
    pictures,
    squeezed,
    unit,
)
from torch import Tensor, nn

from dabench import registry
from dabench.errors import ConfigError
from dabench.methods.functional.mixture import fit_two_component
from dabench.methods.source_free import known_unknown
from dabench.networks.network import ClassifierNetwork


def surprise(logits: Tensor) -> Tensor:
    use = logits.softmax(1).mean(0)
    return -(use * use.log()).sum()


def test_plue(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"negatives": 2, "history": 2, "queue": 10, "marginal": 0.0, "ema_decay": 0.5}
    steps = Steps(monkeypatch, "plue", neighbours=3, **options)
    squeezed(monkeypatch)
    bank, encoder = Bank(steps), copy.deepcopy(steps.net)
    queue: list[tuple[Tensor, int]] = []

    def named(z: Tensor) -> Tensor:  # the own row counts
        order = sorted(range(IMAGES), key=lambda j: -float(z @ bank.z[j]))
        return bank.p[order[:3]].mean(0)

    def met(one: list[int], other: list[int]) -> bool:
        return any(a == b for a, b in zip(one, other, strict=True))

    history = [[int(named(z).argmax())] * 2 for z in bank.z]
    told_apart = []

    def reference(index: Tensor) -> Tensor:
        images = steps.images[index]
        plain = steps.net.features(0.9 * images)
        weak = steps.net.classifier(plain)
        features = steps.net.features(0.6 * images + 0.2)
        logits, z = steps.net.classifier(features), unit(plain.detach())
        with torch.no_grad():
            for old, new in zip(encoder.parameters(), steps.net.parameters(), strict=True):
                old.copy_((old + new) / 2)
            keys = unit(encoder.features(0.6 * images + 0.2))
        rows = []
        for n, i in enumerate(index.tolist()):
            q, p = named(z[n]), logits[n].softmax(0)
            weight = math.exp(float((q * q.log()).sum()) / math.log(3))
            others = [c for c in range(3) if c != int(q.argmax())]
            negative = -weight * sum((1 - p[c]).log() for c in others) / 2
            query, own = unit(features[n]), keys[n]
            apart = [k for k, j in queue if not met(history[i], history[j])]
            told_apart.append(len(apart) / max(1, len(queue)))
            scores = torch.stack([query @ own, *(query @ k for k in apart)]) / 0.07
            rows.append(negative - scores.log_softmax(0)[0])
        queue.extend((keys[n], i) for n, i in enumerate(index.tolist()))
        del queue[:-10]
        for n, i in enumerate(index.tolist()):
            history[i][0] = int(named(z[n]).argmax())
        # only now: labels of the batch come from the bank as it was
        bank.z[index], bank.p[index] = z, weak.detach().softmax(1)
        return mean(rows) - surprise(weak) - surprise(logits)

    steps.check(reference)
    assert 0 < np.mean(told_apart) < 1


def test_plue_reports_the_neighbours_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors print the neighbours' answers; the model's are another thing."""
    steps = Steps(monkeypatch, "plue", neighbours=3)
    method, images = steps.method, steps.images
    with torch.no_grad():
        for weight in steps.net.parameters():
            weight.add_(0.1)
    method.calibrate()
    bank = Bank(steps)  # of the changed network
    refined = method.also(images)["refined"].logits.softmax(1)
    order = (bank.z @ bank.z.T).argsort(1, descending=True)[:, :3]
    torch.testing.assert_close(refined, bank.p[order].mean(1), rtol=1e-4, atol=1e-5)
    assert bool((refined - method.predict(images).logits.softmax(1)).abs().max() > 0.01)


def test_plue_holds_no_more_keys_than_half_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(Steps(monkeypatch, "plue").method.keys.features) == IMAGES // 2
    with pytest.raises(ConfigError, match=r"one class: use aad"):
        registry.method("plue")().begin(grant(network(1), pictures(), 1))


def test_c_sfda(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "c-sfda", views=4, curriculum=0.5, contrast_decay=0.1)
    squeezed(monkeypatch)
    teacher, gamma, seen = copy.deepcopy(steps.net), [1.0], []
    assert not steps.net.classifier.weight.requires_grad

    def reference(index: Tensor) -> Tensor:
        images, size = steps.images[index], len(index)
        weak, strong = 0.9 * images, 0.6 * images + 0.2
        with torch.no_grad():
            answers = torch.stack([teacher(v) for v in (images, weak, strong, weak)])
        largest = answers.softmax(2).amax(2).numpy().astype(np.float64)
        sure, spread = largest.mean(0), largest.std(0, ddof=1)
        target = answers.mean(0)
        label, p = target.argmax(1).tolist(), target.softmax(1).amax(1).tolist()
        top = np.sort(target.numpy(), 1)
        gap = top[:, -1] - top[:, -2]
        kept = {n for n in range(size) if sure[n] > sure.mean() and spread[n] < spread.mean()}
        rest = [n for n in range(size) if n not in kept]
        kept |= {n for n in rest if gap[n] > gap[rest].mean() and spread[n] < spread[rest].mean()}
        count = {c: sum(label[n] == c for n in kept) for c in range(3)}
        for c in range(3):
            if kept and not count[c]:
                own = sorted((n for n in range(size) if label[n] == c), key=lambda n: -p[n])
                kept |= set(own[: min(v for v in count.values() if v)])
        rest = [n for n in range(size) if n not in kept]
        seen.append((len(kept), len(rest)))
        features, other = steps.net.features(strong), steps.net.features(weak)
        logits = steps.net.classifier(features)
        away = [((logits[n] - target[n]) ** 2).mean() for n in range(size)]
        if kept:
            w = {n: 1 / max(1, count[label[n]]) for n in kept}
            ce = sum(-w[n] * logits[n].log_softmax(0)[label[n]] for n in kept)
            reliable = ce / sum(w.values())
        else:
            reliable = mean(away)
        z = [unit(view[n]) for n in rest for view in (features, other)]
        rows = []
        for a in range(len(z)):
            scores = torch.stack([z[a] @ z[b] / 0.07 for b in range(len(z)) if b != a])
            rows.append(-scores.log_softmax(0)[a if a % 2 == 0 else a - 1])
        gamma[0] *= 1 - 0.5 * math.exp(-sure.mean() / spread.mean())
        unreliable = mean([away[n] for n in rest]) if rest else 0.0
        falling = 0.5 * math.exp(-0.1 * (steps.trainer.global_step + 1))
        contrast = mean(rows) if rest else 0.0
        return gamma[0] * reliable + (1 - gamma[0]) * unreliable + falling * contrast

    steps.check(reference)
    assert any(kept and rest for kept, rest in seen)
    steps.method.on_train_batch_end()
    moved, start = steps.method.teacher.state_dict(), teacher.state_dict()
    for name, weight in steps.net.state_dict().items():
        torch.testing.assert_close(moved[name], 0.99 * start[name] + 0.01 * weight)


def test_c_sfda_looks_at_the_image_itself_first(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "c-sfda", views=3)
    squeezed(monkeypatch)
    images = steps.images[:4]
    expected = [steps.net(v) for v in (images, 0.9 * images, 0.6 * images + 0.2)]
    torch.testing.assert_close(steps.method._answers(images), torch.stack(expected))


@pytest.mark.parametrize("frozen", [0, 2])
def test_c_sfdas_teacher_answers_by_the_statistics_of_the_batch(
    monkeypatch: pytest.MonkeyPatch, frozen: int
) -> None:
    """But for frozen stages, whose statistics stay the source's in the student, too."""
    squeezed(monkeypatch)
    first = (nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
    trunk = nn.Sequential(*first, nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 8))
    net = ClassifierNetwork(trunk, 8, CLASSES, bottleneck=0, weight_norm=False)
    net.freeze_trunk(frozen)
    method: Any = registry.method("c-sfda")(views=2)
    access = grant(net, pictures())
    method.begin(access)
    method.on_train_epoch_start()
    images = access.target.__getitems__([0, 5, 9]).images
    before = copy.deepcopy(method.teacher.state_dict())
    theirs = copy.deepcopy(net).train()
    assert theirs.backbone[1].training is (frozen == 0)
    expected = torch.stack([theirs(images), theirs(0.9 * images)])
    torch.testing.assert_close(method._answers(images), expected)
    for name, value in method.teacher.state_dict().items():
        assert torch.equal(value, before[name]) or name.endswith("num_batches_tracked")


@pytest.mark.parametrize("options", [{}, {"curriculum": False}, {"co_training": "none"}], ids=str)
def test_usd(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    steps = Steps(monkeypatch, "usd", open_set=True, **options)
    squeezed(monkeypatch)
    method = steps.method
    with torch.no_grad():
        for weight in method.ema_teacher.parameters():
            weight *= 0.8
    teacher = copy.deepcopy(method.ema_teacher)
    omega = torch.rand(IMAGES, generator=torch.Generator().manual_seed(0))
    known, unknown = omega >= 0.6, omega <= 0.4
    method.omega, method.known, method.unknown = omega, known, unknown
    method.pseudo = torch.arange(IMAGES) % CLASSES

    def reference(index: Tensor) -> Tensor:
        weak, strong = 0.9 * steps.images[index], 0.6 * steps.images[index] + 0.2
        with torch.no_grad():
            taught, own = teacher(weak).softmax(1), steps.net(weak).softmax(1)
        logits = steps.net(strong)
        log_p, inner = logits.log_softmax(1), logits[:, :CLASSES].softmax(1)
        rows = range(len(index))
        known_rows = [n for n in rows if known[index[n]]]
        unknown_rows = [n for n in rows if unknown[index[n]]]
        w, l_known, l_unknown = omega[index], torch.zeros(()), torch.zeros(())
        for n in known_rows:
            y = torch.eye(CLASSES + 1)[int(index[n]) % CLASSES]
            if "co_training" not in options:
                y = (w[n] * y + (1 - w[n]) * (taught[n] + own[n]) / 2) ** 2  # temperature 1/2
            y = 0.9 * y / y.sum() + 0.1 / (CLASSES + 1)
            l_known = l_known - w[n] * y @ log_p[n] / len(known_rows)
        for n in unknown_rows:
            y = 0.9 * torch.eye(CLASSES + 1)[CLASSES] + 0.1 / (CLASSES + 1)
            l_unknown = l_unknown - (1 - w[n]) * y @ log_p[n] / len(unknown_rows)
        consistency = (taught * (taught.log() - log_p)).sum(1).mean()
        doubt = sum(-w[n] * inner[n] @ inner[n].log() for n in known_rows)
        use = (w[:, None] * inner).sum(0) / w.sum()
        doubt = doubt / max(1e-12, sum(float(w[n]) for n in known_rows)) + use @ use.log()
        share = 0.5 if "curriculum" in options else 0.7 - 0.2 * steps.trainer.global_step / 10
        loss = share * l_known + (1 - share) * l_unknown
        return loss + 0.3 * consistency + 0.3 * doubt

    steps.check(reference)
    method.on_train_batch_end()
    moved, start = method.ema_teacher.state_dict(), teacher.state_dict()
    for name, weight in steps.net.state_dict().items():
        torch.testing.assert_close(moved[name], 0.95 * start[name] + 0.05 * weight)


@pytest.mark.parametrize("co_training", ["refine", "none"])
def test_usd_remembers_what_its_clusters_said(
    monkeypatch: pytest.MonkeyPatch, co_training: str
) -> None:
    steps = Steps(monkeypatch, "usd", open_set=True, bank=0.8, co_training=co_training)
    method, draws = steps.method, torch.Generator().manual_seed(0)
    seen: list[np.ndarray] = []
    said = torch.rand(2, IMAGES, CLASSES + 1, generator=draws).softmax(2)
    p = torch.rand(IMAGES, CLASSES, generator=draws).softmax(1)
    posterior, told = np.linspace(0, 1, IMAGES), iter(said)

    def fitted(values: np.ndarray, seed: int) -> Any:
        seen.append(values)
        split = fit_two_component(values, seed=seed)
        return dataclasses.replace(split, posterior=posterior, degenerate=False)

    monkeypatch.setattr(known_unknown, "set_features", lambda *_: (torch.ones(IMAGES, 2), p))
    monkeypatch.setattr(known_unknown, "cluster_posterior", lambda *_, **__: next(told))
    monkeypatch.setattr(known_unknown, "fit_two_component", fitted)
    method.remembered = None
    for q in (said[0], 0.8 * said[0] + 0.2 * said[1]):
        method.on_train_epoch_start()
        label = q[:, :CLASSES] + p if co_training == "refine" else p
        assert torch.equal(method.pseudo, label.argmax(1))
        # the more mass lies on clusters without a class, the less an image is known
        assert seen[-1].argsort().tolist() == q[:, CLASSES].argsort().tolist()
        assert method.known.tolist() == (posterior >= 0.8).tolist()
        assert method.unknown.tolist() == (posterior <= 0.2).tolist()


def test_sfda2(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"neighbours": 3, "augment": 0.1, "disentangle": 2.0, "disperse_decay": 1.0}
    steps = Steps(monkeypatch, "sfda2", **options)
    bank = Bank(steps)
    past: dict[int, list[Tensor]] = {c: [] for c in range(3)}

    def reference(index: Tensor) -> Tensor:
        features, logits = steps.features(index)
        p, rows, progress = logits.softmax(1), range(len(index)), steps.trainer.global_step / 10
        bank.z[index], bank.p[index] = unit(features.detach()), p.detach()
        attract = [
            -sum((bank.p[k] * p[n]).sum() for k in bank.nearest(int(i), bank.z[i], 3))
            for n, i in enumerate(index)
        ]
        apart = [sum((p[n] @ p[j]) ** 2 for j in rows if j != n) for n in rows]
        label, w = p.argmax(1), steps.net.classifier.weight
        # the covariance of all images of a class so far, earlier ones without gradient
        spread = {}
        for c in range(3):
            own = [*past[c], *(features[n] for n in rows if label[n] == c)]
            x = torch.stack(own) if own else torch.zeros(1, features.shape[1])
            away = x - x.mean(0)
            spread[c] = away.T @ away / len(away)
            past[c] += [features[n].detach() for n in rows if label[n] == c]
        augment = []
        for n in rows:
            total: Tensor = torch.zeros(())
            for c in range(3):
                moved = [
                    logits[n, j]
                    + 5 * progress / 2 * ((w[j] - w[c]) @ spread[int(label[n])] @ (w[j] - w[c]))
                    for j in range(3)
                ]
                total = total - 2 * torch.stack(moved).log_softmax(0)[c]
            augment.append(total)
        distance: Tensor = torch.zeros(())
        for c in range(3):
            for d in range(c + 1, 3):
                members = [bank.p[bank.p.argmax(1) == k] for k in (c, d)]
                if all(len(m) for m in members):
                    one, two = spread[c].flatten(), spread[d].flatten()
                    # of a class with one image there is no covariance yet: as far as can be
                    norm = one.norm() * two.norm()
                    cosine = one @ two / norm if float(norm.detach()) > 0 else 0.0
                    alike = members[0].mean(0) @ members[1].mean(0)
                    distance = distance + alike * (1 - cosine)
        weight = (1 + 10 * progress) ** -1.0 * 63 / (len(index) - 1)
        return mean(attract) + weight * mean(apart) + 0.1 * mean(augment) - 2.0 * distance

    steps.check(reference)
    assert sum(len(own) > 1 for own in past.values()) > 1


def test_sfda2_needs_rows_of_a_head() -> None:
    net = network()
    net.classifier = nn.Sequential(nn.Linear(8, CLASSES))  # type: ignore[assignment]
    for name, other in (("sfda2", "aad"), ("onering", "shot"), ("rrda", "shot")):
        with pytest.raises(ConfigError, match=rf"{name}: .*ends in Sequential.*or {other}$"):
            registry.method(name)().begin(grant(net, pictures(), open_set=name != "sfda2"))


def test_onering(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "onering", open_set=True, disperse=0.5)
    sides, head = [], steps.net.classifier
    assert head.weight.shape[0] == CLASSES + 1
    assert not head.weight.requires_grad
    with torch.no_grad():  # so that both sides are met
        logits = steps.net(steps.images)
        head.bias[CLASSES] += (logits[:, :CLASSES].amax(1) - logits[:, CLASSES]).median()
    bank = Bank(steps)
    steps.method.bank.p.copy_(bank.p)

    def reference(index: Tensor) -> Tensor:
        features, logits = steps.features(index)
        p, rows = logits.softmax(1), range(len(index))
        bank.z[index], bank.p[index] = unit(features.detach()), p.detach()
        known = [n for n in rows if int(p[n].argmax()) < CLASSES]
        unknown = [n for n in rows if n not in known]
        sides.append((len(known), len(unknown)))
        total: Tensor = torch.zeros(())
        for side in (known, unknown):
            if side:
                near = {n: bank.nearest(int(index[n]), bank.z[index[n]], 3) for n in side}
                drawn = [-sum((bank.p[k] * p[n]).sum() for k in near[n]) for n in side]
                part = mean(drawn) + mean([-(p[n] * p[n].log()).sum() for n in side])
                total = total + part / (64 * len(side) / len(index))
        if len(known) > 1:
            share = 64 * len(known) / len(index)
            apart = [sum((p[n, :CLASSES] @ p[j, :CLASSES]) for j in known if j != n) for n in known]
            total = total + 0.5 * (share - 1) / (len(known) - 1) * mean(apart) / share
        return total

    steps.check(reference)
    assert all(sum(side) for side in zip(*sides, strict=True))


def test_a_node_counts_alike_in_heads_with_weight_normalisation() -> None:
    from dabench.methods.source_free.unknown_nodes import set_row

    for normed in (False, True):
        head: Any = nn.Linear(4, 3)
        if normed:
            nn.utils.parametrizations.weight_norm(head)
        before = head.weight.detach().clone()
        set_row(head, 2, torch.arange(4.0), torch.tensor(7.0))
        torch.testing.assert_close(head.weight[:2], before[:2])
        torch.testing.assert_close(head.weight[2], torch.arange(4.0))
        assert float(head.bias[2].detach()) == 7


@pytest.mark.parametrize("epoch", [0, 1])
def test_rrda(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    options = {"steps": 3, "head_epochs": 2, "unknown_nodes": 2, "marginal": 0.0}
    steps = Steps(monkeypatch, "rrda", open_set=True, pseudo_weight=0.7, **options)
    method, head = steps.method, steps.net.classifier
    assert head.weight.shape[0] == CLASSES + 2
    assert not head.weight.requires_grad
    steps.trainer.current_epoch = epoch
    method.on_train_epoch_start()

    def reference(index: Tensor) -> Tensor:
        logits = steps.features(index)[1]
        log_p = logits.log_softmax(1)
        doubt = mean([-(row.exp() * row).sum() for row in log_p])
        smooth = 0.7 * torch.eye(5) + 0.3 / 5
        labels = method.labels[index]
        pseudo = mean([-(smooth[labels[n]] * log_p[n]).sum() for n in range(len(index))])
        return 0.5 * doubt - surprise(logits) + (0.7 * pseudo if epoch else 0)

    steps.check(reference)


def test_rrda_makes_a_head_for_the_points_that_it_recalls(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "rrda", open_set=True, steps=4, head_epochs=0)
    method, head = steps.method, steps.net.classifier
    with torch.no_grad():
        points, labels = method._recall(steps.net.features(steps.images))
    assert set(labels.tolist()) >= {0, 1, 2, 3}
    before = float(nn.functional.cross_entropy(head(points), labels).detach())
    method.head_epochs = 4
    head.requires_grad_(True)
    method._train_head(points, labels)
    assert float(nn.functional.cross_entropy(head(points), labels).detach()) < before


@pytest.mark.parametrize("name", ["onering", "rrda"])
def test_unknown_is_what_a_later_node_is_first_for(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    brief = {"steps": 2, "head_epochs": 0} if name == "rrda" else {}
    method = Steps(monkeypatch, name, open_set=True, **brief).method
    images = torch.rand(9, 3, 4, 4)
    p = method.net(images).softmax(1).detach()
    with torch.no_grad():
        answer = method.predict(images)
        alone = method.predict(images[:1])
    torch.testing.assert_close(answer.unknown_score, p[:, CLASSES:].sum(1))
    assert answer.is_unknown.tolist() == (p.argmax(1) >= CLASSES).tolist()
    assert answer.logits.shape == (9, CLASSES)
    torch.testing.assert_close(alone.unknown_score, answer.unknown_score[:1])


def test_banks_change_in_the_rows_that_were_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plue", "sfda2", "onering"):
        steps = Steps(monkeypatch, name, open_set=name == "onering")
        with torch.no_grad():
            next(steps.net.parameters()).add_(0.1)
        before = steps.method.bank.z.clone()
        steps.method.training_step(steps.access.target.__getitems__(BATCHES[1].tolist()), 0)
        changed = (steps.method.bank.z != before).any(1).nonzero().flatten()
        assert changed.tolist() == sorted(BATCHES[1].tolist())
