"""Online methods on dense tasks: one image at a time, a class for every pixel."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dabench import registry
from dabench.contract.access import Online, Recorder, TargetBatch
from dabench.contract.method import OnlineMethod
from dabench.contract.network import Network
from dabench.contract.types import IGNORE, Task
from dabench.errors import AccessError, ConfigError
from dabench.methods.functional.losses import entropy, max_squares
from dabench.methods.functional.multi_scale import answer_at_scale, scaled_views
from dabench.methods.functional.normalisation import adapt_normalisation
from dabench.networks.dense import build_segmenter, upsample
from dabench.networks.network import ClassifierNetwork
from dabench.views.photometric import Photometric
from dabench.views.warps import Warp

K, SHAPE = 4, (32, 48)
TASK = Task("segmentation", tuple("abcd"), SHAPE[0], width=SHAPE[1])
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("source", {}),
    ("bn-adapt", {"rho": 0.3}),
    ("tent", {}),
    ("max-squares", {"rho": 0.5, "grad_norm": "unit-global"}),
    ("cotta", {"views": 3, "confident": 1.0}),
    ("eata", {"lr": 1e-2, "limit": 1.0, "margin": 1.0}),
    ("rdumb", {"lr": 1e-2, "limit": 1.0, "margin": 1.0, "reset_every": 2}),
    ("roid", {}),
    ("cmf", {"noise": 5.0}),
    ("diga", {"confident": 0.25}),
    ("memo", {"views": 3}),
    ("tta-aug", {"pairs": 2}),
    ("transadapt", {"lr": 1e-2}),
    ("transadapt", {"steps": 0}),
    ("transadapt", {"by_shift": False, "anchored": False, "rho": 0.6, "lr": 1e-2}),
    ("transadapt", {"steps": 2, "episodic": True, "adapt": "all", "lr": 1e-2}),
    ("transadapt", {"module": False, "unsup_output": "same", "adapt": "norms", "rho": 1.0}),
    ("transadapt", {"targets": "hard", "threshold": 0.3, "unsup_loss": "max-squares"}),
    ("transadapt", {"unsup_weight": 0.0, "equivariance_weight": 0.0, "grad_norm": "clip"}),
]
IDS = ["-".join((name, *(f"{k}={v}" for k, v in options.items()))) for name, options in VARIANTS]
variants = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)


class Notes(Recorder):
    def __init__(self) -> None:
        self.kept: dict[str, list[Any]] = {}

    def put(self, name: str, step: int, value: Any) -> None:
        self.kept.setdefault(name, []).append(value)


def network(seed: int = 0) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build_segmenter("small-seg", "none", K).eval()
        for module in net.modules():  # statistics that differ from the stream's
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(std=0.1)
        with torch.no_grad():
            net.classifier.weight.mul_(5)
    return net


def images(seed: int, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    out = torch.rand(count, 3, *SHAPE, generator=generator) * 0.3
    for i in range(count):
        column = 8 * ((seed + i) % 4)
        out[i, (seed + i) % 3, 8:24, column : column + 14] += 0.6
    return out.mul(255).round().div(255)


def parts_of(name: str, options: dict[str, Any], net: Network) -> nn.Module:
    """Return source parts that do something: drawn, not trained."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        parts = registry.method(name)(**options).source_parts(net, TASK)
        nn.init.normal_(parts.module.predict.weight, std=0.05)
        parts.usual.fill_(1.0)  # of these layers some are out of the usual, and none wholly
        if parts.head is not None:
            with torch.no_grad():
                parts.head.weight.add_(0.3 * torch.randn_like(parts.head.weight))
    return parts.eval()


def begun(
    name: str,
    options: dict[str, Any],
    net: Network | None = None,
    seed: int = 0,
    parts: nn.Module | None = None,
    task: Task = TASK,
) -> tuple[OnlineMethod, Notes]:
    torch.manual_seed(seed)
    notes, net = Notes(), net or network()
    method: OnlineMethod = registry.method(name)(**options)
    extras: dict[str, Any] = {}
    if "fisher-images" in method.extras:
        extras["fisher-images"] = images(90, 2)
    if "source-parts" in method.extras:
        extras["source-parts"] = parts or parts_of(name, options, net)
    method.begin(Online(task, net, 1, seed, notes, extras))
    return method, notes


def push(method: OnlineMethod, number: int, count: int = 1) -> Tensor:
    return method.step(TargetBatch(images(number, count), torch.arange(number, number + count)))


def flattened(state: Any, path: str = "") -> dict[str, Any]:
    if isinstance(state, dict):
        pairs: Any = state.items()
    elif isinstance(state, list | tuple):
        pairs = enumerate(state)
    else:
        return {path: state}
    return {k: v for key, part in pairs for k, v in flattened(part, f"{path}/{key}").items()}


def same(a: Any, b: Any) -> bool:
    one, other = flattened(a), flattened(b)
    return one.keys() == other.keys() and all(
        torch.equal(v, other[k]) if isinstance(v, Tensor) else v == other[k] for k, v in one.items()
    )


# -- what every method owes ---------------------------------------------------------------------


@variants
def test_answers_are_dense_finite_and_repeat(name: str, options: dict[str, Any]) -> None:
    answers = []
    for _ in range(2):
        method, _ = begun(name, options)
        answers.append([push(method, 0), push(method, 1), push(method, 2, count=2)])
    for one, other in zip(*answers, strict=True):
        assert one.shape[1:] == (K, *SHAPE)
        assert not one.requires_grad
        assert torch.isfinite(one).all()
        assert torch.equal(one, other)


@variants
def test_methods_without_state_say_so(name: str, options: dict[str, Any]) -> None:
    method, _ = begun(name, options)
    with torch.no_grad():
        before = method.predict(images(50)).logits
    push(method, 0)
    with torch.no_grad():
        after = method.predict(images(50)).logits
    moves = method.trains and not options.get("episodic")
    assert torch.equal(before, after) == (not moves)


@variants
def test_predict_changes_nothing(name: str, options: dict[str, Any]) -> None:
    method, _ = begun(name, options)
    push(method, 0)
    state, drawn = copy.deepcopy(method.state_dict()), torch.random.get_rng_state()
    with torch.no_grad():
        first, second = (method.predict(images(50)).logits for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (1, K, *SHAPE)
    assert same(state, method.state_dict())
    assert torch.equal(drawn, torch.random.get_rng_state())


@variants
def test_a_resumed_run_goes_on_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    method, _ = begun(name, options)
    for i in range(2):
        push(method, i)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    drawn = torch.random.get_rng_state()
    expected = [push(method, i) for i in range(2, 4)]
    file.seek(0)
    other, _ = begun(name, options, seed=7)
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.random.set_rng_state(drawn)
    found = [push(other, i) for i in range(2, 4)]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert same(method.state_dict(), other.state_dict())


@variants
def test_a_step_and_predict_agree(name: str, options: dict[str, Any]) -> None:
    """``predict`` before the step where that answers before its update, behind it otherwise."""
    if name == "cotta":
        options = {**options, "confident": 0.0}
    method, _ = begun(name, options)
    push(method, 0)
    before = method.predict(images(1)).logits.detach()
    found = push(method, 1)
    after = method.predict(images(1)).logits.detach()
    if options.get("episodic"):
        torch.testing.assert_close(after, before)
        assert not torch.equal(found, before)
        return
    expected = after if method.answers == "after" else before
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "forward", "backward"),
    [
        ("tent", {}, 1, 1),
        ("max-squares", {}, 1, 1),
        ("cotta", {"views": 5, "confident": 1.0}, 7, 1),
        ("cotta", {"confident": 1.0}, 16, 1),
        ("eata", {"limit": 1.0, "margin": 1.0}, 1, 1),
        ("eata", {"limit": 0.0}, 1, 0),
        ("roid", {}, 2, 2),
        ("diga", {}, 1, 0),
        ("memo", {"views": 3}, 4, 3),
        ("tta-aug", {}, 7, 0),
        ("transadapt", {}, 6, 3),
        ("transadapt", {"anchored": False}, 5, 3),
        ("transadapt", {"steps": 2}, 10, 6),
        ("transadapt", {"steps": 0}, 2, 0),
        ("transadapt", {"unsup_weight": 0.0}, 5, 2),
        ("transadapt", {"invariance_weight": 0.0, "equivariance_weight": 0.0}, 4, 1),
    ],
)
def test_every_image_that_passes_is_counted(
    name: str, options: dict[str, Any], forward: int, backward: int
) -> None:
    method, _ = begun(name, options)
    cost = method.access.cost
    start = (cost.forward, cost.backward)
    push(method, 0)
    assert (cost.forward - start[0], cost.backward - start[1]) == (forward, backward)


def test_both_kinds_come_from_one_class() -> None:
    both = ("source", "bn-adapt", "tent", "cotta", "max-squares", "eata", "eta", "rdumb", "roid")
    for name in (*both, "cmf", "memo"):
        assert registry.method(name).kinds == {"classification", "segmentation"}
    for name in ("transadapt", "tta-aug", "diga"):
        assert registry.method(name).kinds == {"segmentation"}


# -- tent, max-squares, cotta, tta-aug ----------------------------------------------------------


@pytest.mark.parametrize(("name", "loss"), [("tent", entropy), ("max-squares", max_squares)])
def test_the_losses_by_hand(name: str, loss: Any) -> None:
    """Against a plain loop over a network in train mode."""
    options = {"optimiser": "sgd", "lr": 0.1, "momentum": 0.0}
    method, _ = begun(name, options)
    net = network().train()
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    net.requires_grad_(False)
    weights = [p.requires_grad_(True) for m in norms for p in m.parameters()]
    for i in range(2):
        logits = net(images(i))
        torch.testing.assert_close(push(method, i), logits.detach(), rtol=1e-4, atol=1e-5)
        gradients = torch.autograd.grad(loss(logits.softmax(1)).mean(), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 0.1 * gradient


def test_tent_stores_no_segmented_images() -> None:
    with pytest.raises(ConfigError, match="per_class"):
        begun("tent", {"per_class": 2})


def test_cottas_views_are_undone() -> None:
    """The first answer is the mean over scales and mirror images, in the image's frame."""
    method, _ = begun("cotta", {"views": 6, "confident": 1.0})
    net = network()
    adapt_normalisation(net)
    with torch.no_grad():
        answers = [answer_at_scale(net, images(0), *view) for view in scaled_views(6, flip=True)]
    torch.testing.assert_close(push(method, 0), torch.stack(answers).mean(0))


def test_tta_aug_by_hand() -> None:
    method, _ = begun("tta-aug", {"pairs": 2, "rho": 0.2}, seed=3)
    net, x = network(), images(0)
    adapt_normalisation(net, 0.2)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        answers, shown = [net(x).softmax(1)], [torch.ones(1, *SHAPE)]
        for _ in range(2):
            answers.append(net(Photometric.draw(1, generator=draw).apply(x)).softmax(1))
            warp = Warp.draw(1, flip=True, generator=draw)
            answers.append(warp.inverse().apply(net(warp.apply(x)).softmax(1)))
            shown += [torch.ones(1, *SHAPE), warp.inverse().valid(SHAPE).float()]
    weight = torch.stack(shown)[:, :, None]
    assert float(weight.min()) == 0  # some view does not show some pixel
    mean = (torch.stack(answers) * weight).sum(0) / weight.sum(0)
    found = push(method, 0).softmax(1)
    torch.testing.assert_close(found, mean, rtol=1e-4, atol=1e-6)


# -- transadapt ---------------------------------------------------------------------------------


def identity_parts(net: Network, **options: Any) -> nn.Module:
    parts: nn.Module = registry.method("transadapt")(**options).source_parts(net, TASK)
    return parts


def test_the_identity_reproduces_the_unsupervised_output_bit_for_bit() -> None:
    net = network()
    parts = identity_parts(net)
    with torch.no_grad():
        parts.head.weight.add_(0.1)
    method, _ = begun("transadapt", {"steps": 0, "rho": 0.0}, net, parts=parts)
    other = network()
    other.classifier = copy.deepcopy(parts.head)
    with torch.no_grad():
        assert torch.equal(push(method, 0), other(images(0)))


def test_a_module_that_was_not_trained_is_no_module() -> None:
    """Also while the network learns: W_o = 0 gives T = I for whatever features."""
    answers = []
    for module in (True, False):
        options = {"lr": 1e-2, "module": module}
        method, _ = begun("transadapt", options, parts=identity_parts(network(), **options))
        answers.append([push(method, i) for i in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


def test_the_same_output_without_module_is_the_source_model() -> None:
    options = {"module": False, "unsup_output": "same", "steps": 0, "rho": 0.0, "by_shift": False}
    method, _ = begun("transadapt", options)
    assert not method.extras
    assert registry.method("transadapt").extras == {"source-parts"}  # an instance's own
    with torch.no_grad():
        assert torch.equal(push(method, 0), network()(images(0)))


class Symmetric(nn.Module):
    """3 x 3 convolutions that do not tell left from right."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight + self.weight.flip(-1), padding=1)


def equivariant() -> Network:
    torch.manual_seed(0)
    net = ClassifierNetwork(nn.Identity(), 8, K, bottleneck=0, weight_norm=False)
    net.backbone = nn.Sequential(Symmetric(3, 8), nn.BatchNorm2d(8), nn.ReLU(), Symmetric(8, 8))
    net.classifier = nn.Conv2d(8, K, 1)
    return net.double().eval()


def test_an_equivariant_network_has_no_equivariance_loss_under_a_flip() -> None:
    options = {"module": False, "unsup_output": "same"}
    flip, x = Warp(torch.tensor([True])), images(0).double()
    found = []
    for net in (equivariant(), network().double()):
        method: Any = begun("transadapt", options, net)[0]
        target = method.head_logits(x).softmax(1)
        found.append(method.equivariance(x, target, flip).item())
    assert abs(found[0]) < 1e-10
    assert found[1] > 1e-4


def test_an_image_is_equivariant_to_no_warp_at_all() -> None:
    method: Any = begun("transadapt", {})[0]
    still = Warp(torch.tensor([False]))
    target = method.head_logits(images(0)).softmax(1)
    assert abs(method.equivariance(images(0), target, still).item()) < 1e-6


def test_out_of_frame_pixels_of_the_target_carry_no_loss() -> None:
    """What the warp does not bring into its frame may be anything."""
    method: Any = begun("transadapt", {})[0]
    zoom = Warp(torch.tensor([False]), torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]]))
    target = method.head_logits(images(0)).softmax(1).detach()
    other = target.clone()
    other[..., :1, :] = torch.eye(K)[1].view(K, 1, 1)  # the upper row leaves the frame
    one, two = (method.equivariance(images(0), t, zoom) for t in (target, other))
    assert torch.equal(one, two)
    out = Warp(torch.tensor([False]), torch.tensor([[[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]]))
    assert not out.valid(SHAPE)[0, :6].any()  # the border is repeated there, and not counted


def test_one_update_by_hand() -> None:
    options = {"lr": 0.05, "unsup_weight": 0.3, "rho": 0.2, "invariance_weight": 2.0}
    options |= {"by_shift": False}
    parts = parts_of("transadapt", options, network())
    method, notes = begun("transadapt", options, parts=parts)
    net, x = network(), images(0)
    net.classifier = copy.deepcopy(parts.head)
    adapt_normalisation(net, 0.2)
    net.requires_grad_(False)
    chosen = [p for n, p in net.named_parameters() if "norm" in n or n.startswith("classifier")]
    layers = [m for m in net.modules() if type(m).__name__ == "BlendedNorm"]
    chosen = [p for m in (*layers, net.classifier) for p in m.parameters(recurse=False)]
    for p in chosen:
        p.requires_grad_(True)
    torch.manual_seed(11)
    found = push(method, 0)
    torch.manual_seed(11)
    view = Photometric.draw(1).apply(x)
    warp = Warp.draw(1, flip=True)

    def answer(images: Tensor) -> Tensor:
        return net.classifier(net.features(images))

    p = answer(x).softmax(1)
    t, valid = p.detach(), warp.valid((SHAPE[0] // 4, SHAPE[1] // 4))
    loss = 0.3 * -(p * p.log()).sum(1).mean()
    loss = loss + 2.0 * -(t * answer(view).log_softmax(1)).sum(1).mean()
    g = answer(warp.apply(x)).log_softmax(1)
    loss = loss - (warp.apply(t) * g).sum(1)[valid].mean()
    gradients = torch.autograd.grad(loss, chosen)
    with torch.no_grad():
        for weight, gradient in zip(chosen, gradients, strict=True):
            weight -= 0.05 * gradient
        features = net.features(x)
        mixed = torch.einsum("bij,bjhw->bihw", parts.module(features), net.classifier(features))
        expected = upsample(mixed, SHAPE)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert {"loss/unsupervised", "loss/invariance", "loss/equivariance"} <= set(notes.kept)


@pytest.mark.parametrize("adapt", ["norms", "norms+head", "all"])
def test_what_learns_on_the_stream(adapt: str) -> None:
    method, _ = begun("transadapt", {"adapt": adapt, "lr": 1e-2})
    before = copy.deepcopy(method.state_dict())
    for i in range(2):
        push(method, i)
    after = method.state_dict()
    changed = {k for k, v in before.items() if isinstance(v, Tensor) and not v.equal(after[k])}
    assert not any(k.startswith("transfer.") or "running" in k for k in changed)
    assert any(k.startswith("transfer.") for k in before)
    heads = {k for k in changed if k.startswith("net.classifier")}
    others = {k for k in changed - heads if before[k].ndim > 1}  # weights of convolutions
    assert bool(heads) == (adapt != "norms")
    assert bool(others) == (adapt == "all")
    assert changed - heads


def test_the_module_takes_no_gradient() -> None:
    method: Any = begun("transadapt", {"adapt": "all"})[0]
    push(method, 0)
    assert not any(p.requires_grad or p.grad is not None for p in method.transfer.parameters())
    held = {id(p) for p in method.update.held}
    assert not held & {id(p) for p in method.transfer.parameters()}


def test_episodes_return_to_the_start() -> None:
    options = {"episodic": True, "lr": 1e-2, "steps": 2}
    method, _ = begun("transadapt", options)
    start = copy.deepcopy(method.net.state_dict())
    torch.manual_seed(1)
    first = push(method, 0)
    assert same(start, method.net.state_dict())
    push(method, 1)
    torch.manual_seed(1)
    assert torch.equal(first, push(method, 0))
    plain, _ = begun("transadapt", {**options, "episodic": False})
    push(plain, 0)
    assert not same(start, plain.net.state_dict())


def test_the_grant_is_not_touched() -> None:
    net = network()
    parts = parts_of("transadapt", {}, net)
    before = copy.deepcopy(parts.state_dict())
    method, _ = begun("transadapt", {"lr": 0.1}, net, parts=parts)
    for i in range(2):
        push(method, i)
    assert same(before, parts.state_dict())
    assert all(p.requires_grad for p in parts.parameters())


def test_views_learn_the_answer_of_the_source_weights() -> None:
    """Twice the same image: an anchored target stays, the network's own one moves with it."""
    found: dict[bool, Tensor] = {}
    for anchored in (True, False):
        options = {"anchored": anchored, "lr": 0.5, "unsup_weight": 0.0}
        method: Any = begun("transadapt", options)[0]
        targets: list[Tensor] = []
        method.invariance = lambda images, target, kept=targets: (
            kept.append(target) or type(method).invariance(method, images, target)  # noqa: B023
        )
        before = copy.deepcopy(method.net.state_dict())
        push(method, 0)
        push(method, 0)
        assert not same(before, method.net.state_dict())
        found[anchored] = torch.stack(targets)
    assert torch.equal(found[True][0], found[True][1])
    assert torch.equal(found[True][0], found[False][0])
    assert not torch.allclose(found[False][0], found[False][1])


def test_transadapt_without_its_extra() -> None:
    with pytest.raises(AccessError, match="source-parts"):
        registry.method("transadapt")().begin(Online(TASK, network(), 1, 0, Recorder()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 30, "heads": 4}, "multiple"),
        (dict.fromkeys(("unsup_weight", "invariance_weight", "equivariance_weight"), 0), "steps 0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.method("transadapt")(**options)


@pytest.mark.parametrize("output", ["head", "same"])
def test_source_training(output: str) -> None:
    """The head moves without labels, the module with them, the network not at all."""
    options = {"unsup_output": output, "head_steps": 4, "module_steps": 4, "module_lr": 0.01}
    method = registry.method("transadapt")(**options)
    net = network()
    before = copy.deepcopy(net.state_dict())
    parts = method.source_parts(net, TASK)
    assert (parts.head is not None) == (output == "head")
    start = copy.deepcopy(parts.state_dict())

    def batches(shift: int) -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(99):
            x = images(i, 2)
            masks = (x.argmax(1) + shift).to(torch.uint8)
            masks[:, :3] = IGNORE
            yield x, masks

    method.train_source_parts(parts, net, batches(0))
    assert same(before, net.state_dict())
    assert all(p.grad is None for p in net.parameters())
    assert parts.module.predict.weight.any()
    assert (parts.usual > 0).all()
    other = method.source_parts(net, TASK)
    other.load_state_dict(start)
    method.train_source_parts(other, net, batches(1))
    assert not torch.equal(other.module.predict.weight, parts.module.predict.weight)
    if output == "head":
        assert not torch.equal(parts.head.weight, start["head.weight"])
        assert torch.equal(other.head.weight, parts.head.weight)  # labels do not reach it


def test_what_decides_the_source_parts_is_an_option() -> None:
    from dabench.config.signature import signature_options

    cls = registry.method("transadapt")
    assert cls.source_options <= {option.name for option in signature_options(cls)}
    assert cls.reconstruction


# -- the upper bound -------------------------------------------------------------------


def test_the_upper_bound_learns_a_frames_labels_by_the_frames_statistics() -> None:
    net = network()
    before = copy.deepcopy(net)
    method = registry.method("target-supervised")(lr=0.05, backbone_factor=1.0)
    method.begin(Online(TASK, net, 1, 0, Recorder()))
    images = torch.rand(1, 3, *SHAPE)
    masks = torch.randint(K, (1, *SHAPE), dtype=torch.uint8)
    adapt_normalisation(before, 1.0)
    method.reveal(torch.full_like(masks, IGNORE).numpy())
    silent = method.step(TargetBatch(images, torch.tensor([0])))
    assert torch.allclose(silent, before(images), atol=1e-5)
    assert torch.equal(method.predict(images).logits, silent)  # nothing was learned
    losses = []
    masks[:, :4] = IGNORE
    for _ in range(8):
        method.reveal(masks.numpy())
        logits = method.step(TargetBatch(images, torch.tensor([0])))
        losses.append(float(nn.functional.cross_entropy(logits[:, :, 4:], masks[:, 4:].long())))
    assert losses[-1] < losses[0] - 0.05
    assert all(torch.equal(a, b) for a, b in zip(before.buffers(), net.buffers(), strict=True))
