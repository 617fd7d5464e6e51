"""Normalisation layers on a stream: batch statistics, and the affine parameters to adapt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dabench.errors import ConfigError
from dabench.methods.functional.blended_norm import blended_batch_norm, per_channel

#: what of a network learns
Trained = Literal["norms+head", "norms", "all"]


def blended_statistics(
    x: Tensor, mean: Tensor, var: Tensor, rho: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rho * batch + (1 - rho) * source, for mean and (biased) variance per channel.

    Args:
        x: (B, C, ...) input of the layer.
        mean: (C,) source mean.
        var: (C,) source variance.
        rho: weight of the batch, in [0, 1].

    Returns:
        (C,) mean, (C,) variance, both with gradient through the batch, and x less its batch mean.

    Source: Schneider et al., "Improving robustness against common corruptions by covariate shift
    adaptation", 2020, Eq. 2, with rho = n / (N + n).
    """
    axes = [0, *range(2, x.ndim)]
    batch_mean = x.mean(axes)
    centred = x - per_channel(batch_mean, x)
    # two passes: as exact as var_mean, which is many times slower on CPUs
    batch_var = centred.square().mean(axes)
    return rho * batch_mean + (1 - rho) * mean, rho * batch_var + (1 - rho) * var, centred


class BlendedNorm(nn.Module):
    """A BatchNorm layer that answers by rho * batch + (1 - rho) * source statistics in any mode.

    It shares weight, bias and running statistics with the layer that it stands for, under the same
    names, and never writes to them: no answer changes its state. Where there is one value per
    channel (a BatchNorm1d that sees a batch of one) no variance can be estimated, and the source
    statistics alone are used.

    Args:
        layer: the source model's layer, with running statistics.
        rho: weight of the batch, in [0, 1].
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, layer: _BatchNorm, rho: float) -> None:
        super().__init__()
        self.rho, self.eps = rho, layer.eps
        self.register_parameter("weight", layer.weight)
        self.register_parameter("bias", layer.bias)
        for name, buffer in layer.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        # timm's layers hold the activation that follows them
        for name, child in layer.named_children():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) activations, in single precision at least."""
        out = self._normalise(x if x.dtype.itemsize >= 4 else x.float())
        for child in self.children():
            out = child(out)
        return out

    def weight_of_batch(self, x: Tensor) -> float:
        """Return the weight of the batch's statistics of (B, C, ...) activations, in [0, 1]."""
        return self.rho

    def _normalise(self, x: Tensor) -> Tensor:
        rho = 0.0 if x.numel() == x.shape[1] else self.weight_of_batch(x)
        if rho == 0:
            return self._by(x, self.running_mean, self.running_var)
        if rho == 1:
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        if len(x) == 1 and torch.is_grad_enabled():
            # images one by one: much faster; in batches it would move recorded runs by rounding
            source = (self.running_mean, self.running_var)
            return blended_batch_norm(x, self.weight, self.bias, source, rho, self.eps)
        mean, var, centred = blended_statistics(x, self.running_mean, self.running_var, rho)
        if not torch.is_grad_enabled():
            return self._by(x, mean, var)
        # F.batch_norm would stop the gradient at statistics that it is given
        scale = (var + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = (x.mean([0, *range(2, x.ndim)]) - mean) * scale
        shift = shift if self.bias is None else shift + self.bias
        return torch.addcmul(per_channel(shift, x), centred, per_channel(scale, x))

    def _by(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)


NORMS = (_BatchNorm, BlendedNorm, nn.LayerNorm, nn.GroupNorm)


def adapt_normalisation(net: nn.Module, rho: float = 1.0) -> int:
    """Let every BatchNorm layer inside ``net`` answer by blended statistics; see BlendedNorm.

    Stages that ``--freeze`` keeps are included: statistics are no weights. LayerNorm and GroupNorm
    have no statistics of a batch and stay as they are.

    Args:
        net: changed in place; names in its ``state_dict`` stay.
        rho: weight of the batch: 1 = batch alone, 0 = source alone.

    Returns:
        How many layers there were.
    """
    return exchange_batch_norms(net, lambda layer: BlendedNorm(layer, rho))


def exchange_batch_norms(net: nn.Module, make: Callable[[_BatchNorm], BlendedNorm]) -> int:
    """Put what ``make`` returns in the place of every BatchNorm layer with running statistics.

    Args:
        net: changed in place; names in its ``state_dict`` stay.
        make: the layer -> what stands for it.

    Returns:
        How many layers there were.
    """
    found = 0
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and child.running_mean is not None:
                setattr(parent, name, make(child))
                found += 1
    return found


def norm_layers(net: nn.Module) -> list[nn.Module]:
    """Return the normalisation layers of ``net`` with trainable weights, in order."""
    layers = [m for m in net.modules() if isinstance(m, NORMS)]
    return [m for m in layers if any(p.requires_grad for p in m.parameters(recurse=False))]


def train_only_norms(net: nn.Module, layers: Iterable[nn.Module] | None = None) -> list[Tensor]:
    """Freeze ``net`` but for weight and bias of its normalisation layers, and return these.

    Args:
        net: changed in place. What is frozen already stays frozen.
        layers: some of :func:`norm_layers`; None = all.

    Raises:
        ConfigError: there is no such layer.

    Source: Tent (Wang et al., 2021), section 3.2.
    """
    chosen = norm_layers(net) if layers is None else list(layers)
    own = [p for layer in chosen for p in layer.parameters(recurse=False) if p.requires_grad]
    if not own:
        raise ConfigError(
            "this method adapts weight and bias of BatchNorm, LayerNorm or GroupNorm layers, and "
            "the source model has none that is not frozen; choose a model that has some, or a "
            "lower --freeze"
        )
    net.requires_grad_(False)
    for parameter in own:
        parameter.requires_grad_(True)
    return list(own)


def choose_trained(net: nn.Module, head: nn.Module, trained: Trained) -> list[Tensor]:
    """Freeze what does not learn and return what does: norms, norms and the head, or all."""
    if trained == "all":
        return [p for p in net.parameters() if p.requires_grad]
    of_head = [p for p in head.parameters() if p.requires_grad]
    chosen = train_only_norms(net)
    if trained == "norms+head":
        chosen += [p.requires_grad_(True) for p in of_head]
    return chosen


def weigh_batch(net: nn.Module, rho: float) -> None:
    """Give the batch's statistics the weight ``rho`` in every :class:`BlendedNorm` of ``net``."""
    for layer in net.modules():
        if isinstance(layer, BlendedNorm):
            layer.rho = rho
