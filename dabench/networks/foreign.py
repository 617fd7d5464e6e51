"""A model of somebody else as a network of dabench: its last linear layer is the classifier."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dabench.contract.network import Network
from dabench.errors import ConfigError, did_you_mean, one_line
from dabench.networks.network import ClassifierNetwork

Values = Sequence[float]


def wrap_classifier(
    model: nn.Module,
    num_classes: int | None = None,
    *,
    head: str | None = None,
    mean: Values = (0.0, 0.0, 0.0),
    std: Values = (1.0, 1.0, 1.0),
    example: Tensor | None = None,
) -> Network:
    """Return a copy of a model of logits that knows its features and its classifier.

    The trunk is the model with its last linear layer taken out; that layer is the classifier.

    Args:
        model: (B, 3, H, W) -> (B, K) logits; left as it is.
        num_classes: K, which the classifier must have; None = whatever it has.
        head: name of the classifier as in ``model.named_modules()``; None = the last linear layer
            with K outputs.
        mean: per channel, of [0, 1] images, that the model expects to be taken off.
        std: likewise, to be divided by.
        example: (B, 3, H, W) images in [0, 1], on which trunk and classifier must give what the
            model gives; None = not tried.

    Raises:
        ConfigError: no such layer, another number of classes, weights that are not float32, a
            classifier that is not the last thing that the model does, or answers that are no
            numbers.
    """
    if isinstance(model, Network):
        _check_own(model, num_classes, (head, *mean, *std))
        twin: Network = copy.deepcopy(model).eval()
        return twin
    check_normalisation(mean, std)
    _check_floats(model)
    whole = copy.deepcopy(model).eval()
    name = _head_name(whole, num_classes, head)
    classifier = whole.get_submodule(name)
    assert isinstance(classifier, nn.Linear)
    if num_classes not in (None, classifier.out_features):
        raise ConfigError(
            f"the model's layer {name} has {classifier.out_features} outputs, and there are "
            f"{num_classes} classes; give the class list of the model, or another head"
        )
    trunk = copy.deepcopy(whole)
    if name:
        trunk.set_submodule(name, nn.Identity())
    else:
        trunk = nn.Identity()
    width, k = classifier.in_features, classifier.out_features
    normalisation = (tuple(mean), tuple(std))
    network = ClassifierNetwork(
        trunk, width, k, bottleneck=0, weight_norm=False, normalisation=normalisation
    )
    network.classifier, network.pretrained = classifier, True
    network.head_name = name
    # mean and std have to lie where the model does
    network.to(next((p.device for p in whole.parameters()), torch.device("cpu"))).eval()
    if example is not None:
        _compare(network, whole, example, name)
    return network


def check_normalisation(mean: Values, std: Values) -> None:
    """Raise ``ConfigError`` unless both are three numbers of [0, 1] images, ``std`` above 0."""
    numbers = [*mean, *std]
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"mean {list(mean)}, std {list(std)}: expected three numbers, std > 0")
    if max(map(abs, mean)) > 1.5 or max(std) > 10:
        raise ConfigError(
            f"mean {list(mean)}, std {list(std)}: expected those of [0, 1] images; divide by 255"
        )


def _check_own(network: Network, num_classes: int | None, given: tuple[Any, ...]) -> None:
    """Refuse what a network of dabench, such as one that it loaded, would be handed in vain."""
    k = int(network.classifier.weight.shape[0])
    if num_classes not in (None, k):
        raise ConfigError(
            f"the network has {k} outputs, and there are {num_classes} classes; give a name for "
            "each, or none (that of an open set may have outputs for unknown images)"
        )
    if given != (None, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0):
        raise ConfigError(
            "the network was wrapped by dabench, and has its own head, mean and std; leave them out"
        )


def _check_floats(model: nn.Module) -> None:
    for name, p in model.named_parameters():
        if p.is_floating_point() and p.dtype != torch.float32:
            raise ConfigError(
                f"the model's weights '{one_line(name, 100)}' are {p.dtype}; expected "
                "torch.float32, in which images come and methods learn: give model.float()"
            )


def unwrapped_state(network: Any) -> dict[str, Tensor]:
    """Return an adapted network's state under the names of the model that was wrapped.

    It fits that model; after a method that appended a class, a model with one output more.

    Raises:
        ConfigError: the network was not made by :func:`wrap_classifier`.
    """
    name = getattr(network, "head_name", None)
    if name is None:
        raise ConfigError("the network was not wrapped, so that there is no model that it fits")
    head = {f"{name}.{key}".lstrip("."): v for key, v in network.classifier.state_dict().items()}
    return {k: v.detach().cpu() for k, v in (network.backbone.state_dict() | head).items()}


def _head_name(model: nn.Module, num_classes: int | None, head: str | None) -> str:
    linear = {str(name): m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    if head is not None:
        if head not in linear:
            raise ConfigError(
                f"head '{one_line(head, 100)}': the model has no linear layer of that name"
                f"{did_you_mean(head, linear)}"
            )
        return head
    if not linear:
        raise ConfigError(
            f"{type(model).__name__} has no linear layer that could be its classifier; methods "
            "need features and a classifier: give a model that ends in nn.Linear"
        )
    fitting = [n for n, m in linear.items() if num_classes in (None, m.out_features)]
    if not fitting:
        widths = sorted({m.out_features for m in linear.values()})
        raise ConfigError(
            f"{type(model).__name__} has no linear layer with {num_classes} outputs (there are "
            f"{', '.join(map(str, widths[-5:]))}); give as many classes as the model knows, or a "
            "data set that says which of the model's classes are its own (docs/own-model.md)"
        )
    return fitting[-1]


@torch.no_grad()
def _compare(network: ClassifierNetwork, whole: nn.Module, images: Tensor, name: str) -> None:
    images = images.to(network.mean.device)
    expected = whole(network.normalised(images))
    if not isinstance(expected, Tensor) or tuple(expected.shape) != (
        len(images),
        network.classifier.out_features,
    ):
        shape = tuple(expected.shape) if isinstance(expected, Tensor) else type(expected).__name__
        raise ConfigError(
            f"{type(whole).__name__} answered {len(images)} images by {shape}; expected "
            f"({len(images)}, {network.classifier.out_features}) logits: wrap what it returns, or "
            "name another head"
        )
    if not bool(torch.isfinite(expected).all()):
        raise ConfigError(
            f"{type(whole).__name__} gives logits that are not finite; look at its weights, and at "
            "mean and std"
        )
    try:
        found = network.classifier(network.backbone(network.normalised(images)))
        same = torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    except (RuntimeError, TypeError, AttributeError):  # it may read the weights of the layer
        same = False
    if not same:
        raise ConfigError(
            f"{type(whole).__name__} does something after its layer {name} (a softmax, a second "
            "head), so that features and classifier cannot be told apart; name another head, or "
            "give a model that ends in its classifier"
        )
