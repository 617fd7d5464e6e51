"""Normalisation that trusts an image's statistics by how far they are from the source's."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dabench.methods.functional.blended_norm import per_channel
from dabench.methods.functional.normalisation import BlendedNorm, exchange_batch_norms

EPS = 1e-12


@torch.no_grad()
def statistics_distance(x: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """Return how far the statistics of x are from others: KL(N(x's) || N(theirs)), over channels.

    1/2 ((m - mean)^2 / var + r - 1 - log r) with r = v / var, eps added to both variances; the
    mean over channels, 0 where all statistics agree.

    Args:
        x: (B, C, ...) input of a layer.
        mean: (C,) the other mean.
        var: (C,) the other variance.
        eps: added to variances.
    """
    axes = [0, *range(2, x.ndim)]
    own = x.mean(axes)
    ratio = ((x - per_channel(own, x)).square().mean(axes) + eps) / (var + eps)
    away = (own - mean).square() / (var + eps)
    return 0.5 * (away + ratio - 1 - ratio.log()).mean()


class ShiftNorm(BlendedNorm):
    """A BatchNorm layer that blends in the image's statistics as far as they are out of the usual.

    The weight of the batch is rho * max(0, 1 - usual / D), D the distance of its statistics to the
    source's (:func:`statistics_distance`) and ``usual`` its mean over single source images: what
    the source model was trained to bear is left to the source's statistics, and a foreign light
    is normalised away. The form is that of positive-part shrinkage (James and Stein, 1961), where
    the noise of an estimate stands to its distance as ``usual`` to D; that it weighs statistics
    here is ours.

    Args:
        layer: the source model's layer, with running statistics.
        rho: largest weight of the batch, in [0, 1].
        usual: of this layer, at least 0.
    """

    def __init__(self, layer: _BatchNorm, rho: float, usual: float) -> None:
        super().__init__(layer, rho)
        self.usual, self.last = usual, 0.0

    def weight_of_batch(self, x: Tensor) -> float:
        """Return the weight of the batch's statistics; no gradient passes it."""
        distance = float(statistics_distance(x, self.running_mean, self.running_var, self.eps))
        self.last = max(0.0, 1.0 - self.usual / (distance + EPS))
        return self.rho * self.last


def last_shift(net: nn.Module) -> float:
    """Return the shift of what last passed ``net``: the largest 1 - usual / D of its layers.

    The largest, since a layer whose statistics were corrected leaves less for those behind it.
    0 where nothing is out of the usual, below 1; 1 for a network without a :class:`ShiftNorm`.
    """
    found = [layer.last for layer in net.modules() if isinstance(layer, ShiftNorm)]
    return max(found, default=1.0)


def tracked_layers(net: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers of ``net`` with running statistics, in order."""
    return [m for m in net.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@torch.no_grad()
def usual_distances(net: nn.Module, images: Iterable[Tensor]) -> Tensor:
    """Return (L,) mean distance of single images' statistics to the running ones, by layer.

    A layer that sees one value per channel has no distance: 0.

    Args:
        net: in evaluation mode; left as it is.
        images: (B, 3, H, W) batches of source images; each image passes alone.
    """
    twin = copy.deepcopy(net)
    layers = tracked_layers(twin)
    total = torch.zeros(len(layers))
    count = 0

    def watch(number: int) -> Any:
        def hook(layer: Any, inputs: tuple[Tensor, ...]) -> None:
            (x,) = inputs
            if x.numel() > x.shape[1]:
                mean, var = layer.running_mean, layer.running_var
                total[number] += statistics_distance(x, mean, var, layer.eps).cpu()

        return hook

    for number, layer in enumerate(layers):
        layer.register_forward_pre_hook(watch(number))
    for batch in images:
        for image in batch:
            twin(image[None])
            count += 1
    return total / max(1, count)


def adapt_by_shift(net: nn.Module, rho: float, usual: Tensor) -> None:
    """Let every BatchNorm layer inside ``net`` answer as a :class:`ShiftNorm`.

    Args:
        net: changed in place; names in its ``state_dict`` stay.
        rho: largest weight of the batch.
        usual: (L,) of the layers in the order of :func:`tracked_layers`.
    """
    pairs = zip(tracked_layers(net), usual.tolist(), strict=True)
    value_of = {id(layer): value for layer, value in pairs}
    exchange_batch_norms(net, lambda layer: ShiftNorm(layer, rho, value_of[id(layer)]))
