"""RoTTA, PeTTA, SANTA, MEMO and FOA-shift: where published code goes wrong, and what they need."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dabench import registry
from dabench.contract.access import Online, Recorder, TargetBatch
from dabench.contract.statistics import SourceStatistics
from dabench.contract.types import Task
from dabench.errors import AccessError
from dabench.networks.network import ClassifierNetwork

K, SIDE = 5, 8


class Notes(Recorder):
    """A recorder that keeps everything."""

    def __init__(self) -> None:
        self.kept: dict[str, list[float]] = {}

    def put(self, name: str, step: int, value: Any) -> None:
        self.kept.setdefault(name, []).append(float(value))


def network(bottleneck: int = 0) -> ClassifierNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        backbone[1].running_mean.normal_()
        net = ClassifierNetwork(backbone, 8, K, bottleneck=bottleneck, weight_norm=False)
    net.classifier.weight.data *= 4
    return net.eval()


def images(count: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def known(**changed: Tensor) -> SourceStatistics:
    rows = torch.rand(K, 8, generator=torch.Generator().manual_seed(5))
    values = {
        **{"mean": rows.mean(0), "var": torch.ones(8), "count": torch.full((K,), 9.0)},
        **{"class_mean": rows, "class_var": torch.ones(K, 8)},
    }
    return SourceStatistics(**(values | changed))


def begun(name: str, net: Any = None, statistics: Any = None, k: int = K, **options: Any) -> Any:
    torch.manual_seed(0)
    method = registry.method(name)(**options)
    task = Task("classification", tuple(map(str, range(k))), SIDE)
    extras = {"source-statistics": statistics or known()}
    method.begin(Online(task, net or network(), 6, 0, Notes(), extras))
    return method


def push(method: Any, batch: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    logits: Tensor = method.step(TargetBatch(batch, torch.arange(len(batch))))
    return logits


@pytest.mark.parametrize("size", [1, 6, 20])
def test_rotta_updates_by_images_and_not_by_batches(size: int) -> None:
    method = begun("rotta", every=8)
    for batch in images(20).split(size):
        push(method, batch)
    assert method.update.steps == 20 // 8
    assert int(method.seen) == 20


@pytest.mark.parametrize("name", ["rotta", "petta"])
def test_an_answer_does_not_hang_on_its_batch(name: str) -> None:
    """Statistics follow the memory; what passes together is not normalised together."""
    method = begun(name, every=3) if name == "rotta" else begun(name)
    push(method, images(6, 1))
    alone = torch.cat([method.predict(image[None]).logits for image in images()])
    torch.testing.assert_close(method.predict(images()).logits, alone)
    torch.testing.assert_close(push(method, images()), alone)


@pytest.mark.parametrize("name", ["rotta", "petta"])
def test_the_teachers_statistics_follow_the_memory(name: str) -> None:
    method = begun(name, every=3) if name == "rotta" else begun(name)
    before = method.teacher.backbone[1].running_mean.clone()
    push(method, images())
    assert not torch.equal(before, method.teacher.backbone[1].running_mean)


def test_a_memory_of_one_image_learns_and_stays_finite() -> None:
    method = begun("rotta", memory=1, every=1)
    for seed in range(3):
        push(method, images(1, seed))
    assert method.update.steps == 3
    assert all(torch.isfinite(v).all() for v in method.net.state_dict().values())


@pytest.mark.parametrize("name", ["petta", "santa", "foa-shift"])
def test_without_source_statistics_they_are_refused_by_name(name: str) -> None:
    task = Task("classification", tuple("abcde"), SIDE)
    with pytest.raises(AccessError, match=rf"^{name} needs the extra 'source-statistics'"):
        registry.method(name)().begin(Online(task, network(), 6, 0, Recorder()))


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("rotta", {"buffer"}),
        ("petta", {"buffer", "source-statistics"}),
        ("santa", {"source-statistics"}),
        ("foa-shift", {"source-statistics"}),
        ("memo", set()),
    ],
)
def test_what_they_are_given_is_declared(name: str, extras: set[str]) -> None:
    assert registry.method(name).extras == extras


def test_petta_pulls_back_and_slows_its_teacher_as_it_strays() -> None:
    """Far from the source's means the divergence is 1, and the teacher stands still."""
    far = known(class_mean=torch.full((K, 8), 50.0), class_var=torch.full((K, 8), 1e-3))
    strayed, near = begun("petta", statistics=far), begun("petta")
    # the means start where the source's are; they stray with the first batch
    for method in (strayed, near):
        push(method, images())
        start = [p.clone() for p in method.teacher.parameters()]
        push(method, images(6, 1))
        pairs = zip(start, method.teacher.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == (method is strayed)
    strayed_by, near_by = (m.access.recorder.kept["petta/divergence"] for m in (strayed, near))
    assert strayed_by == [0, 1]
    assert near_by[0] == 0
    assert 0 < near_by[1] < 0.1


def test_petta_leaves_classes_out_that_the_source_has_not() -> None:
    """A mean of no image says nothing of how far a class has strayed."""
    none = known(count=torch.zeros(K), class_mean=torch.zeros(K, 8), class_var=torch.zeros(K, 8))
    method = begun("petta", statistics=none)
    for seed in range(3):
        assert torch.isfinite(push(method, images(6, seed))).all()
    assert method.access.recorder.kept["petta/divergence"] == [0, 0, 0]


def test_petta_keeps_no_label_of_the_stream() -> None:
    method = begun("petta")
    push(method, images())
    stored = method.stored.labels[method.stored.labels >= 0]
    with torch.no_grad():
        own = network()(images()).argmax(1)
    assert sorted(stored.tolist()) == sorted(own.tolist())


def test_santas_nearest_mean_is_one_that_the_source_has() -> None:
    """A row of zeros has the cosine 0, which may be the largest there is."""
    rows = -torch.rand(K, 8)
    rows[2] = 0
    count = torch.tensor([3.0, 3, 0, 3, 3])
    one = begun("santa", statistics=known(class_mean=rows, count=count))
    rows = rows.clone()
    rows[2] = 7.0
    other = begun("santa", statistics=known(class_mean=rows, count=count))
    for method in (one, other):
        push(method, images())
    assert torch.equal(one.trained_values(), other.trained_values())


def test_santas_projector_learns_and_is_kept() -> None:
    method = begun("santa")
    before = {k: v.clone() for k, v in method.projector.state_dict().items()}
    push(method, images())
    kept = method.state_dict()
    assert any(not torch.equal(v, kept[f"projector.{k}"]) for k, v in before.items())
    assert len(begun("santa", projection=0).update.held) == 2


def test_memo_answers_an_image_by_itself_and_forgets_it() -> None:
    method = begun("memo", views=4, lr=0.5)
    start = copy.deepcopy(method.net.state_dict())
    whole = push(method, images())
    assert all(torch.equal(v, method.net.state_dict()[k]) for k, v in start.items())
    turned = push(method, images().flip(0), 7).flip(0)
    alone = torch.cat([push(method, image[None], 3) for image in images()])
    torch.testing.assert_close(whole, turned)
    torch.testing.assert_close(whole, alone)
    with torch.no_grad():
        assert not torch.allclose(whole, begun("memo", lr=1e-12).net(images()), atol=1e-3)


def test_memos_batchnorm_blends_a_seventeenth_of_a_single_image() -> None:
    """By the image's statistics alone a batch of one would be normalised away."""
    method, net = begun("memo", lr=1e-12), network()
    layer, x = net.backbone[1], images(1)
    found = method.predict(x).logits
    with torch.no_grad():
        maps = net.backbone[0]((x - net.mean) / net.std)
        mean = 16 / 17 * layer.running_mean + maps.mean((0, 2, 3)) / 17
        var = 16 / 17 * layer.running_var + maps.var((0, 2, 3), correction=0) / 17
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(var)
        torch.testing.assert_close(found, net(x))


def test_memo_counts_a_step_that_it_leaves_out() -> None:
    method = begun("memo", views=2)
    with torch.no_grad():
        method.net.classifier.weight.fill_(torch.nan)  # so is the gradient
    push(method, images(3))
    assert method.updates_skipped == 3
    assert int(method.state_dict()["skipped"]) == 3


def test_memo_normalises_its_gradient() -> None:
    """A norm of next to nothing moves nothing."""
    still = begun("memo", views=2, grad_norm="unit-global", max_norm=1e-12)
    frozen = begun("memo", views=2, lr=1e-12)
    torch.testing.assert_close(push(still, images()), push(frozen, images()))
    plain = begun("memo", views=2, lr=0.5)
    unit = begun("memo", views=2, lr=0.5, grad_norm="unit-global")
    assert not torch.allclose(push(plain, images()), push(unit, images()))


def test_foa_shift_answers_the_first_batch_unshifted_and_never_by_itself() -> None:
    method, net = begun("foa-shift"), network()
    with torch.no_grad():
        torch.testing.assert_close(push(method, images()), net(images()))
        z = net.features(images())
        shift = known().mean - z.mean(0)
        later = net.classifier(net.features(images(6, 1)) + shift)
        torch.testing.assert_close(push(method, images(6, 1)), later)


def test_a_shift_before_a_linear_bottleneck_is_one_behind_it() -> None:
    """So CLS tokens may be shifted where they are, or where the classifier meets them."""
    net = network(bottleneck=4)
    with torch.no_grad():
        z = net.backbone((images() - net.mean) / net.std)
        shift = torch.rand(8)
        before = net.bottleneck(z + shift)
        behind = net.bottleneck(z) + net.bottleneck(shift[None]) - net.bottleneck(0 * shift[None])
        torch.testing.assert_close(before, behind)
