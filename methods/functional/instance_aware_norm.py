"""BatchNorm that heeds an image's own statistics where they leave the usual ones for sure."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dabench.errors import ConfigError
from dabench.methods.functional.blended_norm import per_channel
from dabench.methods.functional.moving_norm import MovingNorm
from dabench.methods.functional.normalisation import exchange_batch_norms


def soft_shrink(x: Tensor, limit: Tensor) -> Tensor:
    """Return x moved by ``limit`` towards 0, and 0 where |x| is at most ``limit``."""
    return F.relu(x - limit) - F.relu(-x - limit)


def instance_aware_statistics(
    x: Tensor, mean: Tensor, var: Tensor, k: float, eps: float
) -> tuple[Tensor, Tensor]:
    """Move statistics towards those of each image, as far as these leave them by k standard errors.

    mean + shrink(m_i - mean; k sqrt((var + eps) / L)) and
    relu(var + shrink(v_i - var; k (var + eps) sqrt(2 / (L - 1)))), with mean m_i and unbiased
    variance v_i of image i over its L places.

    Args:
        x: (B, C, ...) input of a layer, L >= 2 places.
        mean: (C,) usual mean.
        var: (C,) usual variance.
        k: standard errors.
        eps: added to the variance.

    Returns:
        (B, C, 1, ...) means and variances, with gradient.

    Source: NOTE (Gong et al., NeurIPS 2022), Eq. 3-5; eps and the relu: authors' code.
    """
    places = x[0, 0].numel()
    own_var, own_mean = torch.var_mean(x, dim=list(range(2, x.ndim)), correction=1, keepdim=True)
    mean, var = per_channel(mean, x), per_channel(var, x)
    error = ((var + eps) / places).sqrt()
    new_mean = mean + soft_shrink(own_mean - mean, k * error)
    error = (var + eps) * math.sqrt(2 / (places - 1))
    return new_mean, F.relu(var + soft_shrink(own_var - var, k * error))


class InstanceAwareNorm(MovingNorm):
    """A BatchNorm layer whose statistics are corrected image by image (IABN).

    Usual are the running statistics, or the batch's where it moves them (see :class:`MovingNorm`;
    the variance unbiased). Where an image has one value per channel it is plain BatchNorm.

    Args:
        layer: the source model's layer, with running statistics.
        k: standard errors; the larger, the nearer to BatchNorm.
    """

    def __init__(self, layer: _BatchNorm, k: float) -> None:
        super().__init__(layer, 0.0)
        self.k = k

    def _normalise(self, x: Tensor) -> Tensor:
        if x[0, 0].numel() == 1:
            return super()._normalise(x)
        mean, var = self.running_mean, self.running_var
        if self.momentum is not None:
            var, mean = torch.var_mean(x, dim=[0, *range(2, x.ndim)], correction=1)
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(var.detach(), self.momentum)
        mean, var = instance_aware_statistics(x, mean, var, self.k, self.eps)
        out = (x - mean) * (var + self.eps).rsqrt()
        if self.weight is not None:
            out = out * per_channel(self.weight, x)
        return out if self.bias is None else out + per_channel(self.bias, x)


def use_instance_statistics(net: nn.Module, k: float, method: str) -> None:
    """Let every BatchNorm layer inside ``net`` be an :class:`InstanceAwareNorm`.

    Args:
        net: changed in place; names in its ``state_dict`` stay.
        k: standard errors.
        method: its name, for the message.

    Raises:
        ConfigError: there are none.
    """
    if not exchange_batch_norms(net, lambda layer: InstanceAwareNorm(layer, k)):
        raise ConfigError(
            f"{method}: the source model has no BatchNorm layer, and its layers are made of these; "
            "choose a --backbone with BatchNorm, or tent, which adapts GroupNorm and LayerNorm too"
        )
