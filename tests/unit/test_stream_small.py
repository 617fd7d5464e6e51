"""What every method of test-time adaptation owes, on a network so small that a step costs nothing.

The promises of tests/contract say it of real streams; here it is said of single steps.
"""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dabench import registry
from dabench.contract.access import Online, Recorder, TargetBatch
from dabench.contract.cost import Cost
from dabench.contract.statistics import SourceStatistics
from dabench.contract.types import Task
from dabench.errors import ConfigError
from dabench.networks.network import ClassifierNetwork

K, SIDE, BATCH = 5, 8, 6
NORMS: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("pl", "rpl", "roid", "cmf")},
    **{name: {"limit": 1.0, "margin": 1.0} for name in ("eta", "rdumb")},
    "deyo": {"limit": 1.0, "drop": 0.0},
}
MEMORY: dict[str, dict[str, Any]] = {"rotta": {"every": 4}, "petta": {}}
NORMS |= {"santa": {}, **MEMORY}
MOVING: dict[str, dict[str, Any]] = {"bn-ema": {}, "dua": {"views": 2}}
STILL: dict[str, dict[str, Any]] = {"lame": {}, "t3a": {"per_class": 2}, "cofa": {}}
STILL |= {"foa-shift": {}}
EPISODIC: dict[str, dict[str, Any]] = {"memo": {"views": 2}}
#: all weights learn
WHOLE: dict[str, dict[str, Any]] = {
    "adacontrast-online": {"queue": 20, "warm_up": 6, "neighbours": 3},
    "rmt": {"projection": 4},
}
#: images between two steps of note: every batch of the usual size ends in one
CONVERTED: dict[str, dict[str, Any]] = {"note": {"memory": 5, "every": BATCH}}
TRANSFORMER: dict[str, dict[str, Any]] = {"rem": {}}
VARIANTS = [
    *(NORMS | MOVING | STILL | EPISODIC | WHOLE | CONVERTED | TRANSFORMER).items(),
    ("rmt", {"projection": 0, "optimiser": "sgd", "grad_norm": "unit-per-layer"}),
    ("rem", {"passes": 4, "share": 0.3}),
    ("petta", {"loss": "ce"}),
    ("t3a", {"per_class": 0}),
    ("tent", {"loss": "come"}),
    ("sar", {"loss": "come", "limit": 1.0}),
    ("cmf", {"noise": 50.0}),
    ("rdumb", {"limit": 1.0, "margin": 1.0, "reset_every": 2}),
]
variants = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda v: str(v)[:40])


class Notes(Recorder):
    """A recorder that remembers names."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def put(self, name: str, step: int, value: Any) -> None:
        self.names.add(name)


def network(*norms: nn.Module) -> ClassifierNetwork:
    """Return a network with these normalisation layers, one behind each convolution."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convs = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2)]
        pairs = zip(convs, norms or (nn.Identity(), nn.Identity()), strict=True)
        layers = [m for conv, norm in pairs for m in (conv, norm, nn.ReLU())]
        backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        net = ClassifierNetwork(backbone, 8, K, bottleneck=0, weight_norm=False).eval()
    net.classifier.weight.data *= 4
    return net


def batch_normed() -> ClassifierNetwork:
    return network(nn.BatchNorm2d(8), nn.BatchNorm2d(8))


def transformer() -> ClassifierNetwork:
    """Return a vision transformer of 16 patches and four blocks."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"img_size": SIDE, "patch_size": 2, "embed_dim": 8, "depth": 4, "num_heads": 2}
        vit = VisionTransformer(**sizes, num_classes=0)
        net = ClassifierNetwork(vit, 8, K, bottleneck=0, weight_norm=False).eval()
    net.classifier.weight.data *= 4
    return net


def images(number: int, count: int = BATCH) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    return torch.rand(count, 3, SIDE, SIDE, generator=generator) * (0.4 + 0.2 * (number % 3))


def statistics(net: ClassifierNetwork) -> SourceStatistics:
    """Return what ``source-statistics`` grants, over a few images; the last class has none."""
    with torch.no_grad():
        z = net.features(images(90, 5 * (K - 1))).view(5, K - 1, -1)
    none = torch.zeros(1, z.shape[-1])
    means, variances = (torch.cat((v, none)) for v in (z.mean(0), z.var(0)))
    whole = z.flatten(0, 1)
    count = torch.tensor([5] * (K - 1) + [0])
    return SourceStatistics(whole.mean(0), whole.var(0), means, variances, count)


def begun(name: str, options: dict[str, Any], net: ClassifierNetwork | None = None) -> Any:
    method = registry.method(name)(**options)
    task = Task("classification", tuple("abcde"), SIDE)
    usual = transformer if name in TRANSFORMER else batch_normed
    net = net or usual()
    extras = {"source-statistics": statistics(net)} if method.extras & {"source-statistics"} else {}
    net.cost = Cost()
    method.begin(Online(task, net, BATCH, 0, Notes(), extras))
    return method


def push(method: Any, number: int, count: int = BATCH) -> Tensor:
    torch.manual_seed(number)
    index = torch.arange(number * BATCH, number * BATCH + count)
    logits: Tensor = method.step(TargetBatch(images(number, count), index))
    assert logits.shape == (count, K)
    assert torch.isfinite(logits).all()
    assert not logits.requires_grad
    return logits


def tensors(method: Any) -> dict[str, Tensor]:
    found = method.state_dict()
    return {key: value.clone() for key, value in found.items() if isinstance(value, Tensor)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(v.nan_to_num(-7), other[k].nan_to_num(-7)) for k, v in one.items()
    )


@variants
def test_a_checkpoint_goes_on_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    method = begun(name, options)
    for i in range(3):
        push(method, i)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    expected = [push(method, i, count) for i, count in ((3, BATCH), (4, 1), (5, BATCH))]
    file.seek(0)
    other = begun(name, options)
    other.load_state_dict(torch.load(file, weights_only=True))
    found = [push(other, i, count) for i, count in ((3, BATCH), (4, 1), (5, BATCH))]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert same(tensors(method), tensors(other))


@variants
def test_a_copy_is_its_own_and_predict_changes_nothing(name: str, options: dict[str, Any]) -> None:
    method = begun(name, options)
    push(method, 0)
    twin, state = copy.deepcopy(method), tensors(method)
    theirs = push(twin, 1)
    drawn = torch.random.get_rng_state()
    for mode in (True, False):
        method.train(mode)
        with torch.no_grad():
            assert torch.isfinite(method.predict(images(50)).logits).all()
    assert same(state, tensors(method))
    assert torch.equal(drawn, torch.random.get_rng_state())
    assert torch.equal(theirs, push(method, 1))


@variants
def test_a_step_answers_as_predict_does(name: str, options: dict[str, Any]) -> None:
    """Before the step, or after it, as the method declares."""
    method = begun(name, options)
    push(method, 0)
    before = method.predict(images(1)).logits.detach()
    found = push(method, 1)
    after = method.predict(images(1)).logits.detach()
    torch.testing.assert_close(found, after if method.answers == "after" else before)


@variants
def test_batches_of_one(name: str, options: dict[str, Any]) -> None:
    method = begun(name, options)
    for number in range(4):
        push(method, number, 1)
    assert all(torch.isfinite(p).all() for p in method.net.parameters())


@pytest.mark.parametrize("mode", ["none", "unit-global"])
@pytest.mark.parametrize("name", NORMS)
def test_weight_and_bias_of_norms_learn(name: str, mode: str) -> None:
    method = begun(name, {**NORMS[name], "lr": 1e-2, "grad_norm": mode})
    start = tensors(method.net)
    for i in range(3):
        push(method, i)
    moved = {
        key for key, value in tensors(method.net).items() if not torch.equal(value, start[key])
    }
    norms = {f"backbone.{at}.{part}" for at in (1, 4) for part in ("weight", "bias")}
    top = {"backbone.4.weight", "backbone.4.bias"} if name == "deyo" else set()
    statistics = {f"backbone.{at}.running_{part}" for at in (1, 4) for part in ("mean", "var")}
    assert moved == norms - top | (statistics if name in MEMORY else set())
    assert {"loss/total", "gradient/before", "gradient/after"} <= method.access.recorder.names


@pytest.mark.parametrize("mode", ["none", "unit-global"])
@pytest.mark.parametrize("name", [*WHOLE, *CONVERTED, *TRANSFORMER])
def test_what_learns_where_more_than_norms_may(name: str, mode: str) -> None:
    options = (WHOLE | CONVERTED | TRANSFORMER)[name]
    method = begun(name, {**options, "lr": 1e-2, "grad_norm": mode})
    start = tensors(method.net)
    for i in range(3):
        push(method, i)
    now = tensors(method.net)
    still = {key for key, value in now.items() if torch.equal(value, start[key])}
    weights = {key for key, _ in method.net.named_parameters()}
    if name in WHOLE:
        assert not still & weights
    elif name in CONVERTED:
        assert weights - still == {f"backbone.{i}.{p}" for i in (1, 4) for p in ("weight", "bias")}
        assert "backbone.1.running_mean" not in still
    else:
        assert weights - still == {
            f"backbone.blocks.{i}.norm{j}.{p}"
            for i in range(3)  # the last of four blocks is the top
            for j in (1, 2)
            for p in ("weight", "bias")
        }
    assert {"loss/total", "gradient/before", "gradient/after"} <= method.access.recorder.names


@pytest.mark.parametrize("name", [*MOVING, *STILL])
def test_what_has_no_gradient_moves_statistics_at_most(name: str) -> None:
    method = begun(name, (MOVING | STILL)[name])
    start = tensors(method.net)
    for i in range(3):
        push(method, i)
    moved = {
        key for key, value in tensors(method.net).items() if not torch.equal(value, start[key])
    }
    assert bool(moved) == (name in MOVING)
    assert all("running" in key for key in moved)


@pytest.mark.parametrize(
    "norms",
    [
        lambda: (nn.GroupNorm(2, 8), nn.GroupNorm(2, 8)),
        lambda: (nn.LayerNorm([8, 8, 8]), nn.LayerNorm([8, 3, 3])),
    ],
    ids=["GroupNorm", "LayerNorm"],
)
@pytest.mark.parametrize("name", [*NORMS, *MOVING, *STILL, *EPISODIC, *WHOLE, *CONVERTED])
def test_other_norms_work_or_are_refused_by_name(name: str, norms: Any) -> None:
    net, options = network(*norms()), (NORMS | MOVING | STILL | EPISODIC | WHOLE | CONVERTED)[name]
    if name in MOVING | CONVERTED:
        with pytest.raises(ConfigError, match=f"^{name}: .*BatchNorm"):
            begun(name, options, net)
        return
    method = begun(name, options, net)
    start = tensors(method.net)
    for i in range(2):
        push(method, i)
    assert same(start, tensors(method.net)) == (name in STILL | EPISODIC)


@pytest.mark.parametrize("name", [*NORMS, *MOVING, *CONVERTED])
def test_networks_without_a_norm_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="BatchNorm"):
        begun(name, (NORMS | MOVING | CONVERTED)[name], network())


@pytest.mark.parametrize(
    ("name", "options", "forward", "backward"),
    [
        ("pl", {}, 1, 1),
        ("eta", {"limit": 1.0, "margin": 1.0}, 1, 1),
        ("eta", {"limit": 0.0}, 1, 0),
        ("deyo", {"limit": 1.0, "drop": 0.0}, 2, 1),
        ("deyo", {"limit": 0.0}, 1, 0),
        ("deyo", {"limit": 1.0, "drop": 1.0}, 2, 0),
        ("bn-ema", {}, 2, 0),
        ("dua", {"views": 3}, 4, 0),
        ("adacontrast-online", WHOLE["adacontrast-online"], 5, 1),
        ("rmt", {}, 3, 2),
        ("note", {"memory": BATCH, "every": BATCH}, 2, 1),
        ("note", {}, 1, 0),
        ("rem", {}, 3, 3),
        ("rotta", {"every": BATCH}, 3, 1),
        ("rotta", {"every": BATCH + 1}, 1, 0),
        ("petta", {}, 5, 2),
        ("petta", {"loss": "ce"}, 5, 1),
        ("santa", {}, 3, 2),
        ("memo", {"views": 3}, 4, 3),
        *((name, {}, 1, 0) for name in STILL),
    ],
)
def test_images_that_pass_are_counted(
    name: str, options: dict[str, Any], forward: int, backward: int
) -> None:
    method = begun(name, options)
    push(method, 0)
    cost = method.access.cost
    assert (cost.forward, cost.backward) == (forward * BATCH, backward * BATCH)


@pytest.mark.parametrize("name", ["roid", "cmf"])
def test_views_of_the_diverse_images_are_counted(name: str) -> None:
    method = begun(name, {})
    push(method, 0)
    cost = method.access.cost
    assert BATCH < cost.forward == cost.backward < 2 * BATCH
