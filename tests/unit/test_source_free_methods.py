"""Three steps of each neighbour of SHOT against plain loops, and sets that are hardly any."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from source_free_steps import (
    BATCHES,
    IMAGES,
    SIDE,
    Bank,
    Steps,
    grant,
    mean,
    network,
    pictures,
    unit,
)
from torch import Tensor, nn
from torch.nn import functional as F

import dabench
from dabench import registry
from dabench.cli.main import main
from dabench.contract.access import Budget, Recorder, SourceFree
from dabench.contract.cost import Cost
from dabench.contract.protocol import Run
from dabench.contract.types import Task
from dabench.engine.fit import fit, predict_all
from dabench.errors import ConfigError
from dabench.methods.source_free import shot_plus
from dabench.networks.network import build_classifier
from dabench.protocols.offline.separations import SeparationRecorder


@pytest.mark.parametrize("memory", [0.0, 0.5])
@pytest.mark.parametrize("open_set", [False, True])
def test_shot(monkeypatch: pytest.MonkeyPatch, open_set: bool, memory: float) -> None:
    steps = Steps(monkeypatch, "shot", open_set=open_set, marginal=memory)
    known, labels = steps.method.known, steps.method.labels
    assert bool(known.all()) == (not open_set)
    assert not steps.net.classifier.weight.requires_grad
    used: list[Tensor] = []

    def reference(index: Tensor) -> Tensor:
        p = steps.features(index)[1].softmax(1)
        sure = [n for n, i in enumerate(index.tolist()) if known[i]]
        ce = sum(-p[n, labels[index[n]]].log() for n in sure) / max(1, len(sure))
        entropy = sum(-(p[n] * p[n].log()).sum() for n in sure) / max(1, len(sure))
        use = p.mean(0)  # of unknown images too
        past = memory * used[-1] + (1 - memory) * use.detach() if used else use.detach()
        used.append(past)
        return 0.3 * ce + entropy + (use * (past if memory else use).log()).sum()

    steps.check(reference)


@pytest.mark.parametrize("open_set", [False, True])
def test_aad(monkeypatch: pytest.MonkeyPatch, open_set: bool) -> None:
    steps = Steps(monkeypatch, "aad", open_set=open_set, neighbours=3, disperse_decay=2.0)
    bank, known = Bank(steps), steps.method.known
    assert bool(known.all()) == (not open_set)
    assert steps.net.classifier.weight.requires_grad != open_set

    def reference(index: Tensor) -> Tensor:
        features, logits = steps.features(index)
        p, rows = logits.softmax(1), range(len(index))
        sure = [i for i in rows if known[index[i]]]
        for i in sure:
            bank.z[index[i]], bank.p[index[i]] = unit(features.detach())[i], p.detach()[i]
        attract = [
            -sum(
                (bank.p[k] * p[i]).sum()
                for k in bank.nearest(int(index[i]), unit(features.detach())[i], 3)
            )
            for i in sure
        ]
        disperse = [sum((p[i] * p[j]).sum() for j in rows if j != i) for i in rows]
        weight = (1 + 10 * steps.trainer.global_step / 10) ** -2.0 * 63 / (len(index) - 1)
        drawn = mean(attract) if attract else 0.0
        return drawn + weight * mean(disperse)

    steps.check(reference)


@pytest.mark.parametrize("reciprocity", ["mutual", "none"])
def test_nrc(monkeypatch: pytest.MonkeyPatch, reciprocity: str) -> None:
    steps = Steps(monkeypatch, "nrc", reciprocity=reciprocity, marginal=0.0)
    bank, kinds = Bank(steps), set()

    def reference(index: Tensor) -> Tensor:
        features, logits = steps.features(index)
        p = logits.softmax(1)
        bank.z[index], bank.p[index] = unit(features.detach()), p.detach()
        rows = []
        for i, place in enumerate(index.tolist()):
            total: Tensor = torch.zeros(())
            for k in bank.nearest(place, bank.z[place], 3):
                second = bank.nearest(k, bank.z[k], 2)
                weight = 1.0 if place in second and reciprocity == "mutual" else 0.1
                kinds.add(weight)
                total = total - weight * (bank.p[k] * p[i]).sum()
                total = total - sum(0.1 * (bank.p[m] * p[i]).sum() for m in second)
            rows.append(total)
        use = p.mean(0)
        return mean(rows) + (use * use.log()).sum()

    # a constant in the gradient of p log p is nothing to a softmax
    steps.check(reference)
    assert kinds == ({1.0, 0.1} if reciprocity == "mutual" else {0.1})


def test_nrcs_use_of_classes_is_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of two images shows two of three classes: the third must not be called for."""
    steps = Steps(monkeypatch, "nrc", marginal=0.5)
    seen: list[Tensor] = []
    for index in BATCHES:
        with torch.no_grad():
            seen.append(steps.features(index)[1].softmax(1).mean(0))
            steps.method.training_step(steps.access.target.__getitems__(index.tolist()), 0)
    expected = 0.5 * (0.5 * seen[0] + 0.5 * seen[1]) + 0.5 * seen[2]
    torch.testing.assert_close(steps.method.use.average, expected)


def consulted(steps: Steps, bank: Bank, index: Tensor) -> tuple[Tensor, list[list[int]]]:
    """Return the loss by neighbours' answers, from before the bank is renewed, and the places."""
    features, logits = steps.features(index)
    z, log_p = unit(features), logits.log_softmax(1)
    near = [bank.nearest(int(i), z[n].detach(), 4) for n, i in enumerate(index)]
    loss = mean([-(bank.p[row].mean(0) * log_p[n]).sum() for n, row in enumerate(near)])
    bank.z[index], bank.p[index] = z.detach(), logits.detach().softmax(1)
    return loss, near


@pytest.mark.parametrize("contrast", [0.0, 1.0])
def test_glc(monkeypatch: pytest.MonkeyPatch, contrast: float) -> None:
    options = {"contrast": contrast, "label_weight": 0.7, "target_clusters": 6}
    steps = Steps(monkeypatch, "glc", open_set=True, **options)
    bank, targets = Bank(steps), steps.method.targets
    assert steps.method.known.any()
    torch.testing.assert_close(targets.sum(1), torch.ones(IMAGES))

    def reference(index: Tensor) -> Tensor:
        features, logits = steps.features(index)
        z, log_p, rows = unit(features), logits.log_softmax(1), range(len(index))
        label = mean([-(targets[i] * log_p[n]).sum() for n, i in enumerate(index)])
        neighbours, near = consulted(steps, bank, index)
        apart = []
        for n in rows:
            others = sorted(
                (j for j in rows if j != n), key=lambda j: -float((z[n] @ z[j]).detach())
            )
            hard = others[int(np.ceil(len(index) / 6)) :][:4]
            away = sum(z[n] @ z[j].detach() for j in hard)
            apart.append(away - sum(z[n] @ bank.z[k] for k in near[n]))
        return 0.7 * label + neighbours + (contrast * mean(apart) if contrast else 0)

    steps.check(reference)


def test_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "lead", open_set=True, label_weight=2.0, target_clusters="source")
    bank, method = Bank(steps), steps.method
    left, _, _ = np.linalg.svd(steps.net.classifier.weight.detach().numpy().T)
    within, outside = torch.from_numpy(left[:, :3]), torch.from_numpy(left[:, 3:])
    assert bool(method.known.any())
    assert bool((method.weight >= 0).all())

    def reference(index: Tensor) -> Tensor:
        features, logits = steps.features(index)
        z, log_p = unit(features), logits.log_softmax(1)
        rows = []
        for n, i in enumerate(index.tolist()):
            norms = torch.stack(((z[n] @ within).norm(), (z[n] @ outside).norm()))
            side = -norms.log_softmax(0)[0 if method.known[i] else 1]
            rows.append(method.weight[i] * (side - 2.0 * (method.targets[i] * log_p[n]).sum()))
        return mean(rows) + consulted(steps, bank, index)[0]

    steps.check(reference)


def test_leads_labels_follow_boundaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole rule by hand: prototypes, spaces, mixture, boundary."""
    steps = Steps(monkeypatch, "lead", open_set=True, target_clusters=4)
    bank, method = Bank(steps), steps.method
    z, p = bank.z.numpy(), bank.p.numpy()
    weight = steps.net.classifier.weight.detach().numpy()
    left, _, _ = np.linalg.svd(weight.T)
    rest = np.linalg.norm(z @ left[:, 3:], axis=1)
    for i in range(IMAGES):
        scores, usual = [], []
        for c in range(3):
            top = np.argsort(-p[:, c])[: IMAGES // 4]
            proto = z[top].mean(0) / np.linalg.norm(z[top].mean(0))
            anchor = weight[c] / np.linalg.norm(weight[c])
            target, source = max(0, z[i] @ proto), max(0, z[i] @ anchor)
            scores.append(np.sqrt((1 - np.exp(-target)) * np.exp(source - 1)))
            usual.append(rest[top].mean())
        c = int(np.argmax(scores))
        upper = np.inf if method.upper is None else method.upper
        bound = usual[c] + scores[c] * max(0, upper - usual[c])
        assert bool(method.known[i]) == (rest[i] < bound)
        expected = np.eye(3)[c] if rest[i] < bound else np.full(3, 1 / 3)
        np.testing.assert_allclose(method.targets[i].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_cowa(monkeypatch: pytest.MonkeyPatch, alpha: float) -> None:
    steps = Steps(monkeypatch, "cowa", alpha=alpha)
    labels, weight = steps.method.labels, steps.method.weight
    assert bool((weight > 0).any())
    rates = [group["lr"] for group in steps.optimiser.param_groups]
    assert rates == pytest.approx([1e-3, 1e-3])  # trunk and head: a tenth of the rate

    def reference(index: Tensor) -> Tensor:
        images, w, y = steps.images[index], weight[index], torch.eye(3)[labels[index]]
        if alpha:
            state = torch.get_rng_state()
            order = torch.randperm(len(index))
            draws = torch._standard_gamma(torch.full((2, len(index)), alpha)).clamp_min(1e-12)
            torch.set_rng_state(state)
            share = draws[0] / draws.sum(0)
            images, w, y = (
                torch.stack([share[n] * v[n] + (1 - share[n]) * v[order[n]] for n in range(len(v))])
                for v in (images, w, y)
            )
        log_p = steps.net(images).log_softmax(1)
        return mean([-w[n] * (y[n] * log_p[n]).sum() for n in range(len(index))])

    steps.check(reference)


#: SHOT's decay half-way
HALF = 6**-0.75
#: rates of the first step by group (backbone, what lies behind it and learns, further heads);
#: weight decay; momentum; what is left of the rates half-way
RATES: list[tuple[str, bool, list[float], float, float, float]] = [
    ("shot", False, [1e-3], 1e-3, 0.9, HALF),
    ("shot++", False, [1e-3, 1e-2, 1e-2], 1e-3, 0.9, 1.0),  # its second stage begins there
    ("aad", False, [1e-4, 1e-3], 5e-4, 0.9, 1.0),
    ("aad", True, [1e-3], 1e-3, 0.9, HALF),
    ("nrc", False, [1e-4, 1e-3], 5e-4, 0.9, 1.0),
    ("cowa", False, [1e-3, 1e-3], 1e-3, 0.9, 1.0),
    ("sfda2", False, [1e-4, 1e-3], 1e-3, 0.9, HALF),
    ("plue", False, [1e-2, 1e-2], 5e-4, 0.0, 1.0),
    ("c-sfda", False, [1e-3], 1e-3, 0.9, HALF),
    ("onering", True, [1e-3], 5e-4, 0.9, HALF),
    ("rrda", True, [1e-3], 1e-3, 0.9, HALF),
    ("usd", True, [1e-3, 1e-2], 1e-3, 0.9, HALF),
]


@pytest.mark.parametrize(("name", "open_set", "rates", "decay", "momentum", "left"), RATES)
def test_rates_are_those_of_the_authors_codes(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    open_set: bool,
    rates: list[float],
    decay: float,
    momentum: float,
    left: float,
) -> None:
    steps = Steps(monkeypatch, name, open_set=open_set)
    groups = steps.optimiser.param_groups
    assert [(group["weight_decay"], group["momentum"]) for group in groups] == [
        (decay, momentum)
    ] * len(rates)
    steps.optimiser.step()
    assert [group["lr"] for group in groups] == pytest.approx(rates)
    for _ in range(5):  # of ten steps, the sixth begins half-way
        steps.optimiser.step()
    assert [group["lr"] for group in groups] == pytest.approx([rate * left for rate in rates])


def test_shot_plus_plus_turns_images(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "shot++", rotation=0.6, head_epochs=1)
    method, head = steps.method, steps.method.rotation_head
    assert not steps.net.classifier.weight.requires_grad

    def reference(index: Tensor) -> Tensor:
        features, logits = steps.features(index)
        p, use = logits.softmax(1), logits.softmax(1).mean(0)
        ce = F.cross_entropy(logits, method.labels[index])
        entropy = -(p * p.log()).sum(1).mean() + (use * use.log()).sum()
        state = torch.get_rng_state()
        turns = torch.randint(4, (len(index),))
        torch.set_rng_state(state)
        turned = torch.stack(
            [
                torch.rot90(steps.images[i], int(t), (1, 2))
                for i, t in zip(index, turns, strict=True)
            ]
        )
        seen = torch.cat((features.detach(), steps.net.features(turned)), 1)
        task = F.cross_entropy(seen @ head.weight.T + head.bias, turns)
        return 0.3 * ce + entropy + 0.6 * task

    steps.check(reference)


@pytest.mark.parametrize("sure", ["some", "none", "all"])
def test_shot_plus_plus_learns_from_its_sure_answers(
    monkeypatch: pytest.MonkeyPatch, sure: str
) -> None:
    steps = Steps(monkeypatch, "shot++", rotation=0.0, new_classifier=False)
    method = steps.method
    steps.trainer.current_epoch, steps.trainer.global_step = 1, 5
    method.on_train_epoch_start()
    assert steps.net.classifier.weight.requires_grad
    assert 0 < int(method.sure.sum()) < IMAGES
    if sure != "some":
        method.sure = torch.full((IMAGES,), sure == "all")

    def reference(index: Tensor) -> Tensor:
        with torch.no_grad():
            p = steps.features(index)[1].softmax(1)  # both views are the image
        guess = p**2 / (p**2).sum(1, keepdim=True)
        known = [bool(method.sure[i]) for i in index]
        target = [
            torch.eye(3)[method.labels[i]] if k else guess[n]
            for n, (i, k) in enumerate(zip(index, known, strict=True))
        ]
        extra = [n for n, k in enumerate(known) if not k]
        images = torch.cat((steps.images[index], steps.images[index][extra]))
        labels = torch.stack(target + [guess[n] for n in extra])
        state = torch.get_rng_state()
        order = torch.randperm(len(images))
        draws = torch._standard_gamma(torch.full((2,), 0.75)).clamp_min(1e-12)
        torch.set_rng_state(state)
        share = max(float(draws[0] / draws.sum()), 1 - float(draws[0] / draws.sum()))
        labels = share * labels + (1 - share) * labels[order]
        logits = steps.net(share * images + (1 - share) * images[order])
        free = [not k for k in known] + [True] * len(extra)
        ce = [-(labels[n] * logits[n].log_softmax(0)).sum() for n, f in enumerate(free) if not f]
        apart = [
            (labels[n] - logits[n].softmax(0)).square().mean() for n, f in enumerate(free) if f
        ]
        rise = 2 * (steps.trainer.global_step / 10 - 0.5)
        loss = (mean(ce) if ce else logits.sum() * 0) + (100 * rise * mean(apart) if apart else 0)
        return loss

    steps.check(reference)


def test_the_second_stage_begins_with_a_new_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    for normed in (False, True):
        steps = Steps(monkeypatch, "shot++", rotation=0.0)
        if normed:
            nn.utils.parametrizations.weight_norm(steps.net.classifier)
        before = steps.net.classifier.weight.detach().clone()
        steps.optimiser.state[next(steps.net.parameters())] = {"momentum_buffer": torch.ones(1)}
        steps.trainer.current_epoch = 1
        steps.method.on_train_epoch_start()
        after = steps.net.classifier.weight.detach()
        assert bool((after != before).all())
        assert float(steps.net.classifier.bias.detach().abs().max()) == 0
        assert not steps.optimiser.state


#: they serve open sets, too
BOTH = ("shot", "aad")
CLOSED = ("nrc", "cowa", "shot++", "plue", "c-sfda", "sfda2")
OPEN = ("glc", "lead", "onering", "rrda", "usd")
#: they count or cluster the target's classes
COUNTING = ("glc", "lead")
#: options that make them quick
BRIEF: dict[str, dict[str, int]] = {
    "shot++": {"head_epochs": 1},
    "c-sfda": {"views": 2},
    "rrda": {"steps": 3, "head_epochs": 1},
}
SETS = {
    "two images": (pictures(2), 2),
    "fewer images than neighbours": (pictures(4), 3),
    "two classes": (pictures(12), 2),
    "all equal": (np.full((12, SIDE, SIDE, 3), 128, dtype=np.uint8), 3),
    "more classes than images": (pictures(5), 6),
    "a class without any image": (pictures(12), 3),
}


#: fast, the sets at the ends; of these the methods that came later are slow, too
ENDS = {"two images", "more classes than images", "all equal"}
LATER = {"plue", "c-sfda", "sfda2", "onering", "rrda"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=[pytest.mark.slow] * (name in LATER or kind not in ENDS))
        for name in (*BOTH, *CLOSED, *OPEN, "onering/universal")
        for kind in SETS
    ],
)
def test_sets_that_are_hardly_any(name: str, kind: str) -> None:
    """Losses stay finite (they are checked at every step), and so do the answers."""
    name, _, universal = name.partition("/")
    images, classes = SETS[kind]
    net = network(classes)
    if kind.startswith("a class"):
        with torch.no_grad():
            net.classifier.bias[0] -= 50
    method = registry.method(name)(**BRIEF.get(name, {}))
    access = grant(net, images, classes, open_set=name in OPEN, partial=bool(universal))
    method.begin(access)
    run = Run("source", Budget(2, 4), 0, "cpu", Recorder(), False)
    fit(method, access.target, Cost(), run)
    method.calibrate()
    found = predict_all(method, access.target, "cpu", Cost())
    assert bool(np.isfinite(found.confidence).all())


def test_what_a_method_falls_back_to_reaches_the_record() -> None:
    """Fewer neighbours than asked for, no silhouette to count classes by, nothing to separate."""
    images = np.full((9, SIDE, SIDE, 3), 128, dtype=np.uint8)
    kept = SeparationRecorder(Recorder())
    method = registry.method("lead")(neighbours=4)
    access = dataclasses.replace(grant(network(), images, open_set=True), recorder=kept)
    method.begin(access)
    fit(method, access.target, Cost(), Run("source", Budget(2, 4), 0, "cpu", kept, False))
    found = {
        (score.key, score.at): score.value
        for score in kept.scores(np.zeros(len(images), dtype=np.int64), 3)
    }
    assert found.pop(("noted/neighbours", 0)) == 2  # of 3 images a class, one is the image itself
    every = ("degenerate-mixture", "silhouette-fallback", "target-classes")
    assert found == {
        (f"noted/{name}", epoch): 3.0 if name == "target-classes" else 1.0
        for name in every
        for epoch in range(2)
    }


def test_one_cluster_is_refused_and_so_is_a_head_that_sees_everything() -> None:
    from dabench.config.signature import validate_options

    for name in COUNTING:
        with pytest.raises(ConfigError, match=r"--method.target_clusters"):
            validate_options(registry.method(name), {"target_clusters": "1"}, "method")
        given = validate_options(registry.method(name), {"target_clusters": "7"}, "method")
        assert given["target_clusters"] == 7
    lead = registry.method("lead")()
    with pytest.raises(ConfigError, match=r"9 classes over features of 8 numbers.*use glc"):
        lead.begin(grant(network(9), pictures(), 9, open_set=True))


def test_rotations_need_square_images() -> None:
    access = grant(network(), pictures())
    task = Task("classification", access.task.classes, 4, False, True, 6)
    wide = SourceFree(
        task,
        *(getattr(access, n) for n in ("target", "source_model", "budget", "seed", "recorder")),
    )
    with pytest.raises(ConfigError, match=r"4 x 6 pixels.*--method.rotation 0"):
        shot_plus.ShotPlusPlus().begin(wide)
    shot_plus.ShotPlusPlus(rotation=0.0).begin(wide)


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        *((name, "sf-osda") for name in CLOSED),
        *((name, "sf-uda") for name in OPEN),
        ("aad", "bb-uda"),
    ],
)
def test_what_a_method_does_not_serve_is_refused(
    name: str, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--method", name, "--protocol", protocol]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {name} does not run under {protocol}; it serves")


#: what a set's rules say of every image
SAID: dict[str, tuple[str, ...]] = {
    "aad": ("known",),
    "nrc": (),
    "cowa": ("weight", "labels"),
    "sfda2": (),
    "onering": (),
    "shot++": ("labels",),
    "glc": ("known",),
    "lead": ("known", "weight"),
}


@pytest.mark.parametrize("name", CLOSED)
def test_methods_of_closed_sets_adapt_to_no_open_pile(name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 3))
    with pytest.raises(ConfigError, match=r"knows no unknown.*source, shot, aad, glc"):
        dabench.adapt(model, pictures(), name, open_set=True)


@pytest.mark.parametrize("name", list(SAID))
def test_the_order_of_images_and_classes_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("dabench.views.weak", lambda images, flip: images)
    images, order, names = pictures(30, seed=3), torch.randperm(30), torch.tensor([2, 0, 1])
    rules, losses = [], []
    for moved in (False, True):
        net = network()
        if moved:
            with torch.no_grad():
                for part in (net.classifier.weight, net.classifier.bias):
                    part.copy_(part[names].clone())
        # with 99 centres every other image is one, whatever they start from
        options: dict[str, Any] = {"target_clusters": 99} if name in COUNTING else {}
        method = registry.method(name)(**options | ({"rotation": 0.0} if name == "shot++" else {}))
        method._trainer = SimpleNamespace(
            current_epoch=0, max_epochs=2, global_step=0, estimated_stepping_batches=10
        )
        shown = images[order.numpy()] if moved else images
        method.begin(grant(net, shown, open_set=name in {*OPEN, "aad"}))
        method.configure_optimizers()
        method.on_train_epoch_start()
        rules.append([getattr(method, said).clone() for said in SAID[name]])
        index = torch.arange(8) if moved else order[:8]
        torch.manual_seed(1)
        losses.append(method.training_step(method.access.target.__getitems__(index.tolist()), 0))
    for one, two in zip(*rules, strict=True):
        expected = torch.argsort(names)[one[order]] if one.dtype == torch.int64 else one[order]
        torch.testing.assert_close(two, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)


def test_aads_unknown_images_are_neither_drawn_nor_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "aad", open_set=True)
    method, index = steps.method, BATCHES[0]
    method.known = torch.zeros(IMAGES, dtype=torch.bool)
    before = method.bank.z.clone()
    batch = steps.access.target.__getitems__(index.tolist())
    p = steps.features(index)[1].softmax(1)
    loss = method.training_step(batch, 0)
    apart = ((p @ p.T) * (1 - torch.eye(len(index)))).sum(1).mean() * 63 / 5
    torch.testing.assert_close(loss, apart)
    assert torch.equal(method.bank.z, before)


def test_rotated_images_move_no_running_statistics() -> None:
    torch.manual_seed(0)
    net = build_classifier("small-cnn", "none", 3)
    images = torch.rand(6, 3, 32, 32)
    head = shot_plus.RotationHead(256, torch.Generator().manual_seed(0))
    net.train()
    features = net.features(images).detach()
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
    head.loss(net, images, features).backward()
    assert before
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
