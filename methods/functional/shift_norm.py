"""How far an image's statistics are from the source's, by what is usual among source images."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dabench.methods.functional.blended_norm import per_channel
from dabench.methods.functional.normalisation import weigh_batch


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
    x = x if x.dtype.itemsize >= 4 else x.float()  # float16 has no squares beyond 256
    own = x.mean(axes)
    ratio = ((x - per_channel(own, x)).square().mean(axes) + eps) / (var + eps)
    away = (own - mean).square() / (var + eps)
    return 0.5 * (away + ratio - 1 - ratio.log()).mean()


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
    total = torch.zeros(len(tracked_layers(net)))
    count = 0
    for batch in images:
        for image in batch if len(total) else ():
            total += _distances(net, image[None]).cpu()
            count += 1
    return total / max(1, count)


class ImageShift:
    """How far an image's statistics are out of what is usual among source images, from 0 to 1.

    s = mean over layers of max(0, 1 - usual / D), D the distance of its statistics to the source's
    (:func:`statistics_distance`) in the source model as it was trained, where no layer hides from
    the next what is foreign. The form is that of positive-part shrinkage (James and Stein, 1961),
    where the noise of an estimate stands to its distance as ``usual`` to D; that it weighs
    statistics here is ours.

    Args:
        net: the source model, on its device. It is copied; the copy is no part of the method's
            state, and its parameters are not counted.
        usual: (L,) of its layers, in the order of :func:`tracked_layers`, at least 0.
        rho: weight of a batch's statistics where its shift is 1, in [0, 1].
    """

    def __init__(self, net: nn.Module, usual: Tensor, rho: float = 1.0) -> None:
        self._net, self._usual, self._rho = copy.deepcopy(net).eval(), usual, rho

    @torch.no_grad()
    def measure(self, images: Tensor) -> float:
        """Return the shift of a (B, 3, H, W) batch; 1 for a network without tracked statistics."""
        if not len(self._usual):
            return 1.0
        distance = _distances(self._net, images)
        usual = self._usual.to(distance)
        return float(torch.where(distance > usual, 1 - usual / distance, 0.0).mean())

    def weigh(self, images: Tensor, *nets: nn.Module) -> float:
        """Let all layers of ``nets`` trust the batch's statistics by its shift, and return it."""
        shift = self.measure(images)
        for net in nets:
            weigh_batch(net, self._rho * shift)
        return shift


def _distances(net: nn.Module, images: Tensor) -> Tensor:
    """Return (L,) distances at the tracked layers as images pass; 0 where a layer has none."""
    layers = tracked_layers(net)
    found = {layer: images.new_zeros(()) for layer in layers}

    def note(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        if x.numel() > x.shape[1]:
            mean, var = layer.running_mean, layer.running_var
            found[layer] = statistics_distance(x, mean, var, layer.eps)

    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        net(images)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([found[layer] for layer in layers])
