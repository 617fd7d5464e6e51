"""A backward pass is charged where one came, whatever a method says of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dabench.contract.cost import Cost, GrantedCost
from dabench.contract.network import Network
from dabench.networks.foreign_dense import wrap_segmenter
from dabench.networks.network import build_classifier


def classifier() -> Network:
    """Return a network of 10 classes."""
    return build_classifier("small-cnn", "none", 10).eval()


def frozen() -> Network:
    """Return a network of which the head alone learns."""
    net = classifier()
    net.requires_grad_(False)
    net.classifier.requires_grad_(True)
    return net


def segmenter() -> Network:
    """Return a segmentation model of somebody else."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 1))
    return wrap_segmenter(model, 5, torch.zeros(1, 3, 32, 32))


@pytest.fixture(params=[classifier, frozen, segmenter])
def net(request: pytest.FixtureRequest) -> Network:
    """Return a network as a method is handed it."""
    make: Callable[[], Network] = request.param
    found = make()
    found.cost = GrantedCost(Cost())
    return found


def logits(net: Network) -> Tensor:
    """Return a network's answer to 4 images."""
    found: Tensor = net(torch.rand(4, 3, 32, 32))
    return found


def test_a_backward_pass_that_came_is_not_taken_back(net: Network) -> None:
    for _ in range(3):
        logits(net).sum().backward()
        net.cost.uncount_backward(10**9)
    assert (net.cost.forward, net.cost.backward) == (12, 12)


def test_nor_one_that_comes_later(net: Network) -> None:
    kept = logits(net)
    net.cost.uncount_backward(4)
    assert net.cost.backward == 0
    kept.sum().backward(retain_graph=True)
    kept.sum().backward()
    assert net.cost.backward == 4


def test_one_that_never_came_is_taken_back_once(net: Network) -> None:
    logits(net).sum().backward()
    logits(net)
    with torch.no_grad():
        logits(net)
    for images in (-5, 3, 10**9):
        net.cost.uncount_backward(images)
    assert (net.cost.forward, net.cost.backward) == (12, 4)


def test_nothing_is_taken_back_in_a_pause() -> None:
    cost = Cost()
    cost.count(4, backward=True)
    with cost.pause():
        cost.uncount_backward(4)
    assert cost.backward == 4


def test_what_notices_it_shows_nothing_and_moves_no_gradient() -> None:
    net, twin = classifier(), classifier()
    twin.load_state_dict(net.state_dict())
    images = torch.rand(4, 3, 32, 32)
    net(images).square().sum().backward()
    features = twin.bottleneck(twin.backbone(twin.normalised(images)))  # type: ignore[operator]
    twin.classifier(features).square().sum().backward()
    pairs = [*zip(net.parameters(), twin.parameters(), strict=True)]
    assert [a.grad is None for a, _ in pairs] == [b.grad is None for _, b in pairs]
    moved = [(a.grad, b.grad) for a, b in pairs if a.grad is not None and b.grad is not None]
    assert moved
    assert all(torch.equal(a, b) for a, b in moved)
    assert not logits(net)._backward_hooks  # what can be read can be taken away
