"""How far an image is out of the usual, and what depends on it: statistics and learning."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from dabench import registry
from dabench.contract.access import Online, Recorder, TargetBatch
from dabench.contract.types import Task
from dabench.methods.functional.normalisation import (
    BlendedNorm,
    adapt_normalisation,
    weigh_batch,
)
from dabench.methods.functional.shift_norm import (
    ImageShift,
    statistics_distance,
    tracked_layers,
    usual_distances,
)
from dabench.networks.dense import build_segmenter

TASK = Task("segmentation", tuple("abcd"), 32, width=48)


def layer(channels: int = 3) -> nn.BatchNorm2d:
    found = nn.BatchNorm2d(channels).eval()
    with torch.no_grad():
        found.running_mean.copy_(torch.linspace(-1, 1, channels))
        found.running_var.copy_(torch.linspace(0.5, 2, channels))
        found.weight.copy_(torch.linspace(1, 2, channels))
    return found


def maps(seed: int = 0, channels: int = 3) -> Tensor:
    return 2 * torch.randn(1, channels, 6, 8, generator=torch.Generator().manual_seed(seed)) + 1


def weights(net: nn.Module) -> set[float]:
    return {part.rho for part in net.modules() if isinstance(part, BlendedNorm)}


def test_distance_is_the_divergence_of_two_gaussians() -> None:
    x, norm = maps(), layer()
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    found = statistics_distance(x, norm.running_mean, norm.running_var, 0.0)
    ours, theirs = Normal(mean, var.sqrt()), Normal(norm.running_mean, norm.running_var.sqrt())
    torch.testing.assert_close(found, kl_divergence(ours, theirs).mean())
    assert float(statistics_distance(x, mean, var, 1e-5)) == pytest.approx(0, abs=1e-6)


def test_one_weight_for_all_layers() -> None:
    x, net = maps(), nn.Sequential(layer(), nn.Conv2d(3, 3, 1), layer())
    found = copy.deepcopy(net)
    adapt_normalisation(found, 0.8)
    weigh_batch(found, 0.3)
    first, conv, last = net
    by_hand = BlendedNorm(last, 0.3)(conv(BlendedNorm(first, 0.3)(x)))
    assert torch.equal(found(x), by_hand)
    weigh_batch(found, 0.0)
    torch.testing.assert_close(found(x), net(x))


class Nested(nn.Module):
    """A layer inside a child comes before its parent's own one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 3, 1), layer())
        self.second = layer()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x) * 3)
        return out


def test_every_layer_has_its_own_usual_distance() -> None:
    torch.manual_seed(0)
    net = Nested().eval()
    before = copy.deepcopy(net.state_dict())
    batch = torch.cat([maps(1), maps(2)])
    usual = usual_distances(net, [batch, maps(3)])
    inner, outer = net.first[1], net.second
    by_hand = torch.zeros(2)
    with torch.no_grad():
        for x in (maps(1), maps(2), maps(3)):
            a, b = net.first[0](x), net.first(x) * 3
            for i, (part, norm) in enumerate(((a, inner), (b, outer))):
                by_hand[i] += statistics_distance(part, norm.running_mean, norm.running_var, 1e-5)
    torch.testing.assert_close(usual, by_hand / 3)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_shift_is_a_mean_over_layers_of_the_source_model() -> None:
    torch.manual_seed(0)
    net = Nested().eval()
    x = maps(4)
    norms = (net.first[1], net.second)
    with torch.no_grad():
        seen = (net.first[0](x), net.first(x) * 3)
    found = [
        float(statistics_distance(part, norm.running_mean, norm.running_var, norm.eps))
        for part, norm in zip(seen, norms, strict=True)
    ]
    usual = torch.tensor([found[0] / 4, found[1] * 2])  # .75 out of the usual; nothing is
    shift = ImageShift(net, usual, 0.8)
    adapt_normalisation(net)  # of a copy: what is adapted later hides nothing
    assert shift.weigh(x, net) == pytest.approx(0.375, abs=1e-5)
    assert weights(net) == {0.8 * shift.measure(x)}
    assert ImageShift(nn.Conv2d(3, 3, 1), torch.zeros(0)).measure(x) == 1


def test_a_layer_without_a_distance_is_not_out_of_the_usual() -> None:
    """It sees one value per channel, which has no variance; or the network goes without it."""
    pooled = nn.Sequential(layer(), nn.AdaptiveAvgPool2d(1), layer()).eval()
    usual = usual_distances(pooled, [maps(1)])
    assert usual[0] > 0
    assert usual[1] == 0
    assert ImageShift(pooled, usual).measure(maps(1)) == 0
    assert ImageShift(pooled, torch.tensor([0.0, 0.0])).measure(maps(1)) == 0.5
    spare = Nested().eval()
    spare.forward = lambda x: x + spare.second.running_mean[0]  # type: ignore[method-assign]
    assert ImageShift(spare, usual_distances(spare, [maps(1)])).measure(maps(2)) == 0
    # nor has it that of an earlier batch
    shift = ImageShift(pooled, torch.tensor([1e9, 0.0]))
    assert shift.measure(torch.cat([maps(1), maps(2)])) == 0.5
    assert shift.measure(maps(1)) == 0


def test_half_precision_has_room_for_squares() -> None:
    x = 100 * maps(5)
    found = statistics_distance(x.half(), torch.zeros(3), torch.full((3,), 4e4), 1e-5)
    torch.testing.assert_close(
        found,
        statistics_distance(x, torch.zeros(3), torch.full((3,), 4e4), 1e-5),
        rtol=1e-3,
        atol=0,
    )


def test_a_copy_measures_for_itself() -> None:
    net = Nested().eval()
    shift = ImageShift(net, usual_distances(net, [maps(1)]))
    twin = copy.deepcopy(shift)
    shift.measure(maps(1))
    assert twin.measure(5 * maps(2)) == shift.measure(5 * maps(2)) > 0


def begun(usual: float, **options: Any) -> Any:
    """Return a method over a network for which distances up to ``usual`` are usual."""
    torch.manual_seed(0)
    net = build_segmenter("small-seg", "none", 4).eval()
    method: Any = registry.method("transadapt")(**options)
    parts = method.source_parts(net, TASK)
    parts.usual.fill_(usual)
    method.begin(Online(TASK, net, 1, 0, Recorder(), {"source-parts": parts}))
    return method


def push(method: Any, number: int = 0) -> Tensor:
    x = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(number))
    answer: Tensor = method.step(TargetBatch(x, torch.tensor([number])))
    return answer


def test_no_step_where_nothing_is_out_of_the_usual() -> None:
    method = begun(1e9, lr=0.1)
    before, cost = copy.deepcopy(method.net.state_dict()), method.access.cost
    start = (cost.forward, cost.backward)
    answer = push(method)
    assert (cost.forward - start[0], cost.backward - start[1]) == (2, 0)  # measured, answered
    assert all(torch.equal(v, before[k]) for k, v in method.net.state_dict().items())
    assert torch.equal(answer, push(begun(1e9, steps=0)))
    assert weights(method.net) == {0.0}
    far = begun(0.0, lr=0.1)
    push(far)
    assert any(not torch.equal(v, before[k]) for k, v in far.net.state_dict().items())


def test_learner_and_teacher_have_one_weight() -> None:
    some = begun(2.0, gate=0.0)
    push(some)
    (weight,) = weights(some.net) | weights(some.anchor)
    assert 0 < weight < 1


@pytest.mark.parametrize(
    ("shift", "gate", "learns"), [(0.19, 0.2, False), (0.2, 0.2, True), (0.0, 0.0, True)]
)
def test_the_gate(shift: float, gate: float, learns: bool) -> None:
    method = begun(0.0, gate=gate)
    method.shift.measure = lambda images: shift
    push(method)
    assert (method.update.steps > 0) == learns


def test_tracked_layers_are_those_with_running_statistics() -> None:
    first, second = nn.BatchNorm2d(2), nn.BatchNorm2d(3)
    net = nn.Sequential(first, nn.BatchNorm2d(2, track_running_stats=False), nn.Sequential(second))
    assert tracked_layers(net) == [first, second]
