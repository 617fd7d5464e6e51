"""Steps of each student of a black box against plain loops, and sets that are hardly any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from source_free_steps import compare_steps
from torch import Tensor, nn
from torch.nn import functional as F

from dabench import registry
from dabench.cli.main import main
from dabench.contract.access import BlackBox, Budget, Recorder, Unlabelled
from dabench.contract.cost import Cost
from dabench.contract.protocol import Run
from dabench.contract.types import Task
from dabench.engine.fit import fit, predict_all
from dabench.networks.network import ClassifierNetwork

CLASSES, SIDE, IMAGES = 3, 4, 24
BATCHES = [torch.tensor(rows) for rows in ([0, 5, 9, 14, 20, 3], [7, 5, 11, 1], [2, 23, 8, 16, 12])]
NAMES = (
    *("kd", "ls-kd", "hd-shot", "sd-shot", "nll-kl", "nll-ot"),
    *("iterlnl", "rfc", "seal", "rain"),
    *("pseudo-label", "dine", "beta", "cabb"),
)


def pictures(count: int = IMAGES) -> np.ndarray:
    rng = np.random.default_rng(0)
    bright = 90 * np.eye(3)[np.arange(count) % 3][:, None, None, :]
    return (rng.integers(0, 150, (count, SIDE, SIDE, 3)) + bright).astype(np.uint8)


def network(classes: int = CLASSES, seed: int = 0) -> ClassifierNetwork:
    """Return a network of two linear layers, and no BatchNorm."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 8), nn.Tanh())
    net = ClassifierNetwork(trunk, 8, classes, bottleneck=0, weight_norm=False)
    torch.set_rng_state(state)
    return net


def said(count: int = IMAGES, classes: int = CLASSES) -> Tensor:
    """Return an oracle's answers: mostly the image's kind."""
    draws = np.random.default_rng(1).dirichlet(np.ones(classes), count)
    return torch.tensor(0.6 * np.eye(classes)[np.arange(count) % min(classes, 3)] + 0.4 * draws)


def grant(images: np.ndarray, answers: Tensor) -> BlackBox:
    classes = answers.shape[1]
    task = Task("classification", tuple("abcdefghij"[:classes]), SIDE, False)
    oracle: Any = SimpleNamespace(ask_all=lambda target: answers.float(), gives_probabilities=True)
    target = Unlabelled(images, np.arange(len(images)))
    make = lambda seed: network(classes, seed)  # noqa: E731
    return BlackBox(task, target, oracle, make, Cost(), Budget(2, 4), 0, Recorder())


class Steps:
    """A method that is driven by hand, its views being the images themselves."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, name: str, epochs: int = 2, **options: Any
    ) -> None:
        for view in ("weak", "strong"):
            monkeypatch.setattr(f"dabench.views.{view}", lambda images, flip: images)
        self.method: Any = registry.method(name)(**options)
        self.access = grant(pictures(), said())
        self.trainer: Any = SimpleNamespace(
            current_epoch=0,
            max_epochs=epochs,
            global_step=0,
            estimated_stepping_batches=5 * epochs,
            num_training_batches=5,
        )
        self.method._trainer = self.trainer
        self.method.begin(self.access)
        self.net: Any = getattr(self.method, "net", None) or self.method.networks[0]
        self.optimiser = self.method.configure_optimizers()
        self.trainer.optimizers = [self.optimiser]
        self.images = self.access.target.__getitems__(list(range(IMAGES))).images
        self.answers = said().float()
        self.method.on_train_epoch_start()

    def to_epoch(self, epoch: int) -> None:
        self.trainer.current_epoch, self.trainer.global_step = epoch, 5 * epoch
        self.method.on_train_epoch_start()

    def p(self) -> Tensor:
        with torch.no_grad():
            return self.net(self.images).softmax(1)

    def step(self, index: Tensor, batch_idx: int = 0) -> Tensor:
        return self.method.training_step(self.access.target.__getitems__(index.tolist()), batch_idx)

    def check(self, reference: Callable[[Tensor], Tensor]) -> None:
        """Compare losses, and gradients by all weights that learn, on three batches."""
        batches = [self.access.target.__getitems__(index.tolist()) for index in BATCHES]
        weights = [w for w in self.net.parameters() if w.requires_grad]
        compare_steps(self, weights, batches, reference, atol=1e-5)


def entropy(p: Tensor) -> Tensor:
    return -(p * p.log()).sum(1).mean()


def divergence(t: Tensor, logits: Tensor) -> Tensor:
    return (t * (t.clamp_min(1e-10).log() - logits.log_softmax(1))).sum(1).mean()


def use(p: Tensor) -> Tensor:
    """Information maximisation's second term against uniform classes, of the batch alone."""
    mean = p.mean(0)
    return -(mean * (mean.detach() * p.shape[1]).log()).sum()


def test_pseudo_label_learns_the_smoothed_class_of_the_first_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = Steps(monkeypatch, "pseudo-label", smoothing=0.3)
    labels = 0.7 * torch.eye(CLASSES)[steps.answers.argmax(1)] + 0.3 / CLASSES

    def loss(index: Tensor) -> Tensor:
        logits = steps.net(steps.images[index])
        return -(labels[index] * logits.log_softmax(1)).sum(1).mean()

    steps.check(loss)
    steps.to_epoch(1)  # and never another one, whatever the network says by then
    steps.check(loss)


@pytest.mark.parametrize("name", ["kd", "ls-kd"])
def test_plain_distillation(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    steps = Steps(monkeypatch, name)
    labels = steps.answers.clone()
    if name == "ls-kd":
        for row in labels:
            top = int(row.argmax())
            rest = (1 - row[top]) / 2
            row[[c for c in range(3) if c != top]] = rest
    steps.check(lambda index: divergence(labels[index], steps.net(steps.images[index])))
    # unlike pseudo-label's, the labels differ from image to image
    hard = registry.method("pseudo-label")()
    hard.begin(steps.access)
    assert len(hard.labels.unique(dim=0)) == 3
    assert len(steps.method.labels.unique(dim=0)) == IMAGES


def test_hd_shot_and_sd_shot(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hd-shot", "sd-shot"):
        steps = Steps(monkeypatch, name, epochs=4, marginal=0.0)
        hard = 0.9 * F.one_hot(steps.answers.argmax(1), 3) + 0.1 / 3
        first = steps.answers if name == "sd-shot" else hard
        steps.check(lambda index, t=first, s=steps: divergence(t[index], s.net(s.images[index])))
        assert steps.net.classifier.weight.requires_grad
        steps.to_epoch(2)
        assert not steps.net.classifier.weight.requires_grad
        labels = steps.method.centroid

        def shot(index: Tensor, s: Steps = steps, y: Tensor = labels) -> Tensor:
            logits = s.net(s.images[index])
            p = logits.softmax(1)
            return 0.3 * F.cross_entropy(logits, y[index]) + entropy(p) - use(p)

        steps.check(shot)
        factor = steps.method.decay()
        assert factor(0.0) == factor(0.5) == 1.0  # a decay a stage
        assert factor(0.49) < 0.2


#: share of the rate that is left half-way through three epochs
LEFT = {
    **dict.fromkeys(("kd", "pseudo-label", "nll-kl", "nll-ot", "cabb", "iterlnl"), 6**-0.75),
    **dict.fromkeys(("dine", "beta", "rfc", "seal", "rain"), 6**-1.5),
    **dict.fromkeys(("hd-shot", "sd-shot"), 8.5**-0.75),  # two epochs are the first stage
}


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("name", LEFT)
def test_rates_fall_from_the_first_step_on(
    monkeypatch: pytest.MonkeyPatch, name: str, pretrained: bool
) -> None:
    steps = Steps(monkeypatch, name, epochs=3)
    for net in getattr(steps.method, "networks", [steps.net]):
        net.pretrained = pretrained
    optimiser = steps.method.configure_optimizers()
    rates = [1e-3 if pretrained else 1e-2, 1e-2] * (len(optimiser.param_groups) // 2)
    optimiser._total = 10
    optimiser.step()
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx(rates)
    for _ in range(5):
        optimiser.step()
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx(
        [rate * LEFT[name] for rate in rates]
    )
    assert {(g["weight_decay"], g["momentum"]) for g in optimiser.param_groups} == {(1e-3, 0.9)}


def test_nll_kl(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "nll-kl", marginal=0.0, reverse_weight=0.5)

    def reference(index: Tensor) -> Tensor:
        logits, t = steps.net(steps.images[index]), steps.answers[index]
        p = logits.softmax(1)
        back = (p * (p.log() - t.log())).sum(1).mean()
        return divergence(t, logits) + 0.5 * back - use(p)

    steps.check(reference)


def test_nll_ot_assigns_by_the_oracle_first_and_by_the_network_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = Steps(monkeypatch, "nll-ot", rounds=2000, sharpness=2.0)
    mass = steps.answers.mean(0)
    for epoch, seen in ((0, steps.answers), (1, steps.p())):
        steps.to_epoch(epoch)
        labels = steps.method.labels
        torch.testing.assert_close(labels.mean(0), mass, atol=1e-4, rtol=0)
        # the plan is the power of what was seen, scaled by rows and columns
        ratio = labels.log() - 2 * seen.log()
        ratio = ratio - ratio[:1]
        torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 3), atol=1e-4, rtol=0)
    steps.check(
        lambda index: F.cross_entropy(steps.net(steps.images[index]), steps.method.labels[index])
    )


def test_the_use_of_classes_is_averaged_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of two shows two of three classes: the third must not be called for."""
    steps = Steps(monkeypatch, "nll-kl", marginal=0.5)
    average = torch.full((3,), 1 / 3)
    for index in BATCHES:
        with torch.no_grad():
            average = 0.5 * average + 0.5 * steps.p()[index].mean(0)
            steps.step(index)
    torch.testing.assert_close(steps.method.use.average, average)


@pytest.mark.parametrize("name", ["dine", "beta", "cabb"])
def test_every_method_with_diversity_takes_a_prior(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Defaults are what they were; without the term, it has no say in any gradient."""
    pulls = {}
    for prior in (None, "uniform", "oracle-mean", "none"):
        torch.manual_seed(3)
        given = {} if prior is None else {"diversity_prior": prior}
        steps = Steps(monkeypatch, name, im_weight=1.0, **given)
        steps.step(BATCHES[0]).backward()
        pulls[prior] = steps.net.classifier.bias.grad.clone()
    assert torch.equal(pulls["uniform"], pulls[None])
    for prior in ("uniform", "oracle-mean"):
        assert not torch.equal(pulls[prior], pulls["none"])
    later = type(steps.method).later_options
    assert "diversity_prior" in later
    assert ("marginal" in later) == (name != "cabb")


def test_where_classes_are_used_as_expected_nothing_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partial target: by the oracle's mean, a class that is not there is not called for."""
    pulls = {}
    for prior in ("uniform", "oracle-mean", "none"):
        steps = Steps(monkeypatch, "nll-kl", diversity_prior=prior, marginal=0.0)
        if prior == "oracle-mean":
            torch.testing.assert_close(steps.method.use.expected, steps.answers.mean(0))
        steps.method.use.expected = torch.tensor([0.7, 0.29, 0.01])
        if prior == "uniform":
            steps.method.use.expected = torch.full((3,), 1 / 3)
        logits = torch.tensor([[0.7, 0.29, 0.01]]).log().requires_grad_()
        steps.method.diversity(logits.softmax(1)).backward()
        pulls[prior] = float(logits.grad[0, 2])
    assert pulls["uniform"] > 0.03
    assert pulls["oracle-mean"] == pytest.approx(0, abs=1e-6)
    assert pulls["none"] == 0


def test_iterlnl_starts_anew_in_every_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "iterlnl", epochs=5, loops=2, confidence=0.75)
    method = steps.method
    assert method.starts == [0, 2, 5]
    assert method.within_loop(0.2) == pytest.approx(0.5)
    assert method.within_loop(0.4) == pytest.approx(0.0)
    assert method.within_loop(0.99) == pytest.approx(0.9833, abs=1e-3)
    assert method.decay()(0.4) == 1.0
    torch.testing.assert_close(method.labels, steps.answers.argmax(1))
    share = float((steps.answers.max(1).values > 0.75).float().mean())
    assert 0.3 < share < 0.9
    assert method.tau == pytest.approx(1 - share)
    # an underconfident oracle: the floor holds
    assert Steps(monkeypatch, "iterlnl", least=0.4).method.tau == pytest.approx(0.6)
    for index in BATCHES:
        steps.optimiser.zero_grad()
        steps.step(index).backward()
        steps.optimiser.step()
    before = steps.p().argmax(1)
    assert steps.optimiser.state
    steps.to_epoch(1)
    torch.testing.assert_close(method.labels, steps.answers.argmax(1))
    steps.to_epoch(2)
    torch.testing.assert_close(method.labels, before)
    assert not steps.optimiser.state
    for name, value in network(seed=1).state_dict().items():
        assert torch.equal(steps.net.state_dict()[name], value)
    # no loop of one epoch, whose keep would have fallen after half of it
    assert Steps(monkeypatch, "iterlnl", epochs=4).method.starts == [0, 2, 4]
    assert Steps(monkeypatch, "iterlnl", epochs=1).method.starts == [0, 1]
    few = Steps(monkeypatch, "iterlnl", epochs=4, loops=9).method
    assert few.starts == [0, 2, 4]
    assert few.length * CLASSES == IMAGES // 2  # not 100 a class


def test_iterlnl_learns_from_the_likeliest_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "iterlnl", loops=1, scores=4)
    steps.trainer.global_step = 5  # the share has fallen all the way
    past = torch.zeros(3, 4)

    def reference(index: Tensor) -> Tensor:
        labels, p = steps.answers.argmax(1)[index], steps.p()[index]
        # of four kept scores the second: a share of (4 + 1) * .3 = 1.5 of them, rounded
        cut = [sorted(row.tolist(), reverse=True)[1] for row in past]
        kept = [n for n, c in enumerate(labels.tolist()) if float(p[n, c]) > cut[c]]
        if len(kept) < 2:
            likely = [-float(p[n, c]) for n, c in enumerate(labels.tolist())]
            kept = sorted(np.argsort(likely)[:2].tolist())
        for n, c in enumerate(labels.tolist()):
            past[c] = torch.cat((past[c, 1:], p[n, c][None]))
        return F.cross_entropy(steps.net(steps.images[index])[kept], labels[kept])

    steps.check(reference)


def test_rfc_distils_then_attracts_and_reviews(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"review_classes": 0.0, "disperse_decay": 2.0, "distil": 0.5, "neighbours": 3}
    steps = Steps(monkeypatch, "rfc", epochs=2, **options)
    assert steps.method.distilling
    steps.to_epoch(1)
    with torch.no_grad():
        bank = F.normalize(steps.net.features(steps.images), dim=1)
    answers = steps.p()
    torch.testing.assert_close(steps.method.near.z, bank)  # no random rows

    def reference(index: Tensor) -> Tensor:
        features = steps.net.features(steps.images[index])
        p, z = steps.net.classifier(features).softmax(1), F.normalize(features.detach(), dim=1)
        bank[index], answers[index] = z, p.detach()
        total = torch.zeros(())
        for n, place in enumerate(index.tolist()):
            cosine = bank @ z[n]
            cosine[place] = -9
            # the dot product, and not the divergence that kl_div would be of log p
            total = total - (answers[cosine.topk(3).indices] * p[n]).sum()
            apart = sum((p[n] * p[m]).sum() for m in range(len(index)) if m != n)
            done = (steps.trainer.global_step - 5) / 5
            total = total + (1 + 10 * done) ** -2.0 * 63 / (len(index) - 1) * apart
        return total / len(index)

    steps.check(reference)


def smoothed() -> Tensor:
    """Return DINE's labels: the top answer as it is, the rest spread evenly."""
    top, named = said().float().max(1)
    labels = ((1 - top) / 2)[:, None].repeat(1, 3)
    labels[torch.arange(IMAGES), named] = top
    return labels


def mixed_answers(steps: Steps, index: Tensor, logits: Tensor) -> Tensor:
    """Return the consistency with mixed images, drawn as the method draws."""
    order = torch.randperm(len(index))
    draws = torch._standard_gamma(torch.full((2,), 0.3)).clamp_min(1e-12)
    share, x, p = float(draws[0] / draws.sum()), steps.images[index], logits.detach().softmax(1)
    found = steps.net(share * x + (1 - share) * x[order])
    return divergence(share * p + (1 - share) * p[order], found)


@pytest.mark.parametrize("name", ["rfc", "seal"])
def test_the_first_stage_is_dines_distillation(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    off: dict[str, Any] = {"rfc": {"review_classes": 0.0}, "seal": {"contrast_weight": 0.0}}[name]
    steps = Steps(monkeypatch, name, marginal=0.0, **off)

    def reference(index: Tensor) -> Tensor:
        logits = steps.net(steps.images[index])
        p = logits.softmax(1)
        loss = divergence(smoothed()[index], logits) + entropy(p) - use(p)
        return loss + mixed_answers(steps, index, logits)

    steps.check(reference)


@pytest.mark.parametrize("memory", [0.0, 0.5])
def test_dine(monkeypatch: pytest.MonkeyPatch, memory: float) -> None:
    steps = Steps(monkeypatch, "dine", fine_tune=0.5, marginal=memory)
    used: list[Tensor] = []

    def calm(index: Tensor) -> Tensor:
        p = steps.net(steps.images[index]).softmax(1)
        now = p.mean(0)
        past = memory * used[-1] + (1 - memory) * now.detach() if used else now.detach()
        used.append(past)
        return entropy(p) + (now * (past if memory else now).log()).sum()

    def reference(index: Tensor) -> Tensor:
        logits = steps.net(steps.images[index])
        loss = divergence(smoothed()[index], logits) + calm(index)
        return loss + mixed_answers(steps, index, logits)

    steps.check(reference)
    steps.to_epoch(1)  # fine-tuning: information maximisation alone
    steps.check(calm)


def mixed_views(
    net: Any, x: Tensor, target: Tensor, seen: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return a branch's logits of mixed strong views and the mixed targets, drawn as it draws."""
    order = torch.randperm(len(x))
    draws = torch._standard_gamma(torch.ones(2)).clamp_min(1e-12)
    share = max(float(draws[0] / draws.sum()), float(draws[1] / draws.sum()))
    strong = seen(x)
    mixed = share * strong + (1 - share) * strong[order]
    return net(mixed), share * target + (1 - share) * target[order]


def check_branches(steps: Steps, reference: Callable[[Tensor], Tensor]) -> None:
    """As ``Steps.check``, by the weights of all branches."""
    batches = [steps.access.target.__getitems__(index.tolist()) for index in BATCHES]
    weights = [w for net in steps.method.networks for w in net.parameters()]
    compare_steps(steps, weights, batches, reference, atol=1e-5)


def changed(x: Tensor) -> Tensor:
    return 0.6 * x + 0.2


def test_a_step_of_betas_division(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "beta", tau=0.6, fine_tune=0.5)
    monkeypatch.setattr("dabench.views.strong", lambda images, flip: changed(images))
    method, nets = steps.method, steps.method.networks
    method.divided = [True, True]
    draws = torch.Generator().manual_seed(0)
    method.posterior = [torch.rand(IMAGES, generator=draws) for _ in nets]
    named = torch.eye(CLASSES)[steps.answers.argmax(1)]

    def reference(index: Tensor) -> Tensor:
        x, total = steps.images[index], torch.zeros(())
        logits = [net(x) for net in nets]
        seen = [z.detach().softmax(1) for z in logits]
        for b, net in enumerate(nets):
            p = logits[b].softmax(1)
            steps.net = net
            total = total + divergence(smoothed()[index], logits[b])
            total = total + entropy(p) - entropy(p.mean(0)[None])
            total = total + mixed_answers(steps, index, logits[b])
            easy, w = method.posterior[b][index] >= 0.6, method.posterior[1 - b][index][:, None]
            refined = w * named[index] + (1 - w) * seen[b]
            target = torch.where(easy[:, None], refined, (seen[0] + seen[1]) / 2) ** 2
            target = target / target.sum(1, keepdim=True)
            found, target = mixed_views(net, x, target, changed)
            if bool(easy.any()):
                ce = -(target * found.log_softmax(1)).sum(1)[easy].mean()
                use = found.softmax(1)[easy].mean(0)
                total = total + ce - (use * CLASSES).log().mean()
        return total

    check_branches(steps, reference)
    factor = method.decay()
    assert (factor(0.0), factor(0.5)) == (1, 1)  # each stage begins at the full rate


@pytest.mark.parametrize("curriculum", [True, False])
def test_a_step_of_cabb(monkeypatch: pytest.MonkeyPatch, curriculum: bool) -> None:
    steps = Steps(monkeypatch, "cabb", curriculum=curriculum)
    monkeypatch.setattr("dabench.views.strong", lambda images, flip: changed(images))
    method, nets = steps.method, steps.method.networks
    draws = torch.Generator().manual_seed(0)
    method.posterior = [torch.rand(IMAGES, generator=draws) for _ in nets]
    method.banks = [torch.rand(IMAGES, CLASSES, generator=draws).softmax(1) for _ in nets]
    uses = [torch.full((CLASSES,), 1 / CLASSES) for _ in nets]

    def reference(index: Tensor) -> Tensor:
        x, total = steps.images[index], torch.zeros(())
        rise = 0.3 + 0.7 * steps.trainer.global_step / 10 if curriculum else 1.0
        for b, net in enumerate(nets):
            omega, bank = method.posterior[b][index], method.banks[b][index]
            named = 0.9 * torch.eye(CLASSES)[bank.argmax(1)] + 0.1 / CLASSES
            target = omega[:, None] * named + (1 - omega[:, None]) * bank
            weight = omega + (1 - omega) * rise
            logits = net(x)
            p = logits.softmax(1)
            label = -(weight[:, None] * target * logits.log_softmax(1)).sum(1).mean()
            doubt = -(omega[:, None] * p * p.log()).sum(1).mean()
            uses[b] = 0.9 * uses[b] + 0.1 * p.detach().mean(0)
            total = total + label + 0.1 * (doubt + p.mean(0) @ uses[b].log())
            found, rows = mixed_views(net, x, weight[:, None] * target, changed)
            total = total - 0.5 * (rows * found.log_softmax(1)).sum(1).mean()
        return total

    check_branches(steps, reference)


def test_rfc_reviews_every_chosen_image_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "rfc", epochs=2, distil=0.5, review_classes=0.7)
    method = steps.method
    rows, before = sorted(method.rows.tolist()), method.bank.clone()
    assert 2 <= len(rows) < IMAGES
    shown = [method.to_review(n) for n in range(5)]
    turns = [i for batch in shown if batch is not None for i in batch.index.tolist()]
    assert sorted(turns) == rows
    others = torch.tensor([i for i in range(IMAGES) if i not in rows])
    again = method.to_review(0)
    with torch.no_grad():
        p = steps.net(again.images).softmax(1)
        labels = steps.answers.argmax(1)[again.index]
        ce = F.cross_entropy(steps.net(again.images), labels)
        back = -(p * F.one_hot(labels, 3).clamp(1e-4).log() * 1.0).sum(1).mean()
        both = steps.net(again.images)
        expected = 2 * ce + back
        loss = method._review(again.index, both, both)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(method.bank[again.index], 0.6 * before[again.index] + 0.4 * p)
    assert torch.equal(method.bank[others], before[others])


def test_a_reviewed_image_of_rfc_weighs_as_one_of_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = Steps(monkeypatch, "rfc", distil=0.5, review_classes=0.7)
    steps.to_epoch(1)
    method, index = steps.method, BATCHES[0]
    again = len(method.to_review(0).images)
    assert again != len(index)
    monkeypatch.setattr(method, "_review", lambda index, weak, strong: torch.tensor(60.0))
    reviewed = steps.step(index)
    method.rows = method.rows[:0]
    difference = (reviewed - steps.step(index)).item()
    assert difference == pytest.approx(60 * again / len(index), abs=1e-3)


def test_seals_keys_are_normalised_as_its_queries_are(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Steps(monkeypatch, "seal").method
    method.eval()
    method.on_train_epoch_start()
    assert method.net.training
    assert method.keys.training


def test_seal_separates_by_the_oracles_class(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, "seal", epochs=2, warmup=0.5, easy=0.25, queue=500)
    method = steps.method
    assert len(method.past.features) == IMAGES // 2
    assert method.is_easy.all()
    named = steps.answers.argmax(1)
    p = torch.full((IMAGES, 3), 0.01)
    p[torch.arange(IMAGES), named] = 0.98
    doubted = list(range(12, 24))
    p[doubted] = torch.tensor([0.3, 0.3, 0.4])
    p[:3] = torch.eye(3)[(named[:3] + 1) % 3] * 0.97 + 0.01  # sure, and of another class
    method.separate(p)
    assert method.is_easy.nonzero().flatten().tolist() == [3, 4, 5, 6, 7, 8]
    assert method.is_sure.nonzero().flatten().tolist() == [0, 1, 2, 9, 10, 11]
    # thresholds count the next time, and fall for classes with fewer sure images
    counts = torch.bincount(p.argmax(1)[p.max(1).values > 0.95], minlength=3)
    torch.testing.assert_close(method.threshold, 0.95 * (counts / counts.max()) ** 0.05)
    kept = method.threshold
    method.separate(torch.full((IMAGES, 3), 1 / 3))
    assert torch.equal(method.threshold, kept)
    assert torch.equal(method.named, named)


def test_a_step_of_seals_alignment(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = {"contrast_weight": 0.0, "marginal": 0.0, "prototype_momentum": 0.9}
    steps = Steps(monkeypatch, "seal", warmup=0.5, easy=0.3, **fixed)
    method = steps.method
    steps.to_epoch(1)
    prototypes = F.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    method.prototypes = prototypes.clone()
    method.is_sure = ~method.is_easy & (torch.arange(IMAGES) % 2 == 0)
    found = steps.p()
    # the memory was refreshed after tenths: with two epochs, before the second
    bank = 0.6 * smoothed() + 0.4 * found
    torch.testing.assert_close(method.bank, bank)
    protos = [prototypes]

    def reference(index: Tensor) -> Tensor:
        features = steps.net.features(steps.images[index])
        logits, z = steps.net.classifier(features), F.normalize(features.detach(), dim=1)
        p, r = logits.softmax(1), (z @ protos[0].T / 0.07).softmax(1)
        rows = list(zip(range(len(index)), index.tolist(), strict=True))
        target = r.clone()
        for n, i in rows:
            if method.is_easy[i]:
                target[n] = torch.eye(3)[steps.answers[i].argmax()]
            elif method.is_sure[i]:
                top = found[i].max()
                target[n] = top * torch.eye(3)[found[i].argmax()] + (1 - top) * r[n]
        ce = -(target * logits.log_softmax(1)).sum(1)
        easy = [n for n, i in rows if method.is_easy[i]]
        sure = [n for n, i in rows if method.is_sure[i]]
        rest = [n for n, i in rows if not method.is_easy[i] and not method.is_sure[i]]
        loss = divergence(bank[index], logits) + entropy(p) - 2 * use(p)
        for group, weight in ((easy, 1.0), (sure, 1.0), (rest, 0.2)):
            if group:
                loss = loss + weight * ce[group].mean()
        pixels, partner = steps.images[index], torch.randperm(len(index))
        draws = torch._standard_gamma(torch.full((2,), 0.3)).clamp_min(1e-12)
        part = float(draws[0] / draws.sum())
        blend = part * p.detach() + (1 - part) * p.detach()[partner]
        loss = loss + divergence(blend, steps.net(part * pixels + (1 - part) * pixels[partner]))
        draws = torch._standard_gamma(torch.full((2,), 4.0)).clamp_min(1e-12)
        share = max(float(draws[0] / draws.sum()), float(draws[1] / draws.sum()))
        order = torch.randperm(len(index))
        mixed = steps.net(share * pixels + (1 - share) * pixels[order]).log_softmax(1)
        labels = share * target + (1 - share) * target[order]
        loss = loss - (labels * mixed).sum(1).mean() + ce.mean()
        after = []
        for c in range(3):
            mine = [
                z[n]
                for n, i in rows
                if (steps.answers[i].argmax() if method.is_easy[i] else p[n].argmax()) == c
            ]
            old = protos[0][c]
            kept = 0.9 ** len(mine)
            after.append(kept * old + (1 - kept) * torch.stack(mine).mean(0) if mine else old)
        protos[0] = F.normalize(torch.stack(after), dim=1)
        return loss

    steps.check(reference)


def test_seals_contrast_in_warm_up_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Own keys against those of earlier batches; then the keys of a label pull, too."""
    steps = Steps(monkeypatch, "seal", warmup=0.5)
    method = steps.method
    with torch.no_grad():
        first, second = (
            F.normalize(steps.net.features(steps.images[i]), dim=1) for i in BATCHES[:2]
        )
    labels = steps.answers.argmax(1)
    sure = torch.ones(6, dtype=torch.bool)
    alone = method._contrast(first, steps.images[BATCHES[0]], labels[BATCHES[0]], sure)
    assert float(alone) == 0  # nothing to tell the own key from
    pair = method._contrast(second, steps.images[BATCHES[1]], labels[BATCHES[1]], sure[:4])
    own = (second * second).sum(1, keepdim=True)
    logits = torch.cat((own, second @ first.T), 1) / 0.07
    expected = F.cross_entropy(logits, torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(pair, expected, rtol=1e-4, atol=1e-5)
    assert len(method.past) == 10
    method.warm = False
    index = BATCHES[2]
    with torch.no_grad():
        third = F.normalize(steps.net.features(steps.images[index]), dim=1)
    found = method._contrast(third, steps.images[index], labels[index], sure[:5])
    keys = torch.cat((third, first, second))
    theirs = torch.cat([labels[i] for i in (index, *BATCHES[:2])])
    graph = (labels[index][:, None] == theirs[None, :]).float()  # all sides are reliable
    graph = graph / graph.sum(1, keepdim=True)
    expected = -(graph * (third @ keys.T / 0.07).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_step_of_rain(monkeypatch: pytest.MonkeyPatch) -> None:
    """With whole widths a narrow network is the same, and its terms are nothing."""
    steps = Steps(monkeypatch, "rain", marginal=0.0, width=1.0)
    bank = smoothed()

    def reference(index: Tensor) -> Tensor:
        images = steps.images[index]
        logits = steps.net(images)
        p = logits.softmax(1)
        order, share = torch.randperm(len(index)), 0.5 * torch.rand(())
        spectrum = torch.fft.fft2(images)
        phasor = spectrum / spectrum.abs()
        mixed = (1 - share) * phasor + share * phasor[order]
        changed = torch.fft.ifft2(spectrum.abs() * mixed / mixed.abs()).real.clamp(0, 1)
        steady = (p - steps.net(changed).softmax(1)).abs().mean()
        return divergence(bank[index], logits) + entropy(p) - use(p) + 1.2 * steady

    steps.check(reference)


def test_what_rains_narrower_network_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole network's answers, and its gradients by the classifier (here: by autograd)."""

    @contextmanager
    def dimmed(net: Any, width: float) -> Iterator[None]:
        hook = net.backbone[1].register_forward_hook(lambda layer, inputs, out: 0.5 * out)
        yield
        hook.remove()

    monkeypatch.setattr("dabench.methods.functional.phase_mix.narrowed", dimmed)
    off = {"im_weight": 0.0, "phase_weight": 0.0}
    steps = Steps(monkeypatch, "rain", **off)
    head, labels = steps.net.classifier, smoothed()

    def reference(index: Tensor) -> Tensor:
        images, t = steps.images[index], labels[index]
        pixels, trunk = images * 2 - 1, steps.net.backbone
        whole = steps.net(images)
        narrow = head(trunk[2](0.5 * trunk[1](trunk[0](pixels))))
        p = whole.detach().softmax(1)
        weight = 1 + (p * p.log()).sum(1).exp()
        found = []
        for logits in (whole, narrow):
            loss = (-(t * logits.log_softmax(1)).sum(1) * weight).sum()
            (by,) = torch.autograd.grad(loss, head.weight, create_graph=True)
            found.append(by.flatten())
        cosine = found[0] @ found[1] / found[0].norm() / found[1].norm()
        return divergence(t, whole) + 0.6 * divergence(p, narrow) + 0.3 * (1 - cosine)

    steps.check(reference)


SETS = {
    "two images": (pictures(2), 2),
    "fewer images than neighbours": (pictures(4), 3),
    "two classes": (pictures(12), 2),
    "all equal": (np.full((12, SIDE, SIDE, 3), 128, dtype=np.uint8), 3),
    "more classes than images": (pictures(5), 6),
    "a class without any image": (pictures(12), 4),
}


#: fast, the sets at the ends
ENDS = {"two images", "more classes than images", "all equal"}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in ENDS)) for kind in SETS]
)
@pytest.mark.parametrize("name", NAMES)
def test_sets_that_are_hardly_any(name: str, kind: str) -> None:
    """Losses stay finite (they are checked at every step), and so do the answers."""
    images, classes = SETS[kind]
    answers = said(len(images), classes)
    if kind == "a class without any image":
        answers[:, 3] = 0
        answers = answers / answers.sum(1, keepdim=True)
    method: Any = registry.method(name)()
    access = grant(images, answers)
    method.begin(access)
    fit(method, access.target, Cost(), Run("source", Budget(2, 4), 0, "cpu", Recorder(), False))
    method.calibrate()
    found = predict_all(method, access.target, "cpu", Cost())
    assert bool(np.isfinite(found.confidence).all())


@pytest.mark.parametrize("name", NAMES)
def test_they_are_refused_elsewhere(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--method", name, "--protocol", "sf-osda"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {name} does not run under sf-osda; it serves bb-uda")
