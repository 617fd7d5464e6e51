"""Every online method over a few small batches: what it owes whatever the stream."""

from __future__ import annotations

import copy
import gc
import io
import math
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dabench import registry
from dabench.contract.access import Online, Recorder, TargetBatch
from dabench.contract.method import OnlineMethod
from dabench.contract.network import Network
from dabench.contract.types import Task
from dabench.errors import AccessError, ConfigError
from dabench.methods.functional.losses import entropy
from dabench.methods.online.aerial import turned
from dabench.methods.online.cotta import augment
from dabench.methods.online.sar import below_top
from dabench.networks.network import ClassifierNetwork, build_classifier

K, SIDE, BATCH = 4, 32, 16
GRADIENT: dict[str, dict[str, Any]] = {
    "tent": {},
    "eata": {"limit": 1.0, "margin": 1.0},
    "sar": {"limit": 1.0},
    "cotta": {"views": 2},
    "shot-online": {},
    "conda": {"per_class": 3},
    "ucl-gv": {"per_class": 3},
    "aerial": {"per_class": 3},
}
METHODS: dict[str, dict[str, Any]] = {"source": {}, "bn-adapt": {}, **GRADIENT}
VARIANTS = [
    *METHODS.items(),
    ("bn-adapt", {"rho": 0.5}),
    ("tent", {"per_class": 2, "steps": 2, "rho": 0.5, "optimiser": "sgd"}),
    ("conda", {"per_class": 3, "mixing": "selective", "policy": "reservoir", "replay": 4}),
    ("conda", {"per_class": 3, "mixing": "none", "policy": "fifo", "momentum": 0.0}),
    ("cotta", {"confident": 0.0, "optimiser": "sgd"}),
    ("ucl-gv", {"per_class": 3, "grad_norm": "unit-per-layer"}),
    ("aerial", {"per_class": 3, "replay": 4, "turn": False}),
]
IDS = ["-".join((name, *map(str, options.values()))) for name, options in VARIANTS]
variants = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
#: with their defaults all methods are killed and resumed in tests/contract/test_streams.py
changed = pytest.mark.parametrize(
    ("name", "options"), VARIANTS[len(METHODS) :], ids=IDS[len(METHODS) :]
)


class Notes(Recorder):
    """A recorder that remembers."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Any]] = {}

    def put(self, name: str, step: int, value: Any) -> None:
        self.kept.setdefault(name, []).append(value)


def network(seed: int = 0, **how: Any) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build_classifier("small-cnn", "none", K, **how).eval()
        for module in net.modules():  # statistics that differ from the stream's
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(std=0.1)
        net.classifier.weight = net.classifier.weight.detach() * 4  # sure enough to be reliable
    return net


def images(seed: int, count: int = BATCH) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    # blobs at class-dependent places: something that can be told apart
    out = torch.rand(count, 3, SIDE, SIDE, generator=generator) * 0.3
    for i in range(count):
        row, column = divmod(i % K, 2)
        out[i, :, 16 * row : 16 * row + 12, 16 * column : 16 * column + 12] += 0.6
    return out.mul(255).round().div(255)


def begun(
    name: str, options: dict[str, Any], net: Network | None = None, seed: int = 0
) -> tuple[OnlineMethod, Notes]:
    torch.manual_seed(seed)
    notes = Notes()
    task = Task("classification", tuple("abcd"), SIDE)
    extras = {"fisher-images": images(99, 24)}
    method: OnlineMethod = registry.method(name)(**options)
    method.begin(Online(task, net or network(), BATCH, seed, notes, extras))
    return method, notes


def push(method: OnlineMethod, number: int, count: int = BATCH) -> Tensor:
    index = torch.arange(number * BATCH, number * BATCH + count)
    return method.step(TargetBatch(images(number, count), index))


def flattened(state: Any, path: str = "") -> dict[str, Any]:
    """Return every leaf of a nested state by its path."""
    if isinstance(state, dict):
        parts = state.items()
    elif isinstance(state, list | tuple):
        parts = enumerate(state)
    else:
        return {path: state}
    return {k: v for key, part in parts for k, v in flattened(part, f"{path}/{key}").items()}


def same(a: Any, b: Any) -> bool:
    one, other = flattened(a), flattened(b)
    return one.keys() == other.keys() and all(
        torch.equal(v.nan_to_num(-7), other[k].nan_to_num(-7))
        if isinstance(v, Tensor)
        else v == other[k]
        for k, v in one.items()
    )


@variants
def test_answers_are_finite_and_repeat(name: str, options: dict[str, Any]) -> None:
    answers = []
    for _ in range(2):
        method, _ = begun(name, options)
        answers.append([push(method, i) for i in range(4)])
    for one, other in zip(*answers, strict=True):
        assert one.shape == (BATCH, K)
        assert not one.requires_grad
        assert torch.isfinite(one).all()
        assert torch.equal(one, other)


@variants
def test_predict_changes_nothing(name: str, options: dict[str, Any]) -> None:
    method, _ = begun(name, options)
    for i in range(3):
        push(method, i)
    state, drawn = copy.deepcopy(method.state_dict()), torch.random.get_rng_state()
    for mode in (True, False):
        method.train(mode)
        with torch.no_grad():
            first = method.predict(images(50)).logits
            second = method.predict(images(50)).logits
        assert torch.equal(first, second)
        assert torch.isfinite(first).all()
    assert same(state, method.state_dict())
    assert torch.equal(drawn, torch.random.get_rng_state())


@changed
def test_a_resumed_run_goes_on_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    method, _ = begun(name, options)
    for i in range(3):
        push(method, i)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    drawn = torch.random.get_rng_state()
    expected = [push(method, i) for i in range(3, 5)]
    file.seek(0)
    other, _ = begun(name, options, seed=7)
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.random.set_rng_state(drawn)
    found = [push(other, i) for i in range(3, 5)]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert same(method.state_dict(), other.state_dict())


@variants
def test_a_copy_of_the_method_is_its_own(name: str, options: dict[str, Any]) -> None:
    method, _ = begun(name, options)
    push(method, 0)
    twin, state = copy.deepcopy(method), copy.deepcopy(method.state_dict())
    drawn = torch.random.get_rng_state()
    theirs = push(twin, 1)
    assert same(state, method.state_dict())
    torch.random.set_rng_state(drawn)
    assert torch.equal(theirs, push(method, 1))


@variants
def test_batches_of_one_and_other_sizes(name: str, options: dict[str, Any]) -> None:
    method, _ = begun(name, options)
    for number, count in enumerate((1, 1, 5, 1)):
        answer = push(method, number, count)
        assert answer.shape == (count, K)
        assert torch.isfinite(answer).all()


@pytest.mark.parametrize("name", GRADIENT)
def test_it_learns_and_records(name: str) -> None:
    method, notes = begun(name, {**METHODS[name], "lr": 1e-2})
    before = copy.deepcopy(method.net.state_dict())
    for i in range(3):
        push(method, i)
    after = method.net.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert moved
    assert not any("running" in key for key in moved)
    assert {"loss/total", "gradient/before", "gradient/after"} <= set(notes.kept)
    if name == "aerial":
        assert notes.kept["gradient/after"][0] == pytest.approx(1.0, rel=1e-5)
    if name in {"shot-online", "conda", "ucl-gv", "aerial"}:
        assert not any("classifier" in key for key in moved)
    if name in {"tent", "eata", "sar"}:
        layers = {key.rpartition(".")[0] for key in moved}
        modules = dict(method.net.named_modules())
        assert all(isinstance(modules[key], nn.Module) for key in layers)
        assert all("BlendedNorm" in type(modules[key]).__name__ for key in layers)


@pytest.mark.parametrize(
    ("name", "options", "forward", "backward"),
    [
        ("source", {}, 1, 0),
        ("bn-adapt", {}, 1, 0),
        ("tent", {}, 1, 1),
        ("tent", {"steps": 3}, 3, 3),
        ("eata", {"limit": 1.0, "margin": 1.0}, 1, 1),
        ("sar", {"limit": 1.0}, 2, 2),
        ("cotta", {"views": 5, "confident": 1.0}, 7, 1),
        ("cotta", {"confident": 0.0}, 3, 1),
        ("shot-online", {}, 1, 1),
        ("conda", {"mixing": "none"}, 1, 1),
        ("conda", {}, 2, 1),
        ("ucl-gv", {}, 1, 1),
        ("aerial", {}, 2, 1),
        ("aerial", {"source_weight": 0.0}, 1, 1),
    ],
)
def test_every_image_that_passes_is_counted(
    name: str, options: dict[str, Any], forward: int, backward: int
) -> None:
    method, _ = begun(name, options)
    cost = method.access.cost
    start = (cost.forward, cost.backward)
    push(method, 0)  # the buffers are still empty
    assert cost.forward - start[0] == forward * BATCH
    assert cost.backward - start[1] == backward * BATCH


@pytest.mark.parametrize("name", ["eata", "sar"])
def test_without_a_reliable_sample_nothing_is_charged_as_backward(name: str) -> None:
    method, _ = begun(name, {"limit": 0.0})
    cost = method.access.cost
    start = (cost.forward, cost.backward)
    push(method, 0)
    assert (cost.forward - start[0], cost.backward - start[1]) == (BATCH, 0)
    with cost.pause():
        push(method, 1)
    assert (cost.forward - start[0], cost.backward - start[1]) == (BATCH, 0)


def test_sar_is_charged_for_the_ascent_that_leaves_nothing_reliable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method, _ = begun("sar", {"limit": 1.0})
    before = copy.deepcopy(method.net.state_dict())
    cost, high = method.access.cost, iter((0.0, 100.0))
    start = (cost.forward, cost.backward)
    raised = {"entropy": lambda logits: entropy(logits.softmax(1)) + next(high)}
    monkeypatch.setattr("dabench.methods.online.sar.UNCERTAINTY", raised)
    push(method, 0)
    assert (cost.forward - start[0], cost.backward - start[1]) == (2 * BATCH, BATCH)
    assert same(before, method.net.state_dict())


def test_stored_images_are_charged() -> None:
    method, _ = begun("ucl-gv", {"per_class": 2})
    push(method, 0)
    stored, before = len(method.buffer), method.access.cost.forward
    push(method, 1)
    assert stored > 0
    assert method.access.cost.forward - before == BATCH + stored


def test_before_means_before() -> None:
    """The first answer of methods without another normalisation is the BatchNorm answer."""
    expected = push(begun("bn-adapt", {})[0], 0)
    for name, options in GRADIENT.items():
        if name == "cotta":
            options = {"confident": 0.0}
        if name == "aerial":  # else the source model has a say
            options = {"source_weight": 0.0}
        torch.testing.assert_close(push(begun(name, options)[0], 0), expected, rtol=1e-4, atol=1e-5)


@variants
def test_a_step_answers_as_predict_would_have(name: str, options: dict[str, Any]) -> None:
    """Before the update, and whatever the buffer holds: stored images do not touch the answer."""
    if name == "cotta":
        options = {**options, "confident": 0.0}
    method, _ = begun(name, options)
    for i in range(4):
        with torch.no_grad():
            expected = method.predict(images(i)).logits
        torch.testing.assert_close(push(method, i), expected, rtol=1e-4, atol=1e-5)


def test_tent_by_hand() -> None:
    """Against a plain loop over a network in train mode."""
    method, _ = begun("tent", {})
    net = network().train()
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    net.requires_grad_(False)
    weights = [p.requires_grad_(True) for m in norms for p in m.parameters()]
    adam = torch.optim.Adam(weights, lr=1e-3)
    for i in range(3):
        logits = net(images(i))
        p = logits.softmax(1)
        torch.testing.assert_close(push(method, i), logits.detach(), rtol=1e-4, atol=1e-5)
        adam.zero_grad()
        loss = -(p * p.log()).sum(1).mean()
        torch.autograd.backward(loss)
        adam.step()


def test_eata_without_its_extra() -> None:
    task = Task("classification", tuple("abcd"), SIDE)
    with pytest.raises(AccessError, match="fisher-images"):
        registry.method("eata")().begin(Online(task, network(), BATCH, 0, Recorder()))


def test_eata_does_not_keep_the_fisher_images() -> None:
    fisher = images(99, 24)
    alive = weakref.ref(fisher)
    task = Task("classification", tuple("abcd"), SIDE)
    method = registry.method("eata")()
    method.begin(Online(task, network(), BATCH, 0, Recorder(), {"fisher-images": fisher}))
    assert method.fisher.any()
    del fisher
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("name", "options", "extras"),
    [
        ("conda", {}, {"buffer"}),
        ("aerial", {}, {"buffer"}),
        ("ucl-gv", {}, {"buffer"}),
        ("tent", {"per_class": 2}, {"buffer"}),
        ("tent", {}, set()),
        ("shot-online", {}, set()),
        ("eata", {}, {"fisher-images"}),
    ],
)
def test_storing_images_is_an_extra(name: str, options: dict[str, Any], extras: set[str]) -> None:
    method = registry.method(name)(**options)
    assert method.extras == extras
    assert not registry.method("tent").extras  # an instance's own, not the class's


def test_eata_keeps_unreliable_batches_out() -> None:
    method, _ = begun("eata", {"limit": 0.0})
    state = copy.deepcopy(method.state_dict())
    push(method, 0)
    assert same(state, method.state_dict())


def test_eatas_penalty_holds_the_weights_back() -> None:
    far = []
    for weight in (0.0, 1e6):
        options = {"limit": 1.0, "margin": 1.0, "lr": 1e-3, "fisher_weight": weight}
        method, _ = begun("eata", {**options, "grad_norm": "clip"})
        for i in range(8):
            push(method, i)
        shift = nn.utils.parameters_to_vector(method.trained) - method.start
        fisher = begun("eata", {})[0].fisher
        far.append(float((fisher * shift.detach().square()).sum()))
    assert far[1] < far[0]


def test_sar_resets_where_the_average_loss_falls_below() -> None:
    """The first loss is the average; then it keeps .9 of itself, which is not .1."""
    method, _ = begun("sar", {})
    method.reset_limit = 0.5
    for loss, average in ((1.0, 1.0), (0.2, 0.92), (0.2, 0.848), (0.0, 0.7632)):
        method._watch(torch.tensor(loss))
        assert float(method.average) == pytest.approx(average, abs=1e-6)
        assert int(method.resets) == 0
    method.reset_limit = 0.7
    method._watch(torch.tensor(0.0))
    assert int(method.resets) == 1
    assert math.isnan(float(method.average))


def test_sar_resets_to_the_source() -> None:
    method, notes = begun("sar", {"limit": 1.0, "lr": 1e-2, "reset_below": 0.0})
    start = copy.deepcopy(method.net.state_dict())
    for i in range(3):
        push(method, i)
    assert not same(start, method.net.state_dict())
    assert "sar/resets" not in notes.kept
    method.reset_limit = 100.0
    push(method, 3)
    assert same(start, method.net.state_dict())
    push(method, 4)
    assert notes.kept["sar/resets"] == [1.0, 2.0]
    assert int(method.state_dict()["resets"]) == 2
    assert not method.update.optimiser.state
    assert math.isnan(float(method.average))


def test_sars_threshold_is_a_share_of_log_k() -> None:
    method, _ = begun("sar", {"reset_below": 0.5})
    assert method.reset_limit == pytest.approx(0.5 * math.log(K))
    published = registry.method("sar")().reset_below * math.log(1000)
    assert published == pytest.approx(0.2, abs=1e-3)


def test_sar_leaves_the_top_alone() -> None:
    net = network()
    kept = below_top(net)
    layers = [m for m in net.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert kept == layers[:2]  # of three blocks the last is the top, and so is the bottleneck
    resnet = build_classifier("resnet18", "none", K)
    names = {id(m): n for n, m in resnet.named_modules()}
    chosen = [names[id(m)] for m in below_top(resnet)]
    assert "backbone.bn1" in chosen
    assert any("layer3" in n for n in chosen)
    assert not any("layer4" in n or "bottleneck" in n for n in chosen)
    vit = build_classifier("vit_tiny_patch16_224", "none", K)
    names = {id(m): n for n, m in vit.named_modules()}
    blocks = {int(names[id(m)].split(".")[2]) for m in below_top(vit)}
    assert blocks == set(range(9))
    opaque = ClassifierNetwork(
        nn.Sequential(*(nn.BatchNorm2d(3) for _ in range(8))), 3, K, bottleneck=0
    )
    assert below_top(opaque) == list(opaque.backbone)[:6]
    # a stem, and the whole trunk as one stage, as torchvision's regnets have theirs
    trunk = nn.Sequential(*(nn.Sequential(nn.BatchNorm2d(3)) for _ in range(7)))
    one = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3)), trunk)
    layers = [m for m in one.modules() if isinstance(m, nn.BatchNorm2d)]
    assert below_top(ClassifierNetwork(one, 3, K, bottleneck=0)) == layers[:6]


def test_the_top_of_a_frozen_trunk() -> None:
    net = network()
    net.freeze_trunk(2)  # one stage is left: the last block's layer, and the bottleneck's
    last = [m for m in net.backbone.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    assert below_top(net) == [last]


def test_cotta_restores_everything_with_certainty() -> None:
    method, _ = begun("cotta", {"views": 2, "restore": 1.0})
    start = copy.deepcopy(method.net.state_dict())
    push(method, 0)
    assert same(start, method.net.state_dict())


def test_cottas_symmetric_loss_is_the_mean_of_both_directions() -> None:
    logits, answer = torch.randn(5, K, requires_grad=True), torch.randn(5, K)
    method, _ = begun("cotta", {"loss": "symmetric"})
    p, q = logits.softmax(1), answer.softmax(1)
    expected = -((q * p.log() + p * q.log()).sum(1) / 2).mean()
    torch.testing.assert_close(method._loss(logits, answer), expected)
    assert method._loss(logits, answer).requires_grad


def test_cottas_views_shift_by_an_eighth() -> None:
    torch.manual_seed(0)
    images = torch.zeros(400, 3, 32, 32)
    images[:, :, 16, 16] = 1.0
    views = augment(images, flip=False).mean(1).flatten(1)
    places = views.argmax(1)
    shifts = torch.stack((places // 32 - 16, places % 32 - 16)).abs()
    assert 3 <= int(shifts.max()) <= 5  # 4, and what a rotation about the middle adds


def normless() -> Network:
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return ClassifierNetwork(backbone, 8, K, bottleneck=0)


def layer_normed() -> Network:
    backbone = nn.Sequential(*normless().backbone, nn.LayerNorm(8))
    return ClassifierNetwork(backbone, 8, K, bottleneck=0)


@pytest.mark.parametrize("name", ["bn-adapt", "tent", "eata", "sar"])
def test_networks_without_normalisation_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="BatchNorm"):
        begun(name, METHODS[name], normless())


@pytest.mark.parametrize("name", GRADIENT)
def test_networks_with_layer_norm(name: str) -> None:
    method, _ = begun(name, METHODS[name], layer_normed())
    before = copy.deepcopy(method.net.state_dict())
    answer = torch.cat([push(method, i) for i in range(2)])
    assert torch.isfinite(answer).all()
    assert not same(before, method.net.state_dict())


def test_bn_adapt_refuses_layer_norm() -> None:
    with pytest.raises(ConfigError, match="tent"):
        begun("bn-adapt", {}, layer_normed())


@pytest.mark.parametrize("name", GRADIENT)
def test_a_frozen_trunk_stays(name: str) -> None:
    net = network()
    net.freeze_trunk(1)
    frozen = [p for p in net.parameters() if not p.requires_grad]
    before = [p.detach().clone() for p in frozen]
    method, _ = begun(name, METHODS[name], net)
    for i in range(2):
        push(method, i)
    assert all(torch.equal(p, q) for p, q in zip(frozen, before, strict=True))


def test_aerial_stores_what_it_answered_when_an_image_came() -> None:
    method, _ = begun("aerial", {"per_class": 2, "replay": 3, "source_weight": 0.0})
    answers = [push(method, i).softmax(1) for i in range(2)]
    buffer = method.buffer
    places = buffer.stored_places()
    assert 3 < len(places) <= 2 * K
    for picture, kept in zip(buffer.images(places), buffer.answers[places], strict=True):
        apart = [(images(i) - picture).flatten(1).abs().sum(1) for i in range(2)]
        which = min((0, 1), key=lambda i: float(apart[i].min()))
        torch.testing.assert_close(kept, answers[which][int(apart[which].argmin())])
    cost = method.access.cost
    start = (cost.forward, cost.backward)
    push(method, 2)
    assert (cost.forward - start[0], cost.backward - start[1]) == (BATCH + 3, BATCH + 3)


def test_aerial_rehearses_by_the_cross_entropy_with_stored_answers() -> None:
    alone = {"pseudo_weight": 0.0, "im_weight": 0.0, "replay_weight": 2.0, "turn": False}
    method, notes = begun("aerial", {"per_class": 3, **alone})
    push(method, 0)  # the buffer is empty: nothing to learn
    buffer = method.buffer
    places = buffer.stored_places()
    with torch.no_grad():
        logits = method.net(buffer.images(places))
    expected = -2 * (buffer.answers[places] * logits.log_softmax(1)).sum(1).mean()
    method.update.steps = 0  # every tenth loss is recorded
    push(method, 1)
    assert notes.kept["loss/total"] == [0.0, pytest.approx(float(expected), rel=1e-5)]


def test_the_source_model_has_a_say_in_aerials_answers() -> None:
    plain, _ = begun("aerial", {"per_class": 3, "source_weight": 0.0})
    method, _ = begun("aerial", {"per_class": 3, "source_weight": 0.5})
    source, _ = begun("bn-adapt", {})
    for i in range(3):
        own, both = (push_seeded(i, each) for each in (plain, method))
        torch.testing.assert_close(both, own + 0.5 * source.predict(images(i)).logits)
    own, both = (each.predict(images(7)).logits for each in (plain, method))
    torch.testing.assert_close(both, own + 0.5 * source.predict(images(7)).logits)
    assert not torch.equal(own, source.predict(images(7)).logits)


def push_seeded(number: int, method: OnlineMethod) -> Tensor:
    torch.manual_seed(number)
    return push(method, number)


def test_turned_images_take_all_eight_poses() -> None:
    square = torch.arange(12.0).view(1, 3, 2, 2)
    torch.manual_seed(0)
    poses = {tuple(turned(square).flatten().tolist()) for _ in range(100)}
    assert len(poses) == 8
    assert all(sorted(pose[:4]) == [0, 1, 2, 3] for pose in poses)
