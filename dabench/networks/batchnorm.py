"""What is done to a network's BatchNorm statistics, and a pass over a whole set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dabench.contract.access import Unlabelled
from dabench.contract.network import Network
from dabench.errors import ConfigError


def reestimate_batchnorm(net: Network, batches: Iterable[Tensor]) -> None:
    """Replace BatchNorm statistics by their averages over unlabelled batches (``bn-target``).

    Statistics are cumulative averages over the images, so that a small last batch weighs little; a
    batch of a single image has no variance where a channel is one value, and is left out unless it
    is the first. Weights stay as they are; frozen stages are included, because this is an
    initialisation and not training.

    Raises:
        ConfigError: the network has no BatchNorm.
    """
    layers = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        raise ConfigError("--init bn-target: the source model has no BatchNorm; use --init source")
    momenta = [layer.momentum for layer in layers]
    was_training = net.training
    net.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
    seen = 0
    with torch.no_grad():
        for images in batches:
            if seen and len(images) == 1:
                continue
            seen += len(images)
            for layer in layers:
                layer.momentum = len(images) / seen
            net(images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    net.train(was_training)


@torch.no_grad()
def set_probabilities(net: Network, target: Unlabelled) -> Tensor:
    """Return (N, K) probabilities of a whole set in position order, in eval mode, on its device."""
    was_training = net.training
    net.eval()
    batches = target.survey()
    p = torch.cat([net(batch.images.to(net.mean.device)).softmax(1) for batch in batches])
    net.train(was_training)
    return p


@torch.no_grad()
def set_features(
    net: Network, target: Unlabelled, known: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return (N, D) features and (N, K) probabilities of a set, as :func:`set_probabilities`.

    ``known``: probabilities are over the first so many classes alone; None = all.
    """
    was_training = net.training
    net.eval()
    found = []
    for batch in target.survey():
        features = net.features(batch.images.to(net.mean.device))
        found.append((features, net.classifier(features)[:, :known].softmax(1)))
    net.train(was_training)
    features, p = (torch.cat(column) for column in zip(*found, strict=True))
    return features, p


@contextlib.contextmanager
def fixed_statistics(net: nn.Module) -> Iterator[None]:
    """Normalise by batch statistics inside without moving BatchNorm's running averages."""
    layers = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def _own_statistics(layer: Any, inputs: tuple[Tensor, ...]) -> None:
    """Normalise by the input where it has a variance; a forward-pre-hook of a BatchNorm layer."""
    own = inputs[0].numel() > inputs[0].shape[1]
    layer.training, layer.track_running_stats = own, not own


@contextlib.contextmanager
def batch_statistics(net: nn.Module, images: Tensor, *, dense: bool = False) -> Iterator[None]:
    """Normalise by the batch's own statistics inside and leave every buffer alone.

    ``images`` are the (B, 3, H, W) batch, of which B alone counts here.
    A batch of one image has no variance in the bottleneck: it is normalised as in eval mode. In a
    dense network (``dense``) that holds only for layers that see one value per channel.
    """
    layers = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    modes = [layer.training for layer in layers]
    hooks = [layer.register_forward_pre_hook(_own_statistics) for layer in layers if dense]
    for layer in layers:
        layer.training, layer.track_running_stats = len(images) > 1, len(images) < 2
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, mode in zip(layers, modes, strict=True):
            layer.training, layer.track_running_stats = mode, True
