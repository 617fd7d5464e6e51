"""The passes of a network in a lower precision (``--precision``), and nothing else of a run.

What goes through backbone and bottleneck is computed in bfloat16 or float16, as autocast chooses
layer by layer. Features come out in float32, so that classifiers, losses, statistics, banks and
weights are what they are without; source models are trained without.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dabench.contract.network import Network

#: the choices of ``--precision`` beside 32
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: float16 holds nothing below 6e-8, and gradients of an entropy over a batch come close to that:
#: inside the network they are so many times as large. A power of two changes no digit.
SCALE = 1024.0


def set_precision(network: Network, name: str | None) -> None:
    """Let a network pass images in the precision of a run; None = 32."""
    network.precision = None if name is None else PRECISIONS[name]


class _Times(torch.autograd.Function):
    """The identity, whose gradients are multiplied."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def passed(
    modules: tuple[nn.Module, ...],
    images: Tensor,
    kind: torch.dtype,
    take: Callable[[Callable[[], Any]], Tensor] = lambda run: run(),
) -> Tensor:
    """Return float32 features of normalised images, computed in a lower precision.

    Args:
        modules: what they go through, one after the other.
        images: (B, 3, H, W) float32.
        kind: ``torch.bfloat16`` or ``torch.float16``.
        take: runs a module, and returns the tensor in what it gives.
    """
    scaled = kind is torch.float16 and torch.is_grad_enabled()
    call = _unscaled if scaled else nn.Module.__call__
    found = _times(images, 1 / SCALE) if scaled else images
    with torch.autocast(images.device.type, kind):
        for module in modules:
            found = take(partial(call, module, found))
    found = found.float()
    return _times(found, SCALE) if scaled else found


def _unscaled(module: nn.Module, images: Tensor) -> Any:
    """Pass images on; what reaches the weights is scaled back where they are used.

    Not by a hook of the weights, which would also meet gradients that come from elsewhere (a pull
    towards the source's weights).
    """
    weights = {n: _times(p, 1 / SCALE) for n, p in module.named_parameters() if p.requires_grad}
    return torch.func.functional_call(module, weights, (images,))


def _times(values: Tensor, factor: float) -> Tensor:
    found: Tensor = _Times.apply(values, factor) if values.requires_grad else values
    return found
