"""The outcome of an adaptation, and what is asked of its model and images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dabench import registry
from dabench.config.options import as_argument, merge
from dabench.contract.network import Network
from dabench.contract.types import Prediction
from dabench.errors import ConfigError, DataError, shown
from dabench.metrics import label_free
from dabench.metrics.predictions import Predictions, gather
from dabench.networks.foreign import wrap_classifier


class AdaptedModel(nn.Module):
    """What an adapted method answers: (B, 3, H, W) images in [0, 1] -> (B, K) logits."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Answer images; nothing is learned."""
        logits: Tensor = self.method.predict(images).logits
        return logits


@dataclass(frozen=True)
class Adapted:
    """The outcome of an adaptation; nothing in it was measured against labels.

    Attributes:
        model: the adapted model.
        classes: names of the K classes.
        before: what the model said of the images before.
        after: what it says now; on a stream, what it said when each image came.
        cost: what the adaptation took, in images forwarded and backwarded, and seconds.
        network: the network behind the answers, where there is one; a stream has none.
        about: further facts of the outcome, by name.
    """

    model: nn.Module
    classes: tuple[str, ...]
    before: Predictions
    after: Predictions
    cost: dict[str, float]
    network: Any = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """The class of every image by name; ``unknown`` where it is none of them."""
        names = [*self.classes, "unknown"]
        return [names[i] for i in self.after.decided(len(self.classes))]


def wrapped(
    model: nn.Module,
    classes: Sequence[str] | None,
    example: Tensor | None,
    wrapping: Mapping[str, Any],
) -> tuple[Network, tuple[str, ...]]:
    """Return a copy of a model as a network, and the names of its classes.

    Args:
        model: from images to (B, K) logits.
        classes: names of the K classes; None = their numbers.
        example: images on which it is tried; None = it is not.
        wrapping: its head, mean and std.

    Raises:
        ConfigError: as :func:`dabench.networks.foreign.wrap_classifier`.
    """
    k = None if classes is None else len(classes)
    network = wrap_classifier(model, k, example=example, **wrapping)
    return network, tuple(classes or map(str, range(network.classifier.weight.shape[0])))


def summary(logits: Tensor) -> Predictions:
    """Return what (N, K) logits say of as many images, with their label-free scores."""
    answers = [Prediction(logits.float().cpu())]
    return replace(gather(answers), judged=label_free.scores(answers))


def pictures_of(images: np.ndarray | Tensor) -> np.ndarray:
    """Return (N, S, S, 3) uint8.

    Raises:
        DataError: another shape or type, or fewer than two images.
        ConfigError: floats outside [0, 1].
    """
    expected = "expected two or more, as (N, S, S, 3) uint8 or an (N, 3, S, S) tensor in [0, 1]"
    if not isinstance(images, Tensor | np.ndarray):
        raise DataError(f"images are a {type(images).__name__}; {expected}")
    if isinstance(images, Tensor):
        if images.is_floating_point() and images.numel():
            check_range(images, "adapt")
            images = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        images = images.detach().cpu().numpy()
        images = images.transpose(0, 2, 3, 1) if images.ndim == 4 else images
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or len(images) < 2:
        raise DataError(f"images are {tuple(images.shape)} of {images.dtype}; {expected}")
    if images.shape[1] != images.shape[2]:
        raise DataError(
            f"images are {images.shape[1]} x {images.shape[2]} px, and methods expect squares; "
            "resize or cut them"
        )
    return images


def whole_numbers(**given: object) -> tuple[int, ...]:
    """Return options of Python as numbers, within the bounds that the command line has.

    Raises:
        ConfigError: names the one that does not fit.
    """
    named = {name.replace("_", "-"): as_argument(value) for name, value in given.items()}
    return tuple(merge(named).values())


def class_names(classes: Iterable[object] | None) -> tuple[str, ...] | None:
    """Return the names of the classes as text; None stays.

    Raises:
        ConfigError: fewer than two, or one twice.
    """
    if classes is None:
        return None
    names = tuple(map(str, classes)) if isinstance(classes, Iterable) else ()
    if isinstance(classes, str) or len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"classes {shown(classes)}: expected two or more different names")
    return names


def check_range(images: Tensor, function: str) -> None:
    """Refuse floats that are no pictures in [0, 1].

    Args:
        images: floats.
        function: of dabench, that was handed them.

    Raises:
        ConfigError: they lie outside, or are no numbers.
    """
    low, high = float(images.min()), float(images.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ConfigError(
            f"images lie between {low:g} and {high:g}; expected [0, 1], not normalised: give mean "
            f"and std to dabench.{function} instead"
        )


def check_images(images: Tensor) -> None:
    """Refuse what is no (B, 3, S, S) batch of floats in [0, 1], for ``dabench.online``.

    Raises:
        ConfigError: says what was expected.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ConfigError(f"images are {shape}; expected a (B, 3, S, S) tensor in [0, 1]")
    if not images.is_floating_point() or not len(images):
        wanted = "expected floats in [0, 1]: images.float() / 255"
        raise ConfigError(f"images are {len(images)} of {images.dtype}; {wanted}")
    check_range(images, "online")


def check_answers_pictures(cls: type[Any]) -> None:
    """Refuse a method that needs labels, or frames.

    Raises:
        ConfigError: names it.
    """
    if hasattr(cls, "reveal"):
        raise ConfigError(f"{registry.called(cls)} learns the target's labels, and here are none")
    if "classification" not in getattr(cls, "kinds", {"classification"}):
        raise ConfigError(
            f"{registry.called(cls)} segments frames, and here pictures are classified; see "
            "'dabench list methods' for others, or 'dabench run --protocol online-seg'"
        )


def method_class(method: Any) -> type[Any]:
    """Return the class that a name, a reference or a class stands for."""
    if isinstance(method, type):
        return method
    name = registry.name_of("method", method)
    if name in registry.METHODS and registry.METHODS[name].frozen_trunk:
        raise ConfigError(f"{name} is trained on labelled source images, and here are none")
    return registry.method(name)
