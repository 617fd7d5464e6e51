"""Normalisation by blended statistics, with its gradient in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _BlendedBatchNorm(torch.autograd.Function):
    """y = w (x - m) / s + b with m, s^2 between the batch's statistics and the source's.

    With e = x - m_batch, n values a channel, and g = dL/dy:
    t = sum g (x - m) = sum g e + (m_batch - m) sum g,  dL/dw = t / s,  dL/db = sum g,
    dL/dx = w/s (g - rho/n sum g - rho/n t/s^2 e).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        source: tuple[Tensor, Tensor],
        rho: float,
        eps: float,
    ) -> Tensor:
        axes = [0, *range(2, x.ndim)]
        batch_mean = x.mean(axes)
        centred = x - per_channel(batch_mean, x)
        mean = rho * batch_mean + (1 - rho) * source[0]
        var = rho * centred.square().mean(axes) + (1 - rho) * source[1]
        ctx.rho, ctx.axes = rho, axes
        ctx.save_for_backward(centred, weight, batch_mean - mean, (var + eps).rsqrt())
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        centred, weight, shift, inverse = ctx.saved_tensors
        total = g.sum(ctx.axes)
        along = (g * centred).sum(ctx.axes) + shift * total
        if not ctx.needs_input_grad[0]:
            return None, along * inverse, total, None, None, None
        scale = weight * inverse
        share = ctx.rho * g.shape[1] / g.numel() * scale
        out = torch.addcmul(per_channel(-share * total, g), g, per_channel(scale, g))
        out.addcmul_(centred, per_channel(-share * along * inverse.square(), g))
        return out, along * inverse, total, None, None, None


def blended_batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    source: tuple[Tensor, Tensor],
    rho: float,
    eps: float,
) -> Tensor:
    """Normalise by rho * batch + (1 - rho) * source statistics; the gradient passes both.

    The same as composing it of :func:`~normalisation.blended_statistics` and elementary
    operations, but with far fewer passes over the maps backward.

    Args:
        x: (B, C, ...) input.
        weight: (C,) factors; None = 1.
        bias: (C,) offsets; None = 0.
        source: (C,) mean and (C,) variance.
        rho: weight of the batch, in [0, 1].
        eps: added to the variance.
    """
    weight = torch.ones_like(source[0]) if weight is None else weight
    bias = torch.zeros_like(source[0]) if bias is None else bias
    out: Tensor = _BlendedBatchNorm.apply(x, weight, bias, source, rho, eps)
    return out


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """Return (C,) values in a shape that broadcasts over (B, C, ...)."""
    return values.view(1, -1, *[1] * (x.ndim - 2))
