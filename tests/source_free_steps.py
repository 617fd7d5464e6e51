"""What tests of source-free methods share: small sets, a network, a method driven by hand."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dabench import registry
from dabench.contract.access import Budget, Recorder, SourceFree, Unlabelled
from dabench.contract.types import Task
from dabench.networks.network import ClassifierNetwork

CLASSES, SIDE, IMAGES = 3, 4, 24
#: positions of three batches
BATCHES = [torch.tensor(rows) for rows in ([0, 5, 9, 14, 20, 3], [7, 5, 11, 1], [2, 23, 8, 16, 12])]


def pictures(count: int = IMAGES, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """Return images of three kinds: one channel is brighter than the others."""
    rng = np.random.default_rng(seed)
    kind = np.arange(count) % 3
    bright = 90 * np.eye(3)[kind][:, None, None, :]
    return (rng.integers(0, 150, (count, side, side, 3)) + bright).astype(np.uint8)


def network(classes: int = CLASSES, width: int = 8, seed: int = 0) -> ClassifierNetwork:
    """Return a network without normalisation: two linear layers."""
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, width), nn.Tanh())
    return ClassifierNetwork(trunk, width, classes, bottleneck=0, weight_norm=False)


def grant(
    net: Any,
    images: np.ndarray,
    classes: int = CLASSES,
    *,
    open_set: bool = False,
    partial: bool = False,
) -> SourceFree:
    names = tuple("abcdefghij"[:classes])
    task = Task("classification", names, images.shape[1], open_set, partial=partial)
    target = Unlabelled(images, np.arange(len(images)))
    return SourceFree(task, target, net, Budget(2, 4), 0, Recorder())


class Steps:
    """A method that is driven by hand, its views being the images themselves."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, name: str, *, open_set: bool = False, **options: Any
    ) -> None:
        for view in ("weak", "strong"):
            monkeypatch.setattr(f"dabench.views.{view}", lambda images, flip: images)
        self.net, self.method = network(), registry.method(name)(**options)
        self.access = grant(self.net, pictures(), open_set=open_set)
        self.trainer: Any = SimpleNamespace(
            current_epoch=0, max_epochs=2, global_step=0, estimated_stepping_batches=10
        )
        self.method._trainer = self.trainer
        self.method.begin(self.access)
        self.optimiser = self.method.configure_optimizers()
        self.trainer.optimizers = [self.optimiser]
        self.method.on_train_epoch_start()
        self.images = self.access.target.__getitems__(list(range(IMAGES))).images

    def features(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of images, and their logits, by the weights of the moment."""
        features: Tensor = self.net.features(self.images[index])
        return features, self.net.classifier(features)

    def check(self, reference: Callable[[Tensor], Tensor]) -> None:
        """Compare losses, and gradients by all weights that learn, on three batches."""
        batches = [self.access.target.__getitems__(index.tolist()) for index in BATCHES]
        weights = [w for w in self.net.parameters() if w.requires_grad]
        compare_steps(self, weights, batches, reference, atol=1e-6)


def compare_steps(
    driven: Any,
    weights: list[Any],
    batches: list[Any],
    reference: Callable[[Tensor], Tensor],
    *,
    atol: float,
) -> None:
    """Compare losses and gradients batch by batch, each from the same draws, and step.

    ``driven`` has a method, its optimiser and its trainer.
    """
    for number, batch in enumerate(batches):
        state = torch.get_rng_state()
        expected = reference(batch.index)
        theirs = torch.autograd.grad(expected, weights, allow_unused=True)
        torch.set_rng_state(state)
        loss = driven.method.training_step(batch, number)
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=atol)
        driven.optimiser.zero_grad()
        loss.backward()
        for weight, gradient in zip(weights, theirs, strict=True):
            torch.testing.assert_close(weight.grad, gradient, rtol=1e-5, atol=atol)
        driven.optimiser.step()
        driven.trainer.global_step += 1


def squeezed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weak and strong views differ from the image and from each other, without chance."""
    monkeypatch.setattr("dabench.views.weak", lambda images, flip: 0.9 * images)
    monkeypatch.setattr("dabench.views.strong", lambda images, flip: 0.6 * images + 0.2)


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


class Bank:
    """Rows by image, as a reference keeps them."""

    def __init__(self, steps: Steps) -> None:
        with torch.no_grad():
            features, logits = steps.features(torch.arange(IMAGES))
        self.z, self.p = unit(features), logits.softmax(1)

    def nearest(self, i: int, z: Tensor, count: int) -> list[int]:
        cosine = [float(z @ row) if j != i else -9.0 for j, row in enumerate(self.z)]
        return sorted(range(IMAGES), key=lambda j: -cosine[j])[:count]


def mean(values: list[Any]) -> Tensor:
    return torch.stack(values).mean()
